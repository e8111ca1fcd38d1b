"""The live screen of a job: bars for its three parts, the loss as it falls, speed, time left, warnings.

Draws a Story in whatever size the terminal has. Knows Rich; nothing of stores, files or processes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from outcrop.watch import words
from outcrop.watch.spark import MARK, spark
from outcrop.watch.story import TITLES, Part, Story

REFRESHES: Final = 4
"""A second."""
BAR: Final = (10, 28)
"""Columns of a bar, at least and at most."""
NOTE: Final = 48
"""Columns that a part's note should have before its bar grows."""
TALLEST: Final = 8
"""Rows of the loss curve, at most."""
REMARKS: Final = 6
"""Rows of warnings, at most: what does not fit is counted, and told in full by `--plain`."""
COLOURS: Final = {"Completed": "green", "Failed": "red", "Stopped": "yellow", "Stopping": "yellow"}


@dataclass(slots=True)
class Screen:
    """What is drawn; `heading` and `status` are set by whoever knows the job beyond its events."""

    story: Story
    heading: tuple[str, ...] = ()
    """Lines above everything."""
    status: str = ""
    footing: tuple[str, ...] = ()
    """Lines below everything."""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        above, below = self._above(width), [*self._measures(width), *self._warnings(width)]
        for text in above:
            yield text
        yield self._bars(width)
        free = console.size.height - len(above) - len(TITLES) - len(below) - len(self.footing) - 3
        if len(self.story.losses) > 1:
            yield Text()
            yield from self._curve(width, max(1, min(TALLEST, free)))
            yield Text()
        for text in below:
            yield text
        for footer in self.footing:
            yield Text(footer, overflow="fold")

    def _above(self, width: int) -> list[Text]:
        lines = [_cut(Text(line, "dim" if index else "bold"), width) for index, line in enumerate(self.heading)]
        if lines and self.status:
            lines[0].append(f"  {self.status}", COLOURS.get(self.status, "blue"))
        return lines

    def _bars(self, width: int) -> Table:
        titles = max(map(len, TITLES.values()))
        bar = min(max(width - titles - NOTE - 2, BAR[0]), BAR[1])
        table = Table.grid(padding=(0, 1))
        table.add_column(no_wrap=True, width=titles, min_width=titles)
        table.add_column(width=bar, min_width=bar)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, title in TITLES.items():
            part = self.story.parts[name]
            table.add_row(title, _bar(part, *self._done(name, part)), self._note(name, part))
        return table

    def _done(self, name: str, part: Part) -> tuple[float, float | None]:
        """How much of a part is done, of how much; None: nobody knows."""
        if part.status == "Completed":
            return 1.0, 1.0
        if name == "training" and self.story.plan:
            step = self.story.step
            return (int(step.members["step"]) + 1 if step else 0), int(self.story.plan["steps"])
        if part.status == "InProgress" and self.story.progress.get("part") == name:
            return self.story.progress["done"], self.story.progress["total"]
        return 0.0, None if part.status == "InProgress" else 1.0

    def _note(self, name: str, part: Part) -> str:
        story = self.story
        if part.status == "NotStarted":
            return "waits"
        if part.status == "InProgress" and story.progress.get("part") == name:
            return words.progress(story.progress)
        if name == "dataProcessing" and story.plan:
            return words.plan(story.plan)
        if name == "training" and story.step is not None and story.plan:
            step, epoch = int(story.step.members["step"]) + 1, int(story.step.members["epoch"]) + 1
            told = f"step {step:,} of {story.plan['steps']:,} · epoch {epoch} of {story.plan['epochs']}"
        else:
            told = {"InProgress": "runs", "Completed": "done"}.get(part.status, part.status)
        return told + (f" · {words.clock(part.seconds)}" if part.seconds is not None else "")

    def _curve(self, width: int, height: int) -> list[Text]:
        marks = {step: next(iter(losses.values())) for step, losses in self.story.validation.items()}
        lines = []
        for row in spark(self.story.losses, marks, width, height):
            line = Text(row, "blue", no_wrap=True, overflow="crop")
            line.highlight_regex(MARK, "bold dark_orange")
            lines.append(line)
        return lines

    def _measures(self, width: int) -> list[Text]:
        """The latest numbers, as far as they are known."""
        story, lines = self.story, []
        if story.step is not None:
            members = story.step.members
            lines.append(f"loss {story.losses[int(members['step'])]:.4f} smoothed · {members['loss']:.4f} in this step")
        if story.validation:
            step, losses = max(story.validation.items())
            lines.append(f"{MARK} validation loss {words.validation(losses)} after step {step + 1:,}")
        if story.step is not None:
            members = story.step.members
            rate, norm = members["learning_rate"], members["gradient_norm"]
            lines.append(f"learning rate {rate:.3g} · gradient norm {norm:.3g}")
            over = story.ending is not None or story.parts["training"].status != "InProgress"
            left = "" if over else words.left(story.step, self.now())
            saved = f"checkpoint after step {story.checkpoint.members['step']:,}" if story.checkpoint else ""
            lines.append(words.rate(members))
            lines.append(" · ".join(filter(None, (left, saved))))
        if story.ending is not None and story.ending.kind == "done":
            lines = [words.losses(story.ending.members), words.trained(story.ending.members)]
        return [_cut(Text(line), width) for line in lines if line]

    def _warnings(self, width: int) -> list[Text]:
        """The latest warnings in full, as many as there is room for; the others are counted."""
        shown: list[Text] = []
        rows = 0
        for remark in reversed(self.story.warnings):
            text = Text(f"! {remark.message}", "yellow", overflow="fold")
            rows += -(-text.cell_len // max(1, width))
            if rows > REMARKS and shown:
                earlier = len(self.story.warnings) - len(shown)
                shown.append(Text(f"! and {earlier} earlier warnings: --plain shows them", "yellow"))
                break
            shown.append(text)
        return [line for text in reversed(shown) for line in _wrapped(text, width)]


@contextmanager
def live(console: Console, screen: Screen) -> Iterator[None]:
    """Keep the screen drawn; its last state stays on the terminal."""
    with Live(screen, console=console, refresh_per_second=REFRESHES, vertical_overflow="crop"):
        yield


def _bar(part: Part, done: float, total: float | None) -> ProgressBar:
    return ProgressBar(
        total=total,
        completed=done,
        pulse=total is None,
        complete_style=COLOURS.get(part.status, "blue"),
        finished_style=COLOURS.get(part.status, "blue"),
        pulse_style="blue",
    )


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def _wrapped(text: Text, width: int) -> Iterator[Text]:
    yield from text.wrap(Console(width=width), width)
