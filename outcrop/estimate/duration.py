"""How long a job will take, as a range: its sizes multiplied by what a few steps of it took on this machine.

Pure arithmetic over a Foresight and a Calibration.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from outcrop.estimate.calibration import Calibration
from outcrop.estimate.foresight import Foresight

MARGIN: Final = 0.2
"""The least that a range allows on either side: machines are never quite as they were a minute ago."""
WIDEST: Final = 1.0
"""The most: half to twice the likely time."""


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds of a job's parts, and of the whole between `low` and `high`; waiting for other jobs is not in it."""

    intake: float
    """Checking and tokenising, as it was measured while this was estimated."""
    start: float
    """Python, torch, the weights."""
    training: float
    """All optimizer steps."""
    evaluation: float
    checkpoints: float
    likely: float
    """The whole."""
    low: float
    high: float
    tokens_per_second: float
    """Of the training steps."""

    def document(self) -> dict[str, Any]:
        """As JSON's types, seconds."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def duration(seen: Foresight, measured: Calibration, *, intake: float, checkpoint_seconds: float) -> Duration:
    """The range. intake: seconds that checking and tokenising take; checkpoint_seconds: training between two saves."""
    training = seen.steps * measured.step_seconds + seen.tokens * measured.token_seconds
    scoring = measured.evaluation_token_seconds or 0.0
    evaluation = seen.evaluations * seen.validation_tokens * scoring
    # One more at the end, and the finished weights, which are about as much work again.
    checkpoints = (training // checkpoint_seconds + 2) * measured.checkpoint_seconds
    likely = intake + measured.start_seconds + training + evaluation + checkpoints
    # Not spread / sqrt(n): what makes steps uneven is other work on the machine, which comes and goes in minutes. The
    # more of it there was, the less is known of what the job will meet.
    doubt = min(WIDEST, max(MARGIN, measured.spread, measured.load))
    return Duration(
        intake=intake,
        start=measured.start_seconds,
        training=training,
        evaluation=evaluation,
        checkpoints=checkpoints,
        likely=likely,
        low=likely / (1 + doubt),
        high=likely * (1 + doubt),
        tokens_per_second=seen.tokens / training if training else 0.0,
    )
