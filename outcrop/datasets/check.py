"""A whole dataset file read once: every fault, the counts and lengths, and pass or fail against a model's quotas.

Streams, so a file may be larger than memory. Knows the formats and AWS's texts; nothing of tokenizers, S3 or jobs.
"""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from outcrop.datasets.examples import Conversation, Document, Pair, Record, opening
from outcrop.datasets.formats import SNIPPET, Fault, form, parse
from outcrop.records import Limits

MAX_LINE_BYTES: Final = 16 * 2**20
"""A longer line is refused unread: ten times what the largest quota allows, and the bound on memory."""

KEPT_FAULTS: Final = 100
"""Faults that a report holds; all of them go to the caller as they are found."""

PULSE_LINES: Final = 2000


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long one member of the records is, in characters."""

    total: int
    minimum: int
    median: int
    percentile95: int
    maximum: int


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
    prompt: Lengths | None
    completion: Lengths | None
    """None where no record was accepted."""
    duplicates: int
    """Records that repeat an earlier one exactly: no fault, but worth a look."""
    contradictions: int
    """Prompts that stand with more than one completion: no fault either."""
    largest: Mapping[str, int] = field(default_factory=dict)
    """Kind of quota to the largest token count that broke it."""

    @property
    def passed(self) -> bool:
        """True if nothing at all is wrong with the file."""
        return self.fault_count == 0

    def document(self) -> dict[str, Any]:
        """The report as JSON's types."""
        return asdict(self) | {"passed": self.passed}


def halves(record: Record) -> tuple[str, str]:
    """What is given and what is learnt."""
    match record:
        case Pair():
            return record.prompt, record.completion
        case Document():
            return "", record.text
        case Conversation():
            given = [record.system or "", *(turn.text for turn in record.turns if turn.role == "user")]
            return "".join(given), "".join(turn.text for turn in record.turns if turn.role == "assistant")


class Tally:
    """Counts while the file streams by: eight bytes for each record and number, never the records."""

    def __init__(self, sink: Callable[[Fault], object]) -> None:
        self._sink = sink
        self.records = self.accepted = self.fault_count = 0
        self.faults: list[Fault] = []
        self.largest: dict[str, int] = {}
        self.prompts, self.completions = array("Q"), array("Q")
        self.whole, self.questions = array("Q"), array("Q")

    def fault(self, fault: Fault) -> None:
        """Count a fault and hand it on."""
        self.fault_count += 1
        if len(self.faults) < KEPT_FAULTS:
            self.faults.append(fault)
        if fault.measure:
            self.largest[fault.kind] = max(fault.measure, self.largest.get(fault.kind, 0))
        self._sink(fault)

    def accept(self, record: Record) -> None:
        """Count a record that is good."""
        self.accepted += 1
        given, answer = halves(record)
        self.prompts.append(len(given))
        self.completions.append(len(answer))
        question = given.encode("utf-8")
        self.questions.append(_hash(question))
        self.whole.append(_hash(question + b"\0" + answer.encode("utf-8")))

    def repeats(self) -> tuple[int, int]:
        """Duplicates and contradictions (see Report)."""
        if not self.accepted:
            return 0, 0
        whole, first = np.unique(np.frombuffer(self.whole, dtype=np.uint64), return_index=True)
        questions = np.frombuffer(self.questions, dtype=np.uint64)[first]
        return self.accepted - len(whole), len(questions) - len(np.unique(questions))


def check_pairs(
    path: Path,
    limits: Limits,
    purpose: str,
    sink: Callable[[Fault], object] = lambda _: None,
    *,
    name: str | None = None,
    pulse: Callable[[], None] = lambda: None,
) -> Report:
    """check_file of a prompt/completion file."""
    return check_file(path, "prompt-completion", limits, purpose, sink, name=name, pulse=pulse)


def check_file(
    path: Path,
    format: str,
    limits: Limits,
    purpose: str,
    sink: Callable[[Fault], object] = lambda _: None,
    *,
    name: str | None = None,
    pulse: Callable[[], None] = lambda: None,
) -> Report:
    """Check a whole file; `sink` gets every fault, `pulse` is called now and then and may raise.

    `name` is what messages call the file (default: its own name). Raises OSError where the file cannot be read.
    """
    tally = Tally(sink)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for number, line in enumerate(raw_lines(file, digest.update), start=1):
            tally.records = number
            if number % PULSE_LINES == 0:
                pulse()
            _check_line(line, number, format, limits, tally)
        size = file.tell()
    _check_file(size, tally, limits, purpose)
    duplicates, contradictions = tally.repeats()
    return Report(
        name=name or path.name,
        format=format,
        purpose=purpose,
        bytes=size,
        sha256=digest.hexdigest(),
        records=tally.records,
        accepted=tally.accepted,
        fault_count=tally.fault_count,
        faults=tuple(tally.faults),
        prompt=_lengths(tally.prompts),
        completion=_lengths(tally.completions),
        duplicates=duplicates,
        contradictions=contradictions,
        largest=tally.largest,
    )


