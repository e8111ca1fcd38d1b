"""The loop by itself: schedules, resuming at any instant, stopping, numbers that are none, a full disk."""

import errno
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.disk import require_room
from outcrop.train.events import StopAsked
from outcrop.train.loop import Course, Progress, Tally, rate, train

COURSE = Course(
    steps=12, steps_per_epoch=4, learning_rate=0.1, warmup_steps=2, schedule="linear", weight_decay=0.01, clip=1.0,
    checkpoint_seconds=0.0,
)  # fmt: skip


class Line:
    """A learner of its own kind: a small regression whose step draws from torch's random stream."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
        self.bias = nn.Parameter(torch.zeros(2))

    def parameters(self) -> list[nn.Parameter]:
        return [self.weight, self.bias]

    def learn(self, step: int) -> Tally:
        count = 3 + step % 2
        x = torch.rand(count, 3)
        nll = ((x @ self.weight.t() + self.bias - step) ** 2).sum()
        torch.autograd.backward(nll / count)
        return Tally(float(nll.detach()), tokens=2 * count, scored=count)

    def validators(self) -> int:
        return 2

    def evaluate(self, validator: int) -> Iterator[Tally]:
        for piece in range(3):
            value = float(self.weight.detach().abs().sum()) + validator + piece
            yield Tally(value, tokens=4, scored=2)


class Crash(BaseException):
    """As if the process died here."""


def run(
    folder: Path,
    course: Course = COURSE,
    *,
    crash: Callable[[str], bool] = lambda kind: False,
    stop: Callable[[], bool] = lambda: False,
    learner: Line | None = None,
) -> tuple[Line, Progress, list[dict[str, Any]]]:
    """One life of a run; its random stream begins as a fresh process's would."""
    torch.manual_seed(1)
    learner = learner or Line()
    said: list[dict[str, Any]] = []
    diary.append(said)

    def emit(kind: str, **members: Any) -> None:
        said.append({"kind": kind, **members})
        if crash(kind):
            raise Crash

    progress = train(learner, course, Checkpoints(folder, "key"), emit, stop)
    return learner, progress, said


diary: list[list[dict[str, Any]]] = []


