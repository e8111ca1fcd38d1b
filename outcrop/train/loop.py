"""The training loop, once, for every modality: schedule, step, clip, evaluate, checkpoint, resume, stop.

It is told what differs by a Learner and says what happens through `emit`. Knows torch's optimizer; nothing of text,
records, files of a job or who reads the events. Killed at any instant and started again it gives the same losses and
the same weights, bit for bit, on the same machine: order is computed, the rest lies in the checkpoint.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn

from outcrop.datasets.plan import evaluations
from outcrop.errors import OutcropError
from outcrop.train import early
from outcrop.train.checkpoint import Checkpoint, Checkpoints, Unfit
from outcrop.train.early import Best, Early
from outcrop.train.events import StopAsked
from outcrop.train.moments import Emit, Moments

BETAS: Final = (0.9, 0.95)
"""The second is short: with 0.999 a run of hundreds of steps never forgets the large gradients that it began with."""
EPSILON: Final = 1e-8


@dataclass(frozen=True, slots=True)
class Tally:
    """What was computed over some examples."""

    nll: float
    """Sum of the negative log-likelihoods of all labels, natural logarithm."""
    tokens: int
    scored: int
    """Labels among the tokens."""
    spared: int = 0
    """Tokens that were not computed anew, because examples beside them begin alike."""


class Learner(Protocol):
    """What differs from one modality to another."""

    def parameters(self) -> list[nn.Parameter]:
        """What is trained, float32, always in the same order."""
        ...

    def learn(self, step: int) -> Tally:
        """Add the gradients of a step's loss (sum of NLL / all labels of the step) to the parameters."""
        ...

    def validators(self) -> int:
        """How many validation sets there are."""
        ...

    def evaluate(self, validator: int) -> Iterator[Tally]:
        """Score a validation set piece by piece, without gradients."""
        ...


