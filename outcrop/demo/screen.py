"""What the demo shows beside its job: headings, a bar while answers are counted, tables of what came out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

CELL: Final = 60
"""Characters of an answer in the side-by-side table's cells before it wraps."""


@contextmanager
def counted(console: Console, name: str, total: int) -> Iterator[Callable[[int, str], None]]:
    """One bar; the yielded function moves it by a number of items and sets its note."""
    with Progress(
        TextColumn("  {task.description:<16}"),
        BarColumn(bar_width=28, complete_style="blue", finished_style="green"),
        TextColumn("{task.fields[note]}"),
        console=console,
    ) as progress:
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
