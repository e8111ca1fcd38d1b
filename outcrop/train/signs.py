"""What a run's curve tells an experienced eye: over-fitting, no learning, exploding gradients, a spike in the loss.

Pure judgement of a Curve. Each sign asks for evidence that chance and noise seldom give, as a warning that comes too
often is read by nobody. Knows no events, no files and no torch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Final

from outcrop.train.curve import SMOOTHING, Curve

RISE: Final = 0.005
"""Relative rise of the validation loss over two evaluations that is more than rounding and order of sums."""
LEAST_RISE: Final = 0.002
"""The same in nats a token, for losses near zero."""

FALL: Final = 0.01
"""Relative fall of the training loss below which it has not moved."""
CERTAINTY: Final = 0.05
"""Two standard errors of that fall, at most, relative: so that a fall of this size would have been seen."""
STILL: Final = 0.001
"""Relative change of the validation loss between the first evaluation and the latest that is none."""
FEWEST_STEPS: Final = 20
"""After the warm-up, before anything is said of learning."""
SOON: Final = 320
"""Steps after which learning is judged, and again at twice as many and so on; a shorter run at its half and its end."""

WINDOW: Final = 50
"""Steps that a norm or a loss is compared with."""
FEWEST_BEFORE: Final = 20
"""Of those, at least: what a run is used to must be known first."""
FAR: Final = 10.0
"""Times the median norm that a norm is far away."""
RARE: Final = 3.0
"""Standard deviations of the logarithm, likewise: norms and losses of single examples spread widely upwards."""
TINY: Final = 1e-12
"""What a logarithm is taken of where the value is zero."""
RECENT: Final = 10
OFTEN: Final = 3
"""So many far norms among the recent ones: a single one is a strange example, which clipping is for."""
CLIPPED: Final = 0.95
"""Share of clipped steps in a window that is nearly every one."""
UPWARDS: Final = 1.1
"""Ratio of the window's second half's mean loss to that of its first, for a loss that rises."""
BEYOND_NOISE: Final = 4.0
"""Standard errors of that difference: the window is looked at in every step, so that two would often come by chance."""

SPIKE: Final = 0.5
"""Relative rise of the smoothed loss, over the recent steps, that is a spike."""
LEAST_SPIKE: Final = 0.3
"""The same in nats a token: a loss near zero has strange examples, not spikes."""
RARER: Final = 5.0
"""As RARE, for the single loss that makes the spike."""
SMOOTHED_NOISE: Final = math.sqrt((1 - SMOOTHING) / (1 + SMOOTHING))
"""Standard deviation of a smoothed loss over that of the losses."""
SPIKE_NOISE: Final = 5.0
"""Standard deviations of the smoothed loss, likewise."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What of the job decides a judgement and its advice."""

    steps: int
    """All that are planned."""
    steps_per_epoch: int
    warmup_steps: int
    clip: float
    rate: str = "learningRate"
    """The hyperparameter by which this model's learning rate is given."""
    stops_early: bool = False
    """Whether the best weights are kept anyway."""


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that a person should know of a run, once."""

    name: str
    message: str
    """What is seen, with its numbers, and what helps."""


def overfitting(curve: Curve, terms: Terms) -> Sign | None:
    """The validation loss rose in two evaluations running while the training loss fell between them."""
    if len(curve.evaluations) < 3:
        return None
    first, second, third = curve.evaluations[-3:]
    rise = third.loss - first.loss
    if not first.loss < second.loss < third.loss or rise < max(RISE * first.loss, LEAST_RISE):
        return None
    earlier, later = curve.mean(first.step, second.step), curve.mean(second.step, third.step)
    if later >= earlier:
        return None
    best = min(curve.evaluations, key=lambda known: known.loss)
    epochs = (best.step + 1) / terms.steps_per_epoch
    advice = (
        "early stopping keeps the best weights"
        if terms.stops_early
        else f"an epochCount of {max(1, math.ceil(epochs))} ends near the best, and more varied data goes further"
    )
    return Sign(
        "overfitting",
        f"over-fitting: the validation loss rose from {first.loss:.4f} to {second.loss:.4f} and {third.loss:.4f} while "
        f"the training loss fell from {earlier:.4f} to {later:.4f}; it was lowest, {best.loss:.4f}, after "
        f"{best.step + 1} steps ({epochs:.3g} epochs): {advice}",
    )


def idleness(curve: Curve, terms: Terms) -> Sign | None:
    """The loss has not fallen since the run began: more than noise would hide, or the validation loss proves it.

    It looks at half of the run, so that it may not be asked after every step: the validation loss proves something
    where it is new.
    """
    count = len(curve.losses)
    still = _stands_still(curve)
    if count < terms.warmup_steps + FEWEST_STEPS or not (still or _judged(count, terms.steps)):
        return None
    width = count // 4
    before, after = curve.losses[:width], curve.losses[-width:]
    level = fmean(before)
    if level <= 0:
        return None
    fall = level - fmean(after)
    doubt = 2 * math.sqrt((_spread(before) ** 2 + _spread(after) ** 2) / width)
    rises = fall < -max(doubt, FALL * level)
    moved = fall >= doubt if still else fall >= FALL * level or (doubt >= CERTAINTY * level and not rises)
    if moved:
        return None
    advice = (
        f"the {terms.rate} is most likely too large"
        if rises
        else f"a larger {terms.rate} helps if it is too small for this base; if the base knows these data already, "
        "there is nothing to learn; if completions do not follow from their prompts, nothing can be learnt"
    )
    return Sign(
        "idleness",
        f"the run does not learn: the training loss {'rises' if rises else 'does not fall'}, from {level:.4f} in the "
        f"first {width} steps to {fmean(after):.4f} in the last {width} of {count}: {advice}",
    )


def explosion(curve: Curve, terms: Terms) -> Sign | None:
    """Gradients far above what they were, again and again; or what they do: a loss that rises and stays high."""
    used, recent = curve.norms[-WINDOW - RECENT : -RECENT], curve.norms[-RECENT:]
    if len(used) >= FEWEST_BEFORE:
        usual = median(used)
        bound = max(usual * max(FAR, math.exp(RARE * _log_spread(used))), terms.clip)
        far = [norm for norm in recent if norm > bound]
        if len(far) >= OFTEN:
            return Sign(
                "explosion",
                f"exploding gradients: {len(far)} of the last {RECENT} steps had a gradient norm of up to "
                f"{max(far):.3g}, where {usual:.3g} was usual: a smaller {terms.rate} or a larger batchSize helps; "
                "look for examples that are broken or unlike the others",
            )
    return _worse(curve, terms) or _clipped(curve, terms)


def _worse(curve: Curve, terms: Terms) -> Sign | None:
    """Worse than the untouched base, which the first step's loss is of."""
    first, recent = curve.losses[0] if curve.losses else 0.0, curve.losses[-FEWEST_STEPS:]
    level = fmean(recent) if recent else 0.0
    if len(curve.losses) <= FEWEST_STEPS or level <= UPWARDS * first or level - first <= BEYOND_NOISE * _spread(recent):
        return None
    return Sign(
        "explosion",
        f"exploding gradients: the training loss is {level:.4f} in the last {len(recent)} steps and was {first:.4f} "
        f"before anything was learnt; the gradient norm went up to {max(curve.norms):.3g}: a smaller {terms.rate} "
        "helps",
    )