@dataclass(frozen=True, slots=True)
class Course:
    """The numbers of a run."""

    steps: int
    steps_per_epoch: int
    learning_rate: float
    warmup_steps: int
    schedule: str
    """linear, cosine or constant decay after warm-up."""
    weight_decay: float
    clip: float
    checkpoint_seconds: float
    patience: int | None = None
    """Early stopping: evaluations in a row without an improvement after which the run ends; None: it never does."""
    threshold: float = 0.0
    """Early stopping: what the validation loss must fall by to count as an improvement."""

    def evaluates(self, step: int) -> bool:
        """True if an evaluation follows once so many steps are done: at an epoch's end, and maybe on the way there."""
        count = evaluations(self.patience, max(1, self.steps // self.steps_per_epoch), self.steps_per_epoch)
        place = (step - 1) % self.steps_per_epoch
        return step > 0 and (place + 1) * count // self.steps_per_epoch > place * count // self.steps_per_epoch


@dataclass(slots=True)
class Progress:
    """How far a run is; all of it lies in the checkpoint."""

    step: int = 0
    """The next step to do."""
    evaluated: int = 0
    """The value of `step` at the latest evaluation."""
    tokens: int = 0
    scored: int = 0
    seconds: float = 0.0
    """Spent in steps and evaluations, over all lives of the run."""
    epoch_nll: float = 0.0
    epoch_scored: int = 0
    """Of the epoch under way, or of the last one at the end: trainingLoss is their quotient."""
    validation: list[tuple[float, int]] = field(default_factory=list)
    """NLL and labels of each validator at the latest evaluation."""
    early: Early = field(default_factory=Early)

    def over(self, course: Course) -> bool:
        """True if nothing is left to do."""
        return self.early.stopped or self.evaluated >= course.steps

    @property
    def training_loss(self) -> float:
        """The mean NLL of a label over the last epoch. AWS does not say whether its trainingLoss is a mean or the last
        step's value (facts, Appendix C 4); a mean does not depend on which examples came last."""
        return self.epoch_nll / self.epoch_scored

    @property
    def validation_losses(self) -> list[float]:
        """Each validator's mean NLL of a label at the latest evaluation."""
        return [nll / scored for nll, scored in self.validation]

    def outcome(self) -> dict[str, Any]:
        """The members of the done event."""
        losses = self.validation_losses
        return {
            "training_loss": self.training_loss,
            "perplexity": perplexity(self.training_loss),
            "validation_losses": losses,
            "validation_perplexities": [perplexity(loss) for loss in losses],
            "tokens": self.tokens,
            "scored_tokens": self.scored,
            "seconds": round(self.seconds, 3),
            "steps": self.step,
            "delivered_step": self.step if self.early.best is None else self.early.best.step,
            "stopped_early": self.early.stopped,
        }


def train(learner: Learner, course: Course, checkpoints: Checkpoints, emit: Emit, stop: Callable[[], bool]) -> Progress:
    """Run all steps that are left, from the latest checkpoint if there is one.

    With early stopping the weights and losses of the best evaluation are left in the learner and returned. Emits
    step, eval, checkpoint and log events. Raises StopAsked once `stop()` is true (asked before every step and between
    pieces of an evaluation; not any more when all is done), OutcropError when the loss is no longer a number.
    """
    parameters = learner.parameters()
    optimizer = _optimizer(parameters, course)
    progress = Progress()
    found = checkpoints.load(_warner(emit), lambda found: _require_fit(found, parameters, checkpoints))
    if found is not None:
        progress = _restore(found, parameters, optimizer)
        emit("log", level="info", message=f"resumed at step {progress.step} of {course.steps}")
    elif course.patience is not None and not learner.validators():
        emit("log", level="warning", message="early stopping does nothing here: there is no validation data")
    with Moments(checkpoints, parameters, optimizer, emit) as moments:
        saved = time.monotonic()
        while not progress.over(course):
            if stop():
                moments.begin(progress.step, asdict(progress))
                moments.settle()
                raise StopAsked(progress.step, progress.tokens)
            started = time.monotonic()
            if course.evaluates(progress.step) and progress.evaluated < progress.step:
                done = _evaluate(learner, course, progress, emit, stop)
                # Of the best weights two are kept: the moment on disk must not fall behind those that it names.
                moments.settle()
                if done and _judge(course, progress, checkpoints, parameters, emit):
                    # The checkpoint that names the best weights follows them at once.
                    saved = -math.inf
            else:
                _step(learner, course, progress, optimizer, emit)
            now = time.monotonic()
            progress.seconds += now - started
            if now - saved >= course.checkpoint_seconds:
                moments.begin(progress.step, asdict(progress))
                saved = now
            moments.look()
        if found is None or not _progress(found.state).over(course):
            moments.begin(progress.step, asdict(progress))
    return _choose(checkpoints, progress, parameters)


def rate(course: Course, step: int) -> float:
    """The learning rate of a step (from 0): a straight line up over the warm-up, then the schedule down to the end."""
    if step < course.warmup_steps:
        return course.learning_rate * (step + 1) / course.warmup_steps
    left = (course.steps - step) / max(1, course.steps - course.warmup_steps)
    match course.schedule:
        case "linear":
            return course.learning_rate * left
        case "cosine":
            return course.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
        case "constant":
            return course.learning_rate
        case other:
            raise OutcropError(f"unknown learning rate schedule {other!r}; use linear, cosine or constant")


def _step(learner: Learner, course: Course, progress: Progress, optimizer: torch.optim.Optimizer, emit: Emit) -> None:
    """One optimizer step and its event."""
    step = progress.step
    epoch, place = divmod(step, course.steps_per_epoch)
    if place == 0:
        progress.epoch_nll, progress.epoch_scored = 0.0, 0
    started = time.monotonic()
    learning_rate = rate(course, step)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.zero_grad(set_to_none=True)
    tally = learner.learn(step)
    norm = _clip(learner.parameters(), course.clip)
    loss = tally.nll / tally.scored if tally.scored else 0.0
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise OutcropError(_no_number(step, loss, norm, learning_rate))
    optimizer.step()
    progress.step += 1
    seconds = time.monotonic() - started
    progress.tokens += tally.tokens
    progress.scored += tally.scored
    progress.epoch_nll += tally.nll
    progress.epoch_scored += tally.scored
    emit(
        "step",
        step=step,
        epoch=epoch,
        loss=loss,
        perplexity=perplexity(loss),
        tokens=tally.tokens,
        scored_tokens=tally.scored,
        spared_tokens=tally.spared,
        seconds=round(seconds, 6),
        tokens_per_second=round(tally.tokens / max(seconds, 1e-9), 1),
        learning_rate=learning_rate,
        gradient_norm=norm,
    )


def _clip(parameters: list[nn.Parameter], most: float) -> float:
    """The norm of all gradients; they are scaled down to `most` where it is larger, and not touched elsewhere."""
    gradients = [one.grad for one in parameters if one.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    found = float(norm)
    if found > most:
        nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return found


def _no_number(step: int, loss: float, norm: float, learning_rate: float) -> str:
    """What a person is told of a loss or a gradient that is not finite."""
    told = f"(loss {loss}, gradient norm {norm}"
    if step == 0:
        return (
            f"the loss is no number before anything was learnt {told}): the weights that the job starts from are "
            "damaged, or the first examples are more than they can take; `outcrop models use` proves weights"
        )
    return (
        f"the loss is no longer a number at step {step} {told}, learning rate {learning_rate:.3g}): the run diverged; "
        "use a smaller learningRate"
    )


def perplexity(loss: float) -> float:
    """exp of a mean NLL per label; of more than 700, which no double holds, the largest double."""
    return math.exp(min(loss, 700.0))


def _evaluate(learner: Learner, course: Course, progress: Progress, emit: Emit, stop: Callable[[], bool]) -> bool:
    """Score every validator, one event each; False when a stop came and it is left undone."""
    step = progress.step - 1
    results = []
    for validator in range(learner.validators()):
        started = time.monotonic()
        nll, scored, tokens = 0.0, 0, 0
        for tally in learner.evaluate(validator):
            nll, scored, tokens = nll + tally.nll, scored + tally.scored, tokens + tally.tokens
            if stop():
                return False
        loss = nll / scored
        if not math.isfinite(loss):
            raise OutcropError(
                f"the loss on validation set {validator} is no number after step {step}: the run diverged"
            )
        emit(
            "eval",
            step=step,
            epoch=step // course.steps_per_epoch,
            validator=validator,
            loss=loss,
            perplexity=perplexity(loss),
            tokens=tokens,
            scored_tokens=scored,
            seconds=round(time.monotonic() - started, 6),
        )
        results.append((nll, scored))
    progress.validation = results
    progress.evaluated = progress.step
    return True


def _judge(
    course: Course, progress: Progress, checkpoints: Checkpoints, parameters: list[nn.Parameter], emit: Emit
) -> bool:
    """Early stopping after an evaluation, told when patience is over. True if this is what would be delivered now."""
    if course.patience is None or not progress.validation:
        return False

    def kept() -> bool:
        try:
            early.keep(checkpoints, progress.step, parameters)
        except OSError as error:
            message = f"the weights after {progress.step} steps, the best so far, cannot be kept: {error}"
            emit("log", level="warning", message=message)
            return False
        return True

    loss = sum(nll for nll, _ in progress.validation) / sum(scored for _, scored in progress.validation)
    validation = tuple(progress.validation)
    evaluation = Best(progress.step, loss, progress.epoch_nll, progress.epoch_scored, validation)
    better = progress.early.judge(evaluation, course.patience, course.threshold, kept)
    if progress.early.stopped and progress.early.best is not None:
        message = (
            f"stopped early after {progress.step} of {course.steps} steps: in {progress.early.waited} evaluations the "
            f"validation loss did not fall by more than {course.threshold:g}; the weights after "
            f"{progress.early.best.step} steps are delivered (validation loss {progress.early.best.loss:.4f})"
        )
        emit("log", level="info", message=message)
    return better


def _choose(checkpoints: Checkpoints, progress: Progress, parameters: list[nn.Parameter]) -> Progress:
    """Put the best weights and their losses in the place of the last ones."""
    best = progress.early.best
    if best is None or best.step == progress.step:
        return progress
    with torch.no_grad():
        for parameter, tensor in zip(parameters, early.kept(checkpoints, best), strict=True):
            parameter.copy_(tensor)
    return replace(progress, epoch_nll=best.epoch_nll, epoch_scored=best.epoch_scored, validation=list(best.validation))


def _optimizer(parameters: list[nn.Parameter], course: Course) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, as is usual: norms and biases have no business near zero."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": course.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=0.0, betas=BETAS, eps=EPSILON, fused=True
    )


def _warner(emit: Emit) -> Callable[[str], None]:
    return lambda message: emit("log", level="warning", message=message)


def _require_fit(found: Checkpoint, parameters: list[nn.Parameter], checkpoints: Checkpoints) -> None:
    """Raise Unfit for a moment from which this run cannot be ended: another shape, or best weights that are gone."""
    shapes = [tuple(found.tensors[name].shape) for name in _named(found, "parameter.")]
    if shapes != [tuple(parameter.shape) for parameter in parameters]:
        raise Unfit("its tensors are not those of this run")
    if "rng.cpu" not in found.tensors:
        raise Unfit("it has no state of the random numbers")
    try:
        progress = _progress(found.state)
    except (KeyError, TypeError, ValueError) as error:
        raise Unfit(f"this version does not understand its state ({type(error).__name__}: {error})") from error
    if progress.early.best is not None:
        early.kept(checkpoints, progress.early.best)


def _named(found: Checkpoint, prefix: str) -> list[str]:
    """The tensors' names with this prefix, in the order of the numbers behind it."""
    names = [name for name in found.tensors if name.startswith(prefix)]
    return sorted(names, key=lambda name: int(name.removeprefix(prefix)))


def _restore(found: Checkpoint, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> Progress:
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(found.tensors[f"parameter.{index}"])
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in found.tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            place, _, member = rest.partition(".")
            states.setdefault(int(place), {})[member] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    # Last of all, so that nothing above draws from it.
    torch.set_rng_state(found.tensors["rng.cpu"])
    if "rng.cuda" in found.tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(found.tensors["rng.cuda"])
    return _progress(found.state)


def _progress(state: Mapping[str, Any]) -> Progress:
    validation = [(float(nll), int(scored)) for nll, scored in state["validation"]]
    return Progress(**{**state, "validation": validation, "early": Early.read(state["early"])})
