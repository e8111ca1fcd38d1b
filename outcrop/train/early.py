"""Early stopping: which evaluation was the best, when patience is over, and the weights that are delivered then.

Knows losses, parameters and checkpoints; nothing of steps that are done, of schedules or of data.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from outcrop.train.checkpoint import Checkpoints


@dataclass(frozen=True, slots=True)
class Best:
    """An evaluation, and what belongs to it."""

    step: int
    """Steps that were done."""
    loss: float
    """The mean NLL of a label over all validators."""
    epoch_nll: float
    epoch_scored: int
    """Of the epoch that was under way, up to there."""
    validation: tuple[tuple[float, int], ...]
    """NLL and labels of each validator."""


@dataclass(slots=True)
class Early:
    """How patient a run still is; all of it lies in the checkpoint, beside the best weights."""

    best: Best | None = None
    """The lowest validation loss so far."""
    counted: float | None = None
    """The latest loss that was lower than the one counted before it by more than the threshold."""
    waited: int = 0
    """Evaluations since then."""
    stopped: bool = False
    """The patience is over."""

    @classmethod
    def read(cls, state: Mapping[str, Any]) -> "Early":
        """From a checkpoint's JSON."""
        found = cls(**state)
        if state["best"] is not None:
            pairs = tuple((float(nll), int(scored)) for nll, scored in state["best"]["validation"])
            found.best = Best(**{**state["best"], "validation": pairs})
        return found

    def judge(self, evaluation: Best, patience: int, threshold: float, keep: Callable[[], bool]) -> bool:
        """Take in an evaluation; True if it is the best so far and `keep` could keep its weights."""
        better = (self.best is None or evaluation.loss < self.best.loss) and keep()
        if better:
            self.best = evaluation
        if self.counted is None or self.counted - evaluation.loss > threshold:
            self.counted, self.waited = evaluation.loss, 0
        else:
            self.waited += 1
        self.stopped = self.waited >= patience
        return better


def keep(checkpoints: Checkpoints, step: int, parameters: Sequence[nn.Parameter]) -> None:
    """Keep weights that may be delivered; OSError where the disk has no room."""
    checkpoints.best.save(step, {str(index): one.detach() for index, one in enumerate(parameters)}, {})


def kept(checkpoints: Checkpoints, best: Best) -> list[Tensor]:
    """The weights of the best evaluation, in the order of the parameters; OutcropError where they are gone."""
    tensors = checkpoints.best.at(best.step).tensors
    return [tensors[str(index)] for index in range(len(tensors))]
