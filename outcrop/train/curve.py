"""What a run has measured so far, step by step: losses, norms, speeds, and the evaluations between them.

Fed with step and eval events; a step that a resumed run does again takes the place of its first version and of all that
followed. Knows the members of those events; judges nothing (signs) and foretells nothing (gauge).
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final

SMOOTHING: Final = 0.9
"""Share of the past in the smoothed loss: a mean over about ten steps."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All validation sets scored after one step."""

    step: int
    loss: float
    """Mean over all labels of all sets."""
    scored: int
    seconds: float
    sets: int


@dataclass(slots=True)
class Curve:
    """The lists are of one length, a value a step."""

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    """Of the gradient before it was clipped."""
    scored: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    means: list[tuple[float, float]] = field(default_factory=list)
    """Smoothed (sum of the NLL, labels): their quotient is the smoothed loss."""
    evaluations: list[Evaluation] = field(default_factory=list)
    trained: int = 0
    """The sum of `tokens`."""

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take in an event with its kind; those that are no measurement are passed over."""
        if event["kind"] == "step":
            self._step(event)
        elif event["kind"] == "eval":
            self._evaluation(event)

    @property
    def smoothed(self) -> float:
        """The smoothed loss after the latest step; every label weighs the same."""
        return self.smoothed_at(len(self.losses) - 1)

    def smoothed_at(self, place: int) -> float:
        """The smoothed loss as it was at a place of the lists."""
        nll, labels = self.means[place]
        return nll / labels if labels else 0.0

    def mean(self, after: int, until: int) -> float:
        """The mean loss of a label over the steps (after, until]; 0 where nothing was scored."""
        start, end = bisect_left(self.steps, after + 1), bisect_left(self.steps, until + 1)
        labels = sum(self.scored[start:end])
        if not labels:
            return 0.0
        nll = sum(loss * count for loss, count in zip(self.losses[start:end], self.scored[start:end], strict=True))
        return nll / labels

    def _step(self, event: Mapping[str, Any]) -> None:
        number = int(event["step"])
        self._forget(number)
        loss, scored = float(event["loss"]), int(event["scored_tokens"])
        nll, labels = self.means[-1] if self.means else (0.0, 0.0)
        # No division by the weights' sum: it is the same for both, so the start needs no correction either.
        self.means.append((SMOOTHING * nll + loss * scored, SMOOTHING * labels + scored))
        self.steps.append(number)
        self.losses.append(loss)
        self.norms.append(float(event["gradient_norm"]))
        self.scored.append(scored)
        self.tokens.append(int(event["tokens"]))
        self.trained += self.tokens[-1]
        self.seconds.append(float(event["seconds"]))

    def _evaluation(self, event: Mapping[str, Any]) -> None:
        step, validator = int(event["step"]), int(event["validator"])
        # One event a validation set, in their order: the first one begins an evaluation, a resumed run's anew.
        if validator == 0:
            self.evaluations = list(takewhile(lambda known: known.step < step, self.evaluations))
        before = self.evaluations[-1] if validator and self.evaluations else Evaluation(step, 0.0, 0, 0.0, 0)
        # Events of earlier versions tell tokens only; the share of labels is about the same in all sets of a job.
        count = int(event.get("scored_tokens", event["tokens"]))
        scored = before.scored + count
        loss = (before.loss * before.scored + float(event["loss"]) * count) / scored if scored else 0.0
        if validator:
            self.evaluations.pop()
        self.evaluations.append(
            Evaluation(step, loss, scored, before.seconds + float(event["seconds"]), before.sets + 1)
        )

    def _forget(self, number: int) -> None:
        """Drop what an earlier life did at this step and after it."""
        if not self.steps or self.steps[-1] < number:
            return
        place = bisect_left(self.steps, number)
        self.trained -= sum(self.tokens[place:])
        for values in (self.steps, self.losses, self.norms, self.scored, self.tokens, self.seconds, self.means):
            del values[place:]
        self.evaluations = [known for known in self.evaluations if known.step < number]