def _clipped(curve: Curve, terms: Terms) -> Sign | None:
    """Clipped in nearly every step, and the loss rises all the same."""
    losses = curve.losses[-WINDOW:]
    clipped = sum(norm > terms.clip for norm in curve.norms[-WINDOW:])
    if len(losses) < WINDOW or clipped < CLIPPED * WINDOW or not _rises(losses):
        return None
    half = WINDOW // 2
    return Sign(
        "explosion",
        f"exploding gradients: {clipped} of the last {WINDOW} steps had to be clipped to a norm of {terms.clip:g} and "
        f"the loss rises all the same, from {fmean(losses[:half]):.4f} to {fmean(losses[half:]):.4f}: "
        f"a smaller {terms.rate} helps",
    )


def spike(curve: Curve, terms: Terms) -> Sign | None:
    """The smoothed loss jumped well above where it was, beyond noise."""
    before = curve.losses[-WINDOW - RECENT : -RECENT]
    if len(before) < FEWEST_BEFORE:
        return None
    level = curve.smoothed_at(len(curve.losses) - RECENT - 1)
    noise = SPIKE_NOISE * SMOOTHED_NOISE * _jitter(before)
    place = max(range(len(curve.losses) - RECENT, len(curve.losses)), key=curve.losses.__getitem__)
    usual = level * math.exp(RARER * _jitter([math.log(max(loss, TINY)) for loss in before]))
    if curve.smoothed - level < max(SPIKE * level, LEAST_SPIKE, noise) or curve.losses[place] < usual:
        return None
    return Sign(
        "spike",
        f"a spike in the loss: {curve.losses[place]:.4f} at step {curve.steps[place] + 1}, where {level:.4f} was "
        f"usual: if it stays high, a smaller {terms.rate} or a longer warm-up helps; if it falls back, look for "
        "examples that are broken or unlike the others",
    )


