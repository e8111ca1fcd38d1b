"""What the demo shows: bars that live while a job runs, tables of what came out. Knows Rich and a job's events."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table

from outcrop.jobs.events import Event

PARTS: Final = {"validation": "validation", "dataProcessing": "data processing", "training": "training"}
SHOWN_SMOOTHING: Final = 0.9
"""Share of the past in the shown loss and speed: single steps jump."""
CELL: Final = 60
"""Characters of an answer in the side-by-side table's cells before it wraps."""


class JobBars:
    """Three bars, one for each part of a job, driven by its events."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {
            part: progress.add_task(name, total=None, start=False, note="waits") for part, name in PARTS.items()
        }
        self._loss: float | None = None
        self._speed: float | None = None
        self._tokens_left = 0.0
        self._validation_loss: float | None = None

    def show(self, event: Event) -> None:
        """Move the bars by one event."""
        members = event.members
        if event.kind == "part":
            self._part(members["part"], members["status"])
        elif event.kind == "plan":
            self._tokens_left = float(members["tokens"])
            self._progress.update(
                self._tasks["dataProcessing"],
                note=f"{members['examples']:,} examples · {members['tokens']:,} tokens · {members['steps']:,} steps",
            )
            self._progress.update(self._tasks["training"], total=members["steps"])
        elif event.kind == "step":
            self._step(members)
        elif event.kind == "eval":
            self._validation_loss = members["loss"]
            self._progress.update(self._tasks["training"], note=self._note())

    def _part(self, part: str, status: str) -> None:
        task = self._tasks[part]
        if status == "InProgress":
            self._progress.start_task(task)
            self._progress.update(task, note="runs")
        elif status == "Completed":
            total = self._progress.tasks[task].total or 1
            self._progress.update(task, total=total, completed=total)
            if self._progress.tasks[task].fields["note"] == "runs":
                self._progress.update(task, note="done")
        else:
            self._progress.update(task, note=status)

    def _step(self, members: Mapping[str, Any]) -> None:
        self._loss = _blend(self._loss, members["loss"])
        self._speed = _blend(self._speed, members["tokens_per_second"])
        self._tokens_left = max(0.0, self._tokens_left - members["tokens"])
        self._progress.update(self._tasks["training"], completed=members["step"] + 1, note=self._note())

    def _note(self) -> str:
        """Loss, validation loss, speed and time left, as far as they are known."""
        parts = []
        if self._loss is not None:
            parts.append(f"loss {self._loss:.3f}")
        if self._validation_loss is not None:
            parts.append(f"validation {self._validation_loss:.3f}")
        if self._speed is not None:
            parts.append(f"{self._speed:,.0f} tokens/s")
            if self._tokens_left:
                parts.append(f"{_clock(self._tokens_left / self._speed)} left")
        return " · ".join(parts)


def _blend(mean: float | None, value: float) -> float:
    return value if mean is None else SHOWN_SMOOTHING * mean + (1 - SHOWN_SMOOTHING) * value


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


@contextmanager
def bars(console: Console) -> Iterator[Progress]:
    """A live group of bars: name, bar, note."""
    with Progress(
        TextColumn("  {task.description:<16}"),
        BarColumn(bar_width=28, complete_style="blue", finished_style="green"),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
        yield progress


@contextmanager
def counted(console: Console, name: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """One bar; the yielded function moves it by a number of items and sets its note."""
    with bars(console) as progress:
        task = progress.add_task(name, total=total, note="")
        yield lambda done, note: progress.update(task, advance=done, note=note)


def heading(console: Console, number: int, name: str, text: str) -> None:
    """A step's line."""
    console.print(f"[bold]{number}  {name:<24}[/bold]{escape(text)}", highlight=False, soft_wrap=True)


def accuracy_table(base_name: str, base: float, custom: float, count: int) -> Table:
    """Base against custom, as the guide's evaluate_model counted."""
    table = Table(title=f"accuracy on {count} prompts that neither has seen (the guide's evaluate_model)")
    table.add_column("model")
    table.add_column("correct", justify="right")
    table.add_row(f"base: {base_name}", f"{base:.1%}")
    table.add_row("custom: fine-tuned", f"[bold green]{custom:.1%}[/bold green]")
    return table


def side_by_side(rows: Sequence[tuple[str, str, str, str]]) -> Table:
    """Prompt, expected, base's and custom's answers."""
    table = Table(title="the same prompts, side by side", show_lines=True)
    for name in ("prompt", "expected", "base answers", "custom answers"):
        table.add_column(name, max_width=CELL, overflow="fold", ratio=1)
    for row in rows:
        table.add_row(*(escape(cell.strip()) for cell in row))
    return table
