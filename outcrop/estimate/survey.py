"""A whole dataset checked: its training and validation files one by one, and what only shows between them.

The one report behind `outcrop check`, `outcrop plan` and the API's dry run. Knows the checker; nothing of S3 or of how
a report is shown.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outcrop.datasets.check import check_file
from outcrop.datasets.faults import Fault
from outcrop.datasets.overlap import Overlap, overlap
from outcrop.datasets.report import Report, failure_message
from outcrop.records import Limits


@dataclass(frozen=True, slots=True)
class Input:
    """One file of a dataset as it was named, and where its bytes lie on this machine."""

    uri: str
    """An s3:// URI, a path as it was typed, or - for standard input."""
    path: Path
    purpose: str
    """train or validation, as in AWS's messages."""

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.uri.rstrip("/").rsplit("/", 1)[-1] or self.uri


@dataclass(frozen=True, slots=True)
class Survey:
    """The reports of all files, in the order of the inputs: the training file first."""

    inputs: tuple[Input, ...]
    reports: tuple[Report, ...]
    together: Overlap
    """What only shows between them: sums of records, and validation records that are trained on."""
    limits: Limits
    seconds: float
    """What the checking took."""

    @property
    def passed(self) -> bool:
        """Whether a job would accept all of it."""
        return not self.together.faults and all(report.passed for report in self.reports)

    @property
    def fault_count(self) -> int:
        """Of all files, and of them together."""
        return sum(report.fault_count for report in self.reports) + len(self.together.faults)

    @property
    def failure(self) -> str | None:
        """What a job's failureMessage would begin with; None where the dataset passed."""
        for given, report in zip(self.inputs, self.reports, strict=True):
            if not report.passed:
                return failure_message(report, given.uri, self.limits)
        return next((f"Input data breaks a quota: {fault.reason}" for fault in self.together.faults), None)

    def document(self) -> dict[str, Any]:
        """As JSON's types."""
        return {
            "passed": self.passed,
            "fault_count": self.fault_count,
            "files": [
                {"uri": given.uri, **report.document()} for given, report in zip(self.inputs, self.reports, strict=True)
            ],
            "together": self.together.document(),
            "seconds": round(self.seconds, 3),
        }


def survey(
    inputs: Sequence[Input],
    format: str,
    limits: Limits,
    sink: Callable[[Input, Fault], object] = lambda _given, _fault: None,
    pulse: Callable[[int], None] = lambda _: None,
) -> Survey:
    """Check every file to its last line; `sink` gets every fault, `pulse` gets bytes as check_file's does."""
    started = time.perf_counter()
    reports = [_report(given, format, limits, sink, pulse) for given in inputs]
    together = overlap(reports, limits)
    for fault in together.faults:
        sink(inputs[0], fault)
    return Survey(tuple(inputs), tuple(reports), together, limits, time.perf_counter() - started)


def _report(
    given: Input,
    format: str,
    limits: Limits,
    sink: Callable[[Input, Fault], object],
    pulse: Callable[[int], None],
) -> Report:
    return check_file(
        given.path,
        format,
        limits,
        given.purpose,
        lambda fault: sink(given, fault),
        name=given.name,
        pulse=pulse,
    )
