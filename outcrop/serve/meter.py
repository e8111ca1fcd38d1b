"""What callers got, as figures for Prometheus: invocations by outcome, seconds, tokens.

Models are named as they were invoked (a throughput's or deployment's ARN, a foundation model's long id), like the
ModelId of CloudWatch. Knows no engine, and keeps its figures in a registry of its own.
"""

import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram

from outcrop.errors import ServiceError

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 180.0)
"""Upper ends of the histograms' buckets: from a token of a small model to a long answer of a large one."""


class Meter:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.invocations = Counter(
            "outcrop_invocations",
            "Calls of a model by how they ended: ok, cancelled (the caller left before the end), or AWS's error code "
            "(ThrottlingException is a refusal).",
            ["model_id", "outcome"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "outcrop_invocation_seconds",
            "Seconds from admission to the end of an answer, waiting for the engine included.",
            ["model_id"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.first_token = Histogram(
            "outcrop_first_token_seconds",
            "Seconds from admission to the first piece of a streamed answer.",
            ["model_id"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter(
            "outcrop_tokens",
            "Tokens read from prompts (input) and made (output).",
            ["model_id", "direction"],
            registry=self.registry,
        )

    def call(self, target: str) -> "Reading":
        """Begin to measure one call."""
        return Reading(self, target, time.monotonic())


@dataclass(slots=True)
class Reading:
    """One call while it lasts."""

    meter: Meter
    target: str
    start: float
    heard: bool = False

    def first(self) -> None:
        """The first piece of its answer is here; further ones change nothing."""
        if not self.heard:
            self.heard = True
            self.meter.first_token.labels(self.target).observe(time.monotonic() - self.start)

    def end(self, fault: BaseException | None, read: int, made: int) -> None:
        """It has ended: with an error of the service, because its caller left, or well. read, made: tokens.

        A caller who left shows as what ends a task or a generator from outside, which is no Exception.
        """
        outcome = "ok"
        if isinstance(fault, ServiceError):
            outcome = fault.code
        elif isinstance(fault, Exception):
            outcome = "InternalServerException"
        elif fault is not None:
            outcome = "cancelled"
        self.meter.invocations.labels(self.target, outcome).inc()
        self.meter.tokens.labels(self.target, "input").inc(read)
        self.meter.tokens.labels(self.target, "output").inc(made)
        if outcome == "ok":
            self.meter.seconds.labels(self.target).observe(time.monotonic() - self.start)
