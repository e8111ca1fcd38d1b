"""Early stopping: when a run ends, what is delivered, and that dying anywhere changes no bit of either."""

import errno
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from outcrop.datasets.plan import evaluations
from outcrop.errors import OutcropError
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.early import Best, Early
from outcrop.train.loop import Course, Progress, Tally, train

COURSE = Course(
    steps=40, steps_per_epoch=4, learning_rate=0.1, warmup_steps=0, schedule="constant", weight_decay=0.0, clip=1e9,
    checkpoint_seconds=0.0, patience=2, threshold=0.0,
)  # fmt: skip


class Climber:
    """A learner whose one weight rises by the learning rate at every step, past the place where it should stop."""

    def __init__(self, goals: tuple[float, ...] = (1.04,)) -> None:
        self.weight = nn.Parameter(torch.zeros(1))
        self.goals = goals

    def parameters(self) -> list[nn.Parameter]:
        return [self.weight]

    def learn(self, step: int) -> Tally:
        torch.autograd.backward(-self.weight.sum())
        return Tally(float(10 - self.weight.detach()), tokens=3, scored=1)

    def validators(self) -> int:
        return len(self.goals)

    def evaluate(self, validator: int) -> Iterator[Tally]:
        yield Tally(2 * (float(self.weight.detach()) - self.goals[validator]) ** 2, tokens=4, scored=2)


class Crash(BaseException):
    """As if the process died here."""


def run(
    folder: Path, course: Course = COURSE, learner: Climber | None = None, crash: Callable[[], bool] = lambda: False
) -> tuple[Climber, Progress, list[dict[str, Any]]]:
    learner = learner or Climber()
    said: list[dict[str, Any]] = []

    def emit(kind: str, **members: Any) -> None:
        said.append({"kind": kind, **members})
        if crash():
            raise Crash

    return learner, train(learner, course, Checkpoints(folder, "key"), emit, lambda: False), said


def test_a_run_ends_with_the_weights_of_its_best_evaluation(tmp_path: Path) -> None:
    learner, progress, said = run(tmp_path)
    losses = {event["step"]: event["loss"] for event in said if event["kind"] == "eval"}
    assert list(losses) == [3, 7, 11, 15, 19], "one evaluation an epoch, two of them without an improvement"
    assert min(losses, key=losses.__getitem__) == 11
    assert learner.weight.item() == pytest.approx(1.2, abs=1e-5)
    done = progress.outcome()
    assert done["validation_losses"] == [losses[11]]
    assert (done["steps"], done["delivered_step"], done["stopped_early"]) == (20, 12, True)
    assert done["tokens"] == 60, "what was trained, delivered or not"
    third = [event["loss"] for event in said if event["kind"] == "step"][8:12]
    assert done["training_loss"] == pytest.approx(sum(third) / 4)
    assert any("stopped early after 20 of 40 steps: in 2 evaluations" in event.get("message", "") for event in said)


@pytest.mark.parametrize("seed", range(8))
def test_dying_anywhere_delivers_the_same_bits(seed: int, tmp_path: Path) -> None:
    course = replace(COURSE, checkpoint_seconds=[0.0, 1e9][seed % 2], patience=3)
    learner, progress, _ = run(tmp_path / "whole", course, Climber((1.0, 1.4)))
    chance = random.Random(seed)
    for _ in range(8):
        left = chance.randint(1, 25)

        def crash() -> bool:
            nonlocal left
            left -= 1
            return left == 0

        try:
            run(tmp_path / "torn", course, Climber((1.0, 1.4)), crash)
        except Crash:
            continue
        break
    for _ in range(2):
        again, end, _ = run(tmp_path / "torn", course, Climber((1.0, 1.4)))
        assert torch.equal(again.weight, learner.weight)
        assert replace(end, seconds=0.0) == replace(progress, seconds=0.0)


def test_a_run_that_ends_in_time_delivers_its_best_too(tmp_path: Path) -> None:
    learner, progress, said = run(tmp_path, replace(COURSE, steps=16, patience=9))
    assert (progress.outcome()["delivered_step"], progress.outcome()["stopped_early"]) == (10, False)
    assert learner.weight.item() == pytest.approx(1.0, abs=1e-5)
    assert not any(event["kind"] == "log" for event in said)


def test_without_validation_data_it_does_nothing_and_says_so(tmp_path: Path) -> None:
    learner, progress, said = run(tmp_path, learner=Climber(()))
    assert learner.weight.item() == pytest.approx(4.0, abs=1e-4)
    assert progress.outcome()["delivered_step"] == 40
    assert [event["message"] for event in said if event["kind"] == "log"] == [
        "early stopping does nothing here: there is no validation data"
    ]


def test_an_improvement_counts_from_the_last_one_that_did() -> None:
    early = Early()
    kept: list[float] = []
    waits = []
    for step, loss in enumerate([1.0, 0.95, 0.9, 0.89, 0.86, 0.85]):
        kept += [loss] if early.judge(Best(step, loss, 1.0, 1, ()), 9, 0.09, lambda: True) else []
        waits.append(early.waited)
    assert waits == [0, 1, 0, 1, 2, 3]
    assert kept == [1.0, 0.95, 0.9, 0.89, 0.86, 0.85], "what is delivered is the lowest loss, counted or not"
    assert not early.stopped


def test_short_runs_are_evaluated_within_an_epoch() -> None:
    assert [evaluations(patience, epochs, 100) for patience, epochs in [(2, 1), (6, 1), (6, 3), (2, 10)]] == [
        5,
        5,
        3,
        1,
    ]
    assert evaluations(None, 1, 100) == 1
    assert evaluations(10, 1, 3) == 3
    course = replace(COURSE, steps=22, steps_per_epoch=11)
    assert [step for step in range(1, 23) if course.evaluates(step)] == [4, 8, 11, 15, 19, 22]
    assert [step for step in range(23) if replace(course, patience=None).evaluates(step)] == [11, 22]


class FullDisk(Checkpoints):
    """A disk without room for the best weights of one evaluation."""

    @property
    def best(self) -> Checkpoints:
        return NoRoom(self._folder / "best", self._key)


class NoRoom(Checkpoints):
    """Refuses step 12."""

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        if step == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().save(step, tensors, state)


def test_weights_that_cannot_be_kept_are_not_delivered(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    learner = Climber()
    checkpoints = FullDisk(tmp_path, "key")
    progress = train(learner, COURSE, checkpoints, lambda kind, **members: said.append(members), lambda: False)
    assert progress.outcome()["delivered_step"] == 8
    assert learner.weight.item() == pytest.approx(0.8, abs=1e-5)
    assert any(
        "the weights after 12 steps, the best so far, cannot be kept" in event.get("message", "") for event in said
    )


def test_best_weights_that_are_gone_are_missed_by_name(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(OutcropError, match="step-000000099 is gone"):
        Checkpoints(tmp_path, "key").best.at(99)
