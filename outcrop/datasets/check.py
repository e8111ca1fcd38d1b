"""A whole dataset file read once: every fault, the counts and lengths, and pass or fail against a model's quotas.

Goes through a file by blocks: most lines are judged together (see scan), the doubtful ones one by one (see formats),
and both come to the same. In memory that does not grow with the file. Knows nothing of tokenizers, S3 or jobs.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from outcrop.datasets.examples import Record
from outcrop.datasets.faults import SNIPPET, Fault
from outcrop.datasets.formats import BOM, examine
from outcrop.datasets.lines import MAX_LINE_BYTES, Block, blocks
from outcrop.datasets.quotas import file_faults, over, record_faults, shortfalls
from outcrop.datasets.report import Report
from outcrop.datasets.scan import Marks, scan
from outcrop.datasets.tally import Tally
from outcrop.datasets.texts import Figures, Texts, figures, gather, spelled
from outcrop.records import Limits


def check_file(
    path: Path,
    format: str,
    limits: Limits,
    purpose: str,
    sink: Callable[[Fault], object] = lambda _: None,
    *,
    name: str | None = None,
    pulse: Callable[[int], None] = lambda _: None,
) -> Report:
    """Check a whole file; `sink` gets every fault, `pulse` is called now and then with about the number of
    bytes since the last time, and may raise.

    `name` is what messages call the file (default: its own name). Raises OSError where the file cannot be read.
    """
    tally = Tally(sink)
    digest = hashlib.sha256()
    size = 0
    _keep_pages()
    with path.open("rb") as file:

        def seen(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)
            digest.update(chunk)

        for block in blocks(file, seen=seen):
            pulse(len(block.data) or MAX_LINE_BYTES)
            _block(block, format, limits, tally)
    for fault in file_faults(size, tally.records, purpose, limits):
        tally.fault(fault)
    whole = tally.whole.lengths()
    advice = tuple(shortfalls(tally.records, whole.total if whole else 0, limits)) if purpose == "train" else ()
    if limits.enforce_advice:
        for reason in advice:
            tally.fault(Fault(0, 0, reason, "", "advice"))
    return Report(
        name=name or path.name,
        format=format,
        purpose=purpose,
        bytes=size,
        sha256=digest.hexdigest(),
        advice=() if limits.enforce_advice else advice,
        **tally.counted(format),
    )


def read_records(path: Path, format: str, limits: Limits) -> Iterator[tuple[int, Record]]:
    """The records that check_file accepts under the same limits, with their line numbers, in the file's order.

    Whoever needs all lines compares the count with the report's `records`: what is refused there is left out here.
    """
    with path.open("rb") as file:
        number = 0
        for block in blocks(file):
            number += not block.data
            for line in block.lines():
                number += 1
                found = examine(format, line, number)
                if isinstance(found, Fault):
                    continue
                if next(record_faults(found[0], number, "", format, limits), None) is None:
                    yield number, found[0]


def _keep_pages() -> None:
    """Let the C library keep memory that is given back: blocks come and go, and fresh pages would cost a third more.

    glibc raises its thresholds to the largest piece that was ever freed; elsewhere this does nothing.
    """
    bytearray(2**24)


def _block(block: Block, format: str, limits: Limits, tally: Tally) -> None:
    """Check the next lines: those beyond doubt together, then the others in their order."""
    first = tally.records + 1
    if not block.data:
        start = block.head.decode("utf-8", errors="replace")[:SNIPPET]
        tally.fault(Fault(first, 0, f"the line is longer than {MAX_LINE_BYTES} bytes", start, "line"))
        tally.lines(1, ())
        return
    data = block.data
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    seen = scan(data, format)
    found = figures(seen.texts)
    doubtful = over(found, limits) | _reserved(seen.texts, found, limits)
    unsure = ~seen.good
    unsure[found.lines[doubtful]] = True
    single: list[tuple[int, Record]] = []
    for line in np.flatnonzero(unsure).tolist():
        record = _single(data[seen.starts[line] : seen.ends[line]], first + line, format, limits, tally)
        if record is not None:
            single.append((line, record))
    accepted = [found.only(~doubtful) if doubtful.any() else found]
    if single:
        accepted.append(figures(gather(single)))
    tally.lines(len(seen.good), accepted)


def _single(line: bytes, number: int, format: str, limits: Limits, tally: Tally) -> Record | None:
    """The record of one line; None, and its faults counted, where it has any."""
    found = examine(format, line, number)
    if isinstance(found, Fault):
        tally.fault(found)
        return None
    record, ignored = found
    text = (line.removeprefix(BOM) if number == 1 else line).decode("utf-8")
    faults = list(record_faults(record, number, text, format, limits))
    for fault in faults:
        tally.fault(fault)
    if faults:
        return None
    tally.ignored.update(ignored)
    return record


def _reserved(texts: Texts, found: Figures, limits: Limits) -> Marks:
    """The records that may hold a reserved word."""
    lines: set[int] = set()
    for word in map(spelled, limits.reserved):
        place = texts.data.find(word)
        while place >= 0:
            text = int(np.searchsorted(texts.starts, place, side="right")) - 1
            if text >= 0 and place < texts.starts[text] + texts.lengths[text]:
                lines.add(int(texts.lines[text]))
            place = texts.data.find(word, place + 1)
    return np.isin(found.lines, np.array(sorted(lines), np.int64)) if lines else np.zeros(len(found.lines), bool)
