"""What is known of one file of a dataset once it was checked, as a value, and AWS's words for why a job fails on it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from outcrop.datasets.blanks import Blank
from outcrop.datasets.faults import Fault
from outcrop.datasets.formats import form
from outcrop.datasets.lengths import Lengths
from outcrop.datasets.repeats import Repeat, Trail
from outcrop.records import Limits

KEPT_FAULTS: Final = 100
"""Faults that a report holds; all of them go to the caller as they are found."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one file holds and all that is wrong with it."""

    name: str
    """The file's name without folders."""
    format: str
    purpose: str
    """train or validation, as in AWS's messages."""
    bytes: int
    sha256: str
    records: int
    """Lines, accepted or not."""
    accepted: int
    fault_count: int
    faults: tuple[Fault, ...]
    """The first KEPT_FAULTS of them, in the file's order; those of the file as a whole come last."""
    kinds: Mapping[str, int]
    """Kind of fault to how many there are."""
    given: Lengths | None
    """Characters of what is given: prompt, or system text and user turns. None where no record was accepted."""
    learnt: Lengths | None
    """Characters of what is learnt: completion, assistant turns, or the text of pre-training."""
    whole: Lengths | None
    """Characters of both together."""
    duplicates: int
    """Records that repeat an earlier one exactly: no fault, but worth a look."""
    contradictions: int
    """Records that repeat an earlier one but for their last answer: no fault either."""
    blank: int = 0
    """Records with a text of nothing but white space: no fault, as AWS names none."""
    blanks: tuple[Blank, ...] = ()
    """The first such texts with their lines."""
    repeated: tuple[Repeat, ...] = ()
    """The first duplicates with their lines."""
    ignored: Mapping[str, int] = field(default_factory=dict)
    """Members that the format does not know and allows, with the records that have them: they are not learnt."""
    advice: tuple[str, ...] = ()
    """What the guide advises and this file does not follow, where that is no fault."""
    largest: Mapping[str, int] = field(default_factory=dict)
    """Kind of quota to the largest token count that broke it."""
    tokens: Lengths | None = None
    """Of the examples in the model's own tokens; None until they were made."""
    trail: Trail = field(default_factory=Trail, repr=False, compare=False)
    """The numbers of the records, for comparing files."""

    @property
    def passed(self) -> bool:
        """True if nothing at all is wrong with the file."""
        return self.fault_count == 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is odd about the file and yet no fault, in sentences without the file's name."""
        told = []
        if self.duplicates:
            told.append(f"{_records(self.duplicates, 'repeat')} an earlier one exactly{lines_of(self.repeated)}")
        if self.contradictions:
            told.append(f"{_records(self.contradictions, 'repeat')} an earlier one with another answer")
        if self.blank:
            told.append(f"{_records(self.blank, 'hold')} a text of nothing but white space{_places(self.blanks)}")
        told += [
            f"{_records(count, 'hold')} a member {name}, which is not learnt" for name, count in self.ignored.items()
        ]
        return (*told, *self.advice)

    def document(self) -> dict[str, Any]:
        """The report as JSON's types."""
        members = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "trail"}
        found = {name: _plain(value) for name, value in members.items()}
        return found | {"passed": self.passed, "remarks": list(self.remarks)}


def lines_of(repeats: Sequence[Repeat], where: str = "line") -> str:
    """The first lines of repeats in brackets, for people; `where` is what the earlier line is called."""
    shown = ", ".join(f"line {repeat.line} is {where} {repeat.of}" for repeat in repeats[:3])
    return f" ({shown}{', …' if len(repeats) > 3 else ''})" if shown else ""


def _places(blanks: Sequence[Blank]) -> str:
    shown = ", ".join(f"line {blank.line}: {blank.part}" for blank in blanks[:3])
    return f" ({shown}{', …' if len(blanks) > 3 else ''})"


def _records(count: int, verb: str) -> str:
    return f"1 record {verb}s" if count == 1 else f"{count} records {verb}"


def _plain(value: Any) -> Any:
    if isinstance(value, Blank | Fault | Lengths | Repeat):
        return asdict(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value


def failure_message(report: Report, uri: str, limits: Limits) -> str:
    """Why a job fails on this file: AWS's text for the first fault (facts 5.4), its place and how many there are.

    `uri` is the file's s3:// address; AWS's text calls it by its key.
    """
    first = report.faults[0]
    text = aws_text(first, report, uri, limits)
    if not first.line:
        # Of the file as a whole, and AWS's texts know no such fault: ours has said it all.
        return text if report.fault_count == 1 else f"{text} (faults in this file: {report.fault_count})"
    place = f"line {first.line}" + (f", column {first.column}" if first.column else "")
    return f"{text} ({place}: {first.reason}; faults in this file: {report.fault_count})"


def aws_text(fault: Fault, report: Report, uri: str, limits: Limits) -> str:
    """AWS's own sentence for a fault of this kind; for kinds of which none is known, ours."""
    largest = report.largest.get(fault.kind, fault.measure)
    match fault.kind:
        case "jsonl":
            return f"Unable to parse Amazon S3 file: {report.name}. Data files must conform to JSONL format."
        case "shape":
            key = uri.removeprefix("s3://").partition("/")[2] or uri
            return f"Input data at {key} must follow '{form(report.format)}' format"
        case "input":
            limit = limits.max_input_tokens
            return f"Maximum input token count {largest} exceeds limit of {limit} for {report.purpose} data"
        case "output":
            limit = limits.max_output_tokens
            return f"Maximum output token count {largest} exceeds limit of {limit} for {report.purpose} data"
        case "total":
            limit = limits.max_total_tokens
            return (
                f"Max sum of input and output token length {largest} exceeds total limit of {limit} "
                f"for {report.purpose} data"
            )
        case "context" | "line":
            return f"Input size exceeded in file {report.name} for record starting with {fault.snippet}"
        case "template":
            return f"Input data {report.name} cannot be written as the model reads it: {fault.reason}"
        case "reserved":
            return f"Input data {report.name} holds a reserved word: {fault.reason}"
        case _:
            return f"Input data {report.name} breaks a quota: {fault.reason}"