def measured(lives: list[list[dict[str, Any]]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Step and eval events by their place, the later one winning."""
    found = {}
    for event in (event for life in lives for event in life):
        if event["kind"] in {"step", "eval"}:
            place = (event["kind"], event["step"], event.get("validator"))
            found[place] = (event["loss"], event.get("gradient_norm"), event.get("learning_rate"))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_dying_anywhere_changes_no_bit(seed: int, tmp_path: Path) -> None:
    diary.clear()
    learner, progress, said = run(tmp_path / "whole")
    chance = random.Random(seed)
    course = replace(COURSE, checkpoint_seconds=chance.choice([0.0, 0.0005, 1e9]))
    diary.clear()
    for _ in range(6):
        left = chance.randint(1, 9)

        def crash(kind: str) -> bool:
            nonlocal left
            left -= 1
            return left == 0

        try:
            run(tmp_path / "torn", course, crash=crash)
        except Crash:
            continue
        break
    again, end, _ = run(tmp_path / "torn", course)
    assert measured(diary) == measured([said])
    assert torch.equal(learner.weight, again.weight)
    assert torch.equal(learner.bias, again.bias)
    same = replace(progress, seconds=0.0)
    assert replace(end, seconds=0.0) == same


def test_every_epoch_ends_with_an_evaluation_and_the_result_is_the_last_epochs(tmp_path: Path) -> None:
    _, progress, said = run(tmp_path)
    kinds = [event["kind"] for event in said if event["kind"] in {"step", "eval"}]
    assert kinds == (["step"] * 4 + ["eval"] * 2) * 3
    last = [event for event in said if event["kind"] == "step"][8:]
    total = sum(event["loss"] * event["scored_tokens"] for event in last)
    assert progress.training_loss == pytest.approx(total / sum(event["scored_tokens"] for event in last), rel=1e-12)
    done = progress.outcome()
    assert done["validation_losses"] == [event["loss"] for event in said if event["kind"] == "eval"][-2:]
    assert done["tokens"] == sum(event["tokens"] for event in said if event["kind"] == "step")
    assert done["perplexity"] == pytest.approx(float(np.exp(done["training_loss"])))


@pytest.mark.parametrize("asked_at", [0, 3, 5, 6, 11, 20])
def test_a_stop_is_kept_as_a_checkpoint_and_nothing_is_lost(asked_at: int, tmp_path: Path) -> None:
    diary.clear()
    _, _, said = run(tmp_path / "whole")
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > asked_at

    diary.clear()
    with pytest.raises(StopAsked) as stopped:
        run(tmp_path / "torn", replace(COURSE, checkpoint_seconds=1e9), stop=stop)
    assert diary[0][-1] == {"kind": "checkpoint", "step": stopped.value.step}
    assert stopped.value.step == sum(event["kind"] == "step" for event in diary[0])
    run(tmp_path / "torn")
    assert measured(diary) == measured([said])


def test_a_stop_that_comes_when_all_is_done_is_too_late(tmp_path: Path) -> None:
    run(tmp_path)
    _, progress, said = run(tmp_path, stop=lambda: True)
    assert progress.step == COURSE.steps
    assert [event["kind"] for event in said] == ["log"]


def test_the_schedule() -> None:
    rates = [rate(COURSE, step) for step in range(12)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert rates[3] == pytest.approx(0.09)
    assert rates[11] == pytest.approx(0.01)
    assert {rate(replace(COURSE, schedule="constant"), step) for step in range(2, 12)} == {0.1}
    cosine = [rate(replace(COURSE, schedule="cosine"), step) for step in range(2, 12)]
    assert cosine == sorted(cosine, reverse=True)
    assert cosine[5] == pytest.approx(0.05)
    assert rate(replace(COURSE, warmup_steps=0), 0) == 0.1
    assert rate(replace(COURSE, warmup_steps=100), 11) == pytest.approx(0.012)
    with pytest.raises(OutcropError, match="unknown learning rate schedule 'steps'"):
        rate(replace(COURSE, schedule="steps"), 5)


class Diverging(Line):
    """A learner whose loss stops being a number."""

    def learn(self, step: int) -> Tally:
        tally = super().learn(step)
        return replace(tally, nll=float("nan")) if step == 3 else tally


def test_a_loss_that_is_no_number_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    diary.clear()
    with pytest.raises(OutcropError, match=r"no longer a number at step 3 .* use a smaller learningRate"):
        run(tmp_path, learner=Diverging())
    assert [event["step"] for event in diary[0] if event["kind"] == "step"] == [0, 1, 2]


def test_a_gradient_larger_than_the_clip_is_scaled_down(tmp_path: Path) -> None:
    _, _, said = run(tmp_path / "a", replace(COURSE, clip=1e-3, weight_decay=0.0))
    assert min(event["gradient_norm"] for event in said if event["kind"] == "step") > 1e-3


class FullDisk(Checkpoints):
    """A disk that fills up after two checkpoints and has room again after two more tries."""

    tries = 0

    def begin(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> "Future[None] | None":
        self.tries += 1
        if self.tries in (3, 4):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().begin(step, tensors, state)


def test_a_full_disk_costs_a_checkpoint_and_not_the_run(tmp_path: Path) -> None:
    said: list[tuple[str, dict[str, Any]]] = []
    train(
        Line(), COURSE, FullDisk(tmp_path, "key"), lambda kind, **members: said.append((kind, members)), lambda: False
    )
    warnings = [members["message"] for kind, members in said if kind == "log"]
    assert len(warnings) == 2
    assert "No space left on device" in warnings[0]
    assert sum(kind == "step" for kind, _ in said) == 12


def test_a_disk_too_small_is_refused_before_the_start(tmp_path: Path) -> None:
    require_room(tmp_path, 1, "the checkpoints")
    with pytest.raises(OutcropError, match="MB free; the checkpoints need 1,000,000,000,000 MB"):
        require_room(tmp_path, 10**18, "the checkpoints")


class SlowDisk(Checkpoints):
    """A disk that has taken nothing in before it is let go."""

    let_go = threading.Event()

    def _settle(self, draft: Path, target: Path) -> None:
        assert self.let_go.wait(60)
        super()._settle(draft, target)


def test_steps_go_on_while_the_disk_takes_a_checkpoint_in(tmp_path: Path) -> None:
    said: list[str] = []

    def emit(kind: str, **members: Any) -> None:
        said.append(kind)
        if said.count("step") == 2:
            SlowDisk.let_go.set()

    SlowDisk.let_go.clear()
    train(Line(), COURSE, SlowDisk(tmp_path, "key"), emit, lambda: False)
    # The first one is begun after the first step, and the second step is what lets it come to rest.
    assert said[:2] == ["step", "step"]
    assert said.count("checkpoint") > 2
    assert said[-1] == "checkpoint"
