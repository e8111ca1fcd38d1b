"""A dataset's report on a terminal: what it holds, how long its records are, and every fault with its place.

Knows Rich and the report; nothing of files, prices or models. Made for 80 columns and wider ones.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from outcrop.datasets.check import Lengths, Report
from outcrop.datasets.formats import Fault
from outcrop.estimate.survey import Input, Survey

SHOWN_FAULTS = 10
"""Faults of a file that are shown with their text; the table counts all of them."""
PLACES = 5
"""Lines named for each kind of fault."""
BAR = 28

KINDS: Mapping[str, str] = {
    "jsonl": "no JSON",
    "shape": "not this format",
    "input": "input too long",
    "output": "output too long",
    "total": "record too long",
    "context": "too long for the weights",
    "line": "line too long to read",
    "file": "the file as a whole",
}
"""Kinds of faults for people."""


def show_survey(console: Console, checked: Survey, model: str, format: str) -> None:
    """The whole report."""
    console.print(f"checked as [bold]{escape(format)}[/bold] for [bold]{escape(model)}[/bold]\n", highlight=False)
    for given, report in zip(checked.inputs, checked.reports, strict=True):
        _file(console, given, report, checked.limits.characters_per_token)
    if checked.together is not None:
        console.print(Text.assemble(("together  ", "bold"), checked.together.reason))
        console.print()
    _verdict(console, checked)


def facts(rows: Sequence[tuple[str, str | Text]]) -> Padding:
    """Names and values, one a line; long values wrap under themselves."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return Padding(table, (0, 0, 0, 2))


def size(count: int) -> str:
    """Bytes for people, as AWS counts them: 1 MB is 1,048,576 bytes in its quotas."""
    for unit, scale in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def _file(console: Console, given: Input, report: Report, per_token: int) -> None:
    purpose = "training" if given.purpose == "train" else "validation"
    mark = "[green]no fault[/green]" if report.passed else f"[red]{_count(report.fault_count, 'fault')}[/red]"
    console.print(f"[bold]{purpose}[/bold]  {escape(given.uri)}  {mark}", highlight=False)
    characters = sum(lengths.total for lengths in (report.prompt, report.completion) if lengths)
    rows: list[tuple[str, str | Text]] = [
        ("lines", f"{report.records:,}, of which {report.accepted:,} are good"),
        ("size", f"{size(report.bytes)} ({report.bytes:,} bytes)"),
        ("tokens", f"{-(-characters // per_token):,} as AWS counts them: {characters:,} characters / {per_token}"),
    ]
    if report.duplicates:
        rows.append(("duplicates", f"{_count(report.duplicates, 'record')} repeat an earlier one exactly"))
    if report.contradictions:
        rows.append(("contradictions", f"{_count(report.contradictions, 'prompt')} with more than one completion"))
    console.print(facts(rows))
    if report.completion is not None:
        console.print()
        console.print(Padding(_lengths(report), (0, 0, 0, 2)))
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
    names = SIDES.get(report.format, ("given", "learnt"))
    for name, lengths in zip(names, (report.prompt, report.completion), strict=True):
        if lengths is not None and lengths.maximum:
            table.add_row(name, *(f"{value:,}" for value in _quantiles(lengths)))
    return table


SIDES: Mapping[str, tuple[str, str]] = {
    "prompt-completion": ("prompt", "completion"),
    "text": ("", "input"),
    "messages": ("before the answers", "answers"),
    "conversation": ("before the answers", "answers"),
}


def _quantiles(lengths: Lengths) -> tuple[int, int, int, int]:
    return lengths.minimum, lengths.median, lengths.percentile95, lengths.maximum


def _faults(console: Console, report: Report) -> None:
    kinds = Counter(fault.kind for fault in report.faults)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("fault", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("first places", overflow="fold")
    for kind, count in kinds.most_common():
        lines = [str(fault.line) for fault in report.faults if fault.kind == kind and fault.line][:PLACES]
        more = " …" if count > len(lines) and lines else ""
        table.add_row(KINDS.get(kind, kind), f"{count:,}", f"line {', '.join(lines)}{more}" if lines else "–")
    console.print(Padding(table, (0, 0, 0, 2)))
    console.print()
    for fault in report.faults[:SHOWN_FAULTS]:
        console.print(Padding(_fault(fault), (0, 0, 0, 2)))
    left = report.fault_count - min(len(report.faults), SHOWN_FAULTS)
    if left:
        console.print(f"  … and {_count(left, 'more fault')}: --faults FILE writes them all", highlight=False)


def _fault(fault: Fault) -> Text:
    """One fault: its place, the reason, and the text around it."""
    place = f"line {fault.line:,}" if fault.line else "the file as a whole"
    if fault.column:
        place += f", column {fault.column:,}"
    text = Text.assemble((place, "bold"), "  ", fault.reason)
    if fault.snippet:
        text.append("\n  " + fault.snippet.replace("\t", " "), style="dim")
    return text


def _verdict(console: Console, checked: Survey) -> None:
    if checked.passed:
        console.print("[bold green]passed[/bold green]  a job would take this dataset", highlight=False)
        return
    console.print(Text.assemble(("failed", "bold red"), f"  {_count(checked.fault_count, 'fault')}. A job would say:"))
    console.print(Padding(Text(checked.failure or "", style="red"), (0, 0, 0, 2)))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
