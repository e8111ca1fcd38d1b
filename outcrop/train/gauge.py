"""What an event tells beside the loop's own numbers: smoothed loss, examples, utilisation, time left, and warnings.

Stands between the loop and the diary. Follows the curve over all lives of a run; knows the plan and no torch.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, Protocol

from outcrop.datasets.plan import Plan
from outcrop.train.curve import Curve
from outcrop.train.signs import Terms, Watchman

RECENT: Final = 60
"""Steps whose speed tells the time left."""
BLOCK: Final = 6
"""Steps of which one speed is taken: short and long examples even out."""
FEWEST: Final = 3
"""Steps before a time is told: the first ones warm up."""
MARGIN: Final = 0.1
"""The least that the range of the time left allows on either side."""
SCORING: Final = (1 / 3, 1.0)
"""Share of a training token's time that scoring one takes, before the first evaluation was timed."""


class Work(Protocol):
    """What counts a step's floating point operations (flops.Work)."""

    def step(self, tokens: int, labels: int, lengths: Iterable[int]) -> float:
        """Operations of a step."""
        ...


@dataclass(frozen=True, slots=True)
class Machine:
    """What utilisation is reckoned from."""

    work: Work
    rate: float
    """Floating point operations a second of a matrix product."""


class Gauge:
    """Follows one run; fed with the events of earlier lives first."""

    def __init__(
        self,
        plan: Plan,
        terms: Terms,
        evaluations: int,
        past: Iterable[Mapping[str, Any]] = (),
        machine: Machine | None = None,
    ) -> None:
        """evaluations: of the whole run. machine: None where utilisation is not known."""
        self._plan, self._evaluations, self.machine = plan, evaluations, machine
        # Sums over all examples, and asked for after every step.
        self._tokens, self._held = plan.tokens, sum(shard.total() for shard in plan.validation)
        self._curve = Curve()
        told = []
        for event in past:
            self._curve.feed(event)
            if "sign" in event:
                told.append(str(event["sign"]))
        self._watchman = Watchman(terms, told)

    def read(self, kind: str, members: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The event with what can be added to it, and then the warnings that it gives rise to; all with their kind."""
        event = {"kind": kind, **members}
        if kind not in ("step", "eval"):
            yield event
            return
        self._curve.feed(event)
        if kind == "step":
            event |= self._added(int(members["step"]), int(members["spared_tokens"]))
        yield event
        for sign in self._watchman.look(self._curve):
            yield {"kind": "log", "level": "warning", "sign": sign.name, "message": sign.message}

    def totals(self, steps: int) -> dict[str, Any]:
        """What was trained in so many steps, and how fast; waiting, evaluations and repeated steps are not in it."""
        examples, seconds = self._plan.examples_until(steps), sum(self._curve.seconds)
        return {
            "examples": examples,
            "training_seconds": round(seconds, 3),
            "examples_per_second": round(examples / max(seconds, 1e-9), 3),
        }

    def _added(self, step: int, spared: int) -> dict[str, Any]:
        curve = self._curve
        examples = self._plan.examples(step)
        seconds = max(curve.seconds[-1], 1e-9)
        added: dict[str, Any] = {
            "smoothed_loss": curve.smoothed,
            "examples": len(examples),
            "examples_per_second": round(len(examples) / seconds, 3),
        }
        if self.machine is not None:
            lengths = (end - start for one in examples for start, end in self._plan.train.stretches(int(one)))
            operations = self.machine.work.step(curve.tokens[-1] - spared, curve.scored[-1], lengths)
            added["utilisation"] = round(operations / seconds / self.machine.rate, 4)
        if len(curve.steps) > FEWEST:
            added["seconds_left"] = [round(bound, 1) for bound in self._left()]
        return added

    def _left(self) -> tuple[float, float]:
        """Seconds that the rest will take, at least and at most likely, at the speed of the latest steps."""
        curve = self._curve
        start = max(FEWEST, len(curve.tokens) - RECENT)
        tokens, seconds = curve.tokens[start:], curve.seconds[start:]
        pace = sum(seconds) / max(1, sum(tokens))
        blocks = [
            sum(seconds[start : start + BLOCK]) / max(1, sum(tokens[start : start + BLOCK]))
            for start in range(0, len(tokens), BLOCK)
        ]
        mean = fmean(blocks)
        spread = math.sqrt(fmean((block - mean) ** 2 for block in blocks)) / mean if mean else 0.0
        doubt = 1 + max(MARGIN, spread)
        training = max(0, self._tokens - curve.trained) * pace
        left = max(0, self._evaluations - len(curve.evaluations))
        if curve.evaluations:
            scoring = [left * curve.evaluations[-1].seconds] * 2
        else:
            scoring = [left * self._held * pace * share for share in SCORING]
        return (training + scoring[0]) / doubt, (training + scoring[1]) * doubt
