"""AWS's quotas over records, files and whole datasets: what they break, told as faults.

Characters are counted, six or three of them to a token as AWS does it. Knows limits and records; nothing of JSON.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.examples import Conversation, Document, Pair, Record, opening
from outcrop.datasets.faults import SNIPPET, Fault, mark, snippet
from outcrop.datasets.places import column
from outcrop.datasets.report import Report
from outcrop.datasets.texts import Figures
from outcrop.records import Limits

_PARTS: Final = {
    "prompt-completion": ("prompt", "completion", "prompt and completion"),
    "text": ("what is given", "input", "input"),
    "messages": ("system text and user messages", "assistant messages", "all messages"),
    "conversation": ("system text and user messages", "assistant messages", "all messages"),
}
"""What messages call the input, the output and both."""


def parts(record: Record) -> tuple[list[str], list[str]]:
    """The texts that are given, and those that are learnt."""
    match record:
        case Pair():
            return [record.prompt], [record.completion]
        case Document():
            return [], [record.text]
        case Conversation():
            given = [turn.text for turn in record.turns if turn.role == "user"]
            system = [] if record.system is None else [record.system]
            return system + given, [turn.text for turn in record.turns if turn.role == "assistant"]


def record_faults(record: Record, number: int, line: str, format: str, limits: Limits) -> Iterator[Fault]:
    """What one record breaks; `line` is its text, without a byte order mark."""
    given, learnt = parts(record)
    texts = (*given, *learnt)
    for word in limits.reserved:
        if any(word in text for text in texts):
            yield _reserved(word, texts, number, line)
    each = limits.characters_per_token
    inputs, outputs = sum(map(len, given)), sum(map(len, learnt))
    sizes = (
        ("input", inputs, limits.max_input_tokens),
        ("output", outputs, limits.max_output_tokens),
        ("total", inputs + outputs, limits.max_total_tokens),
    )
    for (kind, characters, limit), what in zip(sizes, _PARTS[format], strict=True):
        if limit is not None and characters > limit * each:
            reason = (
                f"{what}: {characters} characters, {limit * each} are allowed ({limit} tokens of {each} characters); "
                "shorten the record or split it"
            )
            yield Fault(number, 0, reason, opening(record)[:SNIPPET], kind, -(-characters // each))


def over(figures: Figures, limits: Limits) -> NDArray[np.bool_]:
    """Which records are longer than a quota allows: those of which record_faults has something to say."""
    found = np.zeros(len(figures.lines), bool)
    both = figures.given + figures.learnt
    for characters, limit in (
        (figures.given, limits.max_input_tokens),
        (figures.learnt, limits.max_output_tokens),
        (both, limits.max_total_tokens),
    ):
        if limit is not None:
            found |= characters > limit * limits.characters_per_token
    return found


def file_faults(size: int, records: int, purpose: str, limits: Limits) -> Iterator[Fault]:
    """What a file as a whole breaks."""
    training = purpose == "train"
    largest = limits.max_training_bytes if training else limits.max_validation_bytes
    if records == 0:
        yield _whole("the file is empty; it needs one record at least")
    if largest is not None and size > largest:
        yield _whole(f"the file has {size} bytes; at most {largest} are allowed")
    if not training:
        return
    if limits.min_records is not None and 0 < records < limits.min_records:
        yield _whole(f"the file holds {_counted(records)}; at least {limits.min_records} are needed")
    if limits.max_records is not None and records > limits.max_records:
        yield _whole(f"the file holds {_counted(records)}; at most {limits.max_records} are allowed for training")


def shortfalls(records: int, characters: int, limits: Limits) -> Iterator[str]:
    """What the guide advises for a training file and this one does not reach."""
    if not records:  # there is a fault that says so
        return
    if limits.advised_records is not None and records < limits.advised_records:
        yield f"the file holds {_counted(records)}; AWS's guide advises {limits.advised_records} or more"
    tokens = characters // limits.characters_per_token
    if limits.advised_tokens is not None and tokens < limits.advised_tokens:
        yield f"the file holds about {tokens} tokens as AWS counts them; AWS's guide advises {limits.advised_tokens}"


def sum_faults(reports: Sequence[Report], limits: Limits) -> Iterator[Fault]:
    """What the files break together: sums of validation records, and of all records."""
    validation = [report.records for report in reports if report.purpose != "train"]
    held = sum(validation)
    if validation and limits.min_validation_records is not None and held < limits.min_validation_records:
        yield _whole(f"validation files hold {_counted(held)}; at least {limits.min_validation_records} are needed")
    if limits.max_validation_records is not None and held > limits.max_validation_records:
        yield _whole(
            f"validation files hold {_counted(held)} together; at most {limits.max_validation_records} are allowed"
        )
    records = sum(report.records for report in reports)
    if limits.min_sum_records is not None and 0 < records < limits.min_sum_records:
        yield _whole(
            f"training and validation files hold {_counted(records)} together; "
            f"at least {limits.min_sum_records} are needed"
        )
    if limits.max_sum_records is not None and records > limits.max_sum_records:
        yield _whole(
            f"training and validation files hold {_counted(records)} together; "
            f"at most {limits.max_sum_records} are allowed"
        )


def _reserved(word: str, texts: Sequence[str], number: int, line: str) -> Fault:
    at = column(line, word, texts)
    reason = f"the text holds {word!r}, which this model keeps for itself: write it in another way"
    return Fault(number, at, reason, snippet(line, max(at, 1)), "reserved", mark=mark(line, at) if at else 0)


def _counted(records: int) -> str:
    return "1 record" if records == 1 else f"{records} records"


def _whole(reason: str) -> Fault:
    return Fault(0, 0, reason, "", "file")
