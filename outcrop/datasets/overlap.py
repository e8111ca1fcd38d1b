"""What only shows between the files of a dataset: validation records that are trained on, and sums of records.

A model is not tested by what it has learnt by heart: such records make a validation loss look better than it is.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from outcrop.datasets.faults import Fault
from outcrop.datasets.quotas import sum_faults
from outcrop.datasets.repeats import Repeat, shared
from outcrop.datasets.report import Report, lines_of
from outcrop.records import Limits


@dataclass(frozen=True, slots=True)
class Leak:
    """Records of a validation file that stand in the training file, too."""

    name: str
    """The validation file."""
    records: int
    """How many of its records."""
    first: tuple[Repeat, ...]
    """The first of them: the line in the validation file, and the first line like it in the training file."""

    def __str__(self) -> str:
        stand = "1 record stands" if self.records == 1 else f"{self.records} records stand"
        where = lines_of(self.first, "the training file's line")
        return f"{stand} in the training file, too, and cannot test what was learnt{where}"


@dataclass(frozen=True, slots=True)
class Overlap:
    """The files of a dataset seen together."""

    faults: tuple[Fault, ...]
    """Quotas on sums that they break."""
    leaks: tuple[Leak, ...]
    """For each validation file that has any; a leak is no fault."""

    def document(self) -> dict[str, Any]:
        """As JSON's types."""
        return {"faults": [asdict(fault) for fault in self.faults], "leaks": [asdict(leak) for leak in self.leaks]}


def overlap(reports: Sequence[Report], limits: Limits) -> Overlap:
    """Compare the reports of a dataset's files, all made in this process: the training file's is the first."""
    training, *validation = reports
    leaks = []
    for report in validation:
        records, first = shared(training.trail, report.trail)
        if records:
            leaks.append(Leak(report.name, records, first))
    return Overlap(tuple(sum_faults(reports, limits)), tuple(leaks))