def read_pairs(path: Path, limits: Limits) -> Iterator[tuple[int, Pair]]:
    """read_records of a prompt/completion file."""
    for number, record in read_records(path, "prompt-completion", limits):
        assert isinstance(record, Pair)
        yield number, record


def read_records(path: Path, format: str, limits: Limits) -> Iterator[tuple[int, Record]]:
    """The records that check_file accepts under the same limits, with their line numbers, in the file's order.

    Whoever needs all lines compares the count with the report's `records`: what is refused there is left out here.
    """
    with path.open("rb") as file:
        for number, line in enumerate(raw_lines(file), start=1):
            record = parse(format, line.removesuffix(b"\n"), number)
            if not isinstance(record, Fault) and next(_quota_faults(record, number, limits), None) is None:
                yield number, record


def raw_lines(file: BinaryIO, seen: Callable[[bytes], object] = lambda _: None) -> Iterator[bytes]:
    """Lines with their line feeds; of one longer than MAX_LINE_BYTES only a piece that is itself over the limit.

    The rest of such a line is read past, so line numbers stay true. `seen` gets every byte of the file.
    """
    while line := file.readline(MAX_LINE_BYTES + 1):
        seen(line)
        yield line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE_BYTES + 1)
            seen(line)


def failure_message(report: Report, uri: str, limits: Limits) -> str:
    """Why a job fails on this file: AWS's text for the first fault (facts 5.4), its place and how many there are.

    `uri` is the file's s3:// address; AWS's text calls it by its key.
    """
    first = report.faults[0]
    text = aws_text(first, report, uri, limits)
    place = f"line {first.line}" if first.line else "the file as a whole"
    if first.column:
        place += f", column {first.column}"
    return f"{text} ({place}: {first.reason}; faults in this file: {report.fault_count})"


def aws_text(fault: Fault, report: Report, uri: str, limits: Limits) -> str:
    """AWS's own sentence for a fault of this kind."""
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
        case _:
            return f"Input data {report.name} breaks a quota: {fault.reason}"


def sum_fault(reports: Sequence[Report], limits: Limits) -> Fault | None:
    """The quota on training and validation records together, if they break it."""
    records = sum(report.records for report in reports)
    if limits.max_records is None or records <= limits.max_records:
        return None
    reason = f"training and validation files hold {records} records together; at most {limits.max_records} are allowed"
    return Fault(0, 0, reason, "", "file")


def _check_line(line: bytes, number: int, format: str, limits: Limits, tally: Tally) -> None:
    if len(line) > MAX_LINE_BYTES:
        start = line[: SNIPPET * 4].decode("utf-8", errors="replace")[:SNIPPET]
        tally.fault(Fault(number, 0, f"the line is longer than {MAX_LINE_BYTES} bytes", start, "line"))
        return
    record = parse(format, line.removesuffix(b"\n"), number)
    if isinstance(record, Fault):
        tally.fault(record)
        return
    faults = list(_quota_faults(record, number, limits))
    for fault in faults:
        tally.fault(fault)
    if not faults:
        tally.accept(record)


def _quota_faults(record: Record, number: int, limits: Limits) -> Iterator[Fault]:
    """AWS's lengths: characters divided by the characters that it takes for a token."""
    each = limits.characters_per_token
    given, answer = (len(part) for part in halves(record))
    sizes = (
        ("input", "prompt", given, limits.max_input_tokens),
        ("output", "completion", answer, limits.max_output_tokens),
        ("total", "prompt and completion", given + answer, limits.max_total_tokens),
    )
    for kind, what, characters, limit in sizes:
        if limit is not None and characters > limit * each:
            tokens = -(-characters // each)
            reason = (
                f"{what}: {characters} characters, {limit * each} are allowed ({limit} tokens of {each} characters)"
            )
            yield Fault(number, 0, reason, opening(record)[:SNIPPET], kind, tokens)


def _check_file(size: int, tally: Tally, limits: Limits, purpose: str) -> None:
    training = purpose == "train"
    largest = limits.max_training_bytes if training else limits.max_validation_bytes
    if tally.records == 0:
        tally.fault(Fault(0, 0, "the file is empty", "", "file"))
    if largest is not None and size > largest:
        tally.fault(Fault(0, 0, f"the file has {size} bytes; at most {largest} are allowed", "", "file"))
    if training and limits.min_records is not None and 0 < tally.records < limits.min_records:
        reason = f"the file holds {tally.records} records; at least {limits.min_records} are needed"
        tally.fault(Fault(0, 0, reason, "", "file"))


def _lengths(numbers: "array[int]") -> Lengths | None:
    if not numbers:
        return None
    values = np.frombuffer(numbers, dtype=np.uint64)
    median, high = np.percentile(values, [50, 95], method="nearest")
    return Lengths(int(values.sum()), int(values.min()), int(median), int(high), int(values.max()))


def _hash(text: bytes) -> int:
    # 64 bits: among ten million records one false pair in about four hundred thousand files, for a count to look at.
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