ALL: Final[Mapping[str, Callable[[Curve, Terms], Sign | None]]] = {
    "overfitting": overfitting,
    "idleness": idleness,
    "explosion": explosion,
    "spike": spike,
}
"""Every judgement, by the name of its sign."""


class Watchman:
    """Asks for every sign after every measurement, and tells each one once.

    What that costs must not grow with the run: judgements look at its end, and at all of it seldom.
    """

    def __init__(self, terms: Terms, told: Sequence[str] = ()) -> None:
        """told: names of signs that an earlier life of the run has told."""
        self._terms, self._told = terms, set(told)

    def look(self, curve: Curve) -> list[Sign]:
        """The signs that are new."""
        pending = [judge for name, judge in ALL.items() if name not in self._told]
        seen = [sign for judge in pending if (sign := judge(curve, self._terms))]
        self._told.update(sign.name for sign in seen)
        return seen


def _judged(count: int, steps: int) -> bool:
    """Whether learning is judged after so many steps: seldom, as every judgement may err."""
    ratio = count / SOON
    return count in (max(1, steps // 2), steps) or (count >= SOON and count % SOON == 0 and math.log2(ratio) % 1 == 0)


def _spread(values: Sequence[float]) -> float:
    """Standard deviation; statistics.pstdev is exact, and a hundred times slower."""
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _jitter(values: Sequence[float]) -> float:
    """Standard deviation around a trend: from one value to the next, where a fall over many does not count."""
    return _spread([after - before for before, after in pairwise(values)]) / math.sqrt(2)


def _log_spread(values: Sequence[float]) -> float:
    """Standard deviation of the natural logarithms."""
    return _spread([math.log(max(value, TINY)) for value in values])


def _stands_still(curve: Curve) -> bool:
    """Whether the validation loss, in which no draw of examples hides anything, was just found to be what it was."""
    if len(curve.evaluations) < 2 or curve.evaluations[-1].step != curve.steps[-1]:
        return False
    first, latest = curve.evaluations[0].loss, curve.evaluations[-1].loss
    return abs(latest - first) < STILL * first


def _rises(losses: Sequence[float]) -> bool:
    half = len(losses) // 2
    first, second = losses[:half], losses[half:]
    error = math.sqrt(_spread(first) ** 2 / len(first) + _spread(second) ** 2 / len(second))
    difference = fmean(second) - fmean(first)
    return difference > BEYOND_NOISE * error and fmean(second) > UPWARDS * fmean(first)
