"""What is counted while a file streams by: faults, lengths, and the numbers of its records, never the records."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.blanks import SHOWN, Blank, part
from outcrop.datasets.faults import Fault
from outcrop.datasets.lengths import Counts
from outcrop.datasets.repeats import Trail, distinct, first_repeats
from outcrop.datasets.report import KEPT_FAULTS
from outcrop.datasets.texts import Figures


class Tally:
    """Counts of one file."""

    def __init__(self, sink: Callable[[Fault], object]) -> None:
        self._sink = sink
        self.records = self.accepted = self.fault_count = 0
        self.faults: list[Fault] = []
        self.kinds: Counter[str] = Counter()
        self.largest: dict[str, int] = {}
        self.ignored: Counter[str] = Counter()
        self.given, self.learnt, self.whole = Counts(), Counts(), Counts()
        self.wholes, self.questions = Trail(), Trail()
        self.blank_records = 0
        self.blanks: list[tuple[int, int]] = []

    def fault(self, fault: Fault) -> None:
        """Count a fault and hand it on."""
        self.fault_count += 1
        self.kinds[fault.kind] += 1
        if len(self.faults) < KEPT_FAULTS:
            self.faults.append(fault)
        if fault.measure:
            self.largest[fault.kind] = max(fault.measure, self.largest.get(fault.kind, 0))
        self._sink(fault)

    def lines(self, count: int, accepted: Sequence[Figures]) -> None:
        """Count the next lines of the file, and of them the records that are good."""
        wholes, questions = np.zeros(count, np.uint64), np.zeros(count, np.uint64)
        for figures in accepted:
            self.accepted += len(figures.lines)
            self.given.add(figures.given)
            self.learnt.add(figures.learnt)
            self.whole.add(figures.given + figures.learnt)
            wholes[figures.lines] = figures.wholes
            questions[figures.lines] = figures.questions
        self._blank(np.concatenate([figures.blanks for figures in accepted]) if accepted else None)
        self.records += count
        self.wholes.add(wholes)
        self.questions.add(questions)

    def _blank(self, found: NDArray[np.int64] | None) -> None:
        """Count texts of nothing but white space, by line and slot, and keep the file's first."""
        if found is None or not len(found):
            return
        self.blank_records += len(np.unique(found[:, 0]))
        lines = sorted((self.records + 1 + line, slot) for line, slot in found.tolist())
        self.blanks += lines[: SHOWN - len(self.blanks)]

    def counted(self, format: str) -> dict[str, Any]:
        """The members of a Report that were counted here."""
        unlike = distinct(self.wholes)
        duplicates = self.accepted - unlike
        return {
            "records": self.records,
            "accepted": self.accepted,
            "fault_count": self.fault_count,
            "faults": tuple(self.faults),
            "kinds": dict(self.kinds),
            "given": self.given.lengths(),
            "learnt": self.learnt.lengths(),
            "whole": self.whole.lengths(),
            "duplicates": duplicates,
            "contradictions": unlike - distinct(self.questions) if format != "text" else 0,
            "blank": self.blank_records,
            "blanks": tuple(Blank(line, part(format, slot)) for line, slot in self.blanks),
            "repeated": first_repeats(self.wholes) if duplicates else (),
            "ignored": dict(self.ignored),
            "largest": self.largest,
            "trail": self.wholes,
        }
