"""A dataset's report on a terminal: what it holds, how long its records are, and every fault with its place.

Knows Rich and the report; nothing of files, prices or models. Made for 80 columns and wider ones.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from outcrop.datasets.faults import Fault
from outcrop.datasets.lengths import Lengths
from outcrop.datasets.report import Report
from outcrop.estimate.survey import Input, Survey
from outcrop.terminal import harmless

SHOWN_FAULTS: Final = 10
"""Faults of a file that are shown with their text; the table counts all of them."""
PLACES: Final = 5
"""Lines named for each kind of fault."""
BAR: Final = 32
"""Characters of the histogram's longest bar."""

KINDS: Final[Mapping[str, str]] = {
    "jsonl": "no JSON",
    "shape": "not this format",
    "reserved": "reserved word",
    "input": "input too long",
    "output": "output too long",
    "total": "record too long",
    "context": "too long for the weights",
    "template": "refused by the template",
    "line": "line too long to read",
    "file": "the file as a whole",
    "advice": "less than is advised",
}
"""Kinds of faults for people."""

SIDES: Final[Mapping[str, tuple[str, str]]] = {
    "prompt-completion": ("prompt", "completion"),
    "text": ("", "input"),
    "messages": ("system and user", "assistant"),
    "conversation": ("system and user", "assistant"),
}
"""What is given and what is learnt, by format."""


def show_survey(console: Console, checked: Survey, model: str, format: str) -> None:
    """The whole report."""
    console.print(Text.assemble("checked as ", (format, "bold"), " for ", (model, "bold"), "\n"))
    for given, report in zip(checked.inputs, checked.reports, strict=True):
        _file(console, given, report, checked.limits.characters_per_token)
    _together(console, checked)
    _verdict(console, checked)


def facts(rows: Sequence[tuple[str, str | Text]]) -> Padding:
    """Names and values, one a line; long values wrap under themselves."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(harmless(value)) if isinstance(value, str) else value)
    return inset(table)


def inset(what: RenderableType) -> Padding:
    """Two characters from the left."""
    return Padding(what, (0, 0, 0, 2))


def size(count: int) -> str:
    """Bytes for people, as AWS's quotas count them: 1 MB is 1,048,576 bytes."""
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return counted(count, "byte")


def counted(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _file(console: Console, given: Input, report: Report, per_token: int) -> None:
    purpose = "training" if given.purpose == "train" else "validation"
    mark = ("no fault", "green") if report.passed else (counted(report.fault_count, "fault"), "red")
    console.print(Text.assemble((purpose, "bold"), "  ", harmless(given.uri), "  ", mark))
    characters = report.whole.total if report.whole else 0
    rows: list[tuple[str, str | Text]] = [
        ("lines", f"{report.records:,}" + ("" if report.passed else f", of which {report.accepted:,} are good")),
        ("size", f"{size(report.bytes)} ({report.bytes:,} bytes)" if report.bytes >= 1024 else size(report.bytes)),
        ("tokens", f"{-(-characters // per_token):,} as AWS counts them: {characters:,} characters / {per_token}"),
    ]
    rows += [("" if at else "note", Text(harmless(remark), style="yellow")) for at, remark in enumerate(report.remarks)]
    console.print(facts(rows))
    if report.whole is not None:
        console.print()
        console.print(inset(_lengths(report)))
        console.print()
        console.print(inset(histogram(report.whole, "characters of a record", "records")))
    if not report.passed:
        console.print()
        _faults(console, report)
    console.print()


def _lengths(report: Report) -> Table:
    """How long the records' two sides are."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("characters", no_wrap=True)
    for name in ("shortest", "median", "95 %", "longest"):
        table.add_column(name, justify="right", no_wrap=True)
    given, learnt = SIDES[report.format]
    for name, lengths in ((given, report.given), (learnt, report.learnt)):
        if lengths is not None and name:
            row = (lengths.minimum, lengths.median, lengths.percentile95, lengths.maximum)
            table.add_row(name, *(f"{value:,}" for value in row))
    return table


def histogram(lengths: Lengths, unit: str, counted_things: str) -> Table:
    """How many things are how long, as bars."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(unit, justify="right", no_wrap=True)
    table.add_column(counted_things, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    most = max((bar.count for bar in lengths.histogram), default=1)
    for bar in lengths.histogram:
        filled = round(8 * BAR * bar.count / most)
        blocks = "█" * (filled // 8) + ("", *"▏▎▍▌▋▊▉")[filled % 8]
        # What is there at all is seen: the shortest bar of a count is one thin stroke.
        span = f"{bar.low:,} to {bar.high:,}" if bar.low < bar.high else f"{bar.low:,}"
        table.add_row(span, f"{bar.count:,}", blocks or ("▏" if bar.count else ""))
    return table


def _faults(console: Console, report: Report) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("fault", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first places", overflow="fold")
    for kind, count in sorted(report.kinds.items(), key=lambda entry: -entry[1]):
        lines = [f"{fault.line:,}" for fault in report.faults if fault.kind == kind and fault.line][:PLACES]
        more = ", …" if lines and count > len(lines) else ""
        what = "line" if count == 1 else "lines"
        table.add_row(KINDS.get(kind, kind), f"{count:,}", f"{what} {', '.join(lines)}{more}" if lines else "")
    console.print(inset(table))
    for fault in report.faults[:SHOWN_FAULTS]:
        console.print()
        console.print(inset(_fault(fault, console.width - 6)))
    left = report.fault_count - min(len(report.faults), SHOWN_FAULTS)
    if left:
        console.print(f"\n  … and {counted(left, 'more fault')}; --faults FILE writes all of them, one a line")


def _fault(fault: Fault, width: int) -> Text:
    """One fault: its place, the reason, and the text around it with the column marked."""
    place = f"line {fault.line:,}" if fault.line else "the file as a whole"
    if fault.column:
        place += f", column {fault.column:,}"
    text = Text.assemble((place, "bold"), "  ", harmless(fault.reason))
    if fault.snippet:
        shown, mark = cropped(fault.snippet, fault.mark, width)
        text.append("\n  " + shown, style="dim")
        if mark:
            text.append("\n  " + " " * (mark - 1) + "^", style="bold red")
    return text


def cropped(snippet: str, mark: int, width: int) -> tuple[str, int]:
    """A snippet in at most `width` columns around its marked character (from 1; 0: none), on one line.

    Wide characters count as two columns; the mark that comes back is in columns.
    """
    shown = _visible(snippet)
    cells = [cell_len(each) for each in shown]
    start, end = 0, len(shown)
    # From the left while the mark stays a third of the way in; then from the right.
    while sum(cells[start:end]) > width and sum(cells[start : mark - 1]) > width // 3:
        start += 1
    while sum(cells[start:end]) > width:
        end -= 1
    return shown[start:end], 1 + sum(cells[start : mark - 1]) if start < mark <= end + 1 else 0


def _visible(text: str) -> str:
    """Every character as something of at least one column: tabs, controls and marks without width become a dot."""
    return "".join(each if cell_len(each) and each.isprintable() else "·" for each in text)


def _together(console: Console, checked: Survey) -> None:
    if not (checked.together.faults or checked.together.leaks):
        return
    console.print("[bold]the files together[/bold]")
    for fault in checked.together.faults:
        console.print(inset(Text(harmless(fault.reason), style="red")))
    for leak in checked.together.leaks:
        console.print(inset(Text(harmless(f"{leak.name}: {leak}"), style="yellow")))
    console.print()


def _verdict(console: Console, checked: Survey) -> None:
    if checked.passed:
        console.print("[bold green]passed[/bold green]  a job would take this dataset")
        return
    console.print(Text.assemble(("failed", "bold red"), f"  {counted(checked.fault_count, 'fault')}. A job would say:"))
    console.print(inset(Text(harmless(checked.failure or ""), style="red")))
