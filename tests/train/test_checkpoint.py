"""Checkpoints alone and under a loop: two are kept, damage is met, told and survived, versions are told apart."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from outcrop.train.checkpoint import CHECKSUMS, STATE, TENSORS, VERSION, Checkpoints, Unfit
from outcrop.train.loop import Course, Progress, Tally, train

COURSE = Course(
    steps=12, steps_per_epoch=4, learning_rate=0.1, warmup_steps=2, schedule="linear", weight_decay=0.01, clip=1.0,
    checkpoint_seconds=0.0, patience=9,
)  # fmt: skip


def three(folder: Path) -> Checkpoints:
    """Checkpoints after the third moment was kept."""
    checkpoints = Checkpoints(folder, "one")
    for step in (1, 2, 3):
        checkpoints.save(step, {"x": torch.full((2,), float(step))}, {"note": step})
    return checkpoints


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def truncate(folder: Path) -> None:
    content = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(content[: len(content) // 2])


def flip(folder: Path) -> None:
    """One bit of the last number: a file that every reader would take."""
    content = bytearray((folder / TENSORS).read_bytes())
    content[-1] ^= 1
    (folder / TENSORS).write_bytes(content)


def flip_state(folder: Path) -> None:
    text = (folder / STATE).read_text()
    (folder / STATE).write_text(text.replace('"step": ', '"step": 1'))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a truncated file": truncate,
    "a flipped bit": flip,
    "another state": flip_state,
    "an empty state": lambda folder: (folder / STATE).write_text(""),
    "a state of another kind": lambda folder: (folder / STATE).write_text("[]"),
    "no tensors": lambda folder: (folder / TENSORS).unlink(),
    "no state": lambda folder: (folder / STATE).unlink(),
    "no checksums": lambda folder: (folder / CHECKSUMS).unlink(),
    "broken checksums": lambda folder: (folder / CHECKSUMS).write_text('{"tensors'),
    "nothing": lambda folder: [path.unlink() for path in folder.iterdir()] and None,
}


def test_the_last_two_are_kept_and_what_a_killed_one_left_is_in_nobodys_way(tmp_path: Path) -> None:
    told: list[str] = []
    checkpoints = three(tmp_path)
    assert kept(tmp_path) == ["step-000000002", "step-000000003"]
    found = checkpoints.load(told.append)
    assert found is not None
    assert (found.step, found.state, found.tensors["x"].tolist()) == (3, {"note": 3}, [3.0, 3.0])
    (tmp_path / ".draft").mkdir()
    (tmp_path / ".draft" / TENSORS).write_bytes(b"half")
    checkpoints.save(4, {"x": torch.zeros(1)}, {})
    assert kept(tmp_path) == ["step-000000003", "step-000000004"]
    assert told == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_told_and_the_one_before_is_taken(damage: str, tmp_path: Path) -> None:
    three(tmp_path)
    DAMAGES[damage](tmp_path / "step-000000003")
    told: list[str] = []
    found = Checkpoints(tmp_path, "one").load(told.append)
    assert found is not None
    assert (found.step, found.tensors["x"].tolist()) == (2, [2.0, 2.0])
    (sentence,) = told
    assert sentence.startswith("the checkpoint step-000000003 cannot be taken up: it is damaged (")
    assert kept(tmp_path) == ["step-000000002"], "it would push out the next good ones"


def test_two_damaged_ones_start_the_run_over_and_it_says_so(tmp_path: Path) -> None:
    three(tmp_path)
    flip(tmp_path / "step-000000003")
    truncate(tmp_path / "step-000000002")
    told: list[str] = []
    checkpoints = Checkpoints(tmp_path, "one")
    assert checkpoints.load(told.append) is None
    assert [sentence.split(" cannot")[0] for sentence in told] == [
        "the checkpoint step-000000003",
        "the checkpoint step-000000002",
        "no checkpoint is left to go on from: training starts over, from the first step",
    ]
    checkpoints.save(1, {"x": torch.zeros(1)}, {})
    assert kept(tmp_path) == ["step-000000001"]


def test_those_of_other_work_are_not_taken_up(tmp_path: Path) -> None:
    three(tmp_path)
    told: list[str] = []
    assert Checkpoints(tmp_path, "two").load(told.append) is None
    assert "it belongs to another job, or to other data" in told[0]


def rewrite(folder: Path, **members: Any) -> None:
    """Another version's state, with checksums of its own."""
    from outcrop.durable import checksum

    content = json.loads((folder / STATE).read_text()) | members
    (folder / STATE).write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    (folder / CHECKSUMS).write_text(json.dumps({name: checksum(folder / name) for name in (TENSORS, STATE)}))


def test_one_of_the_first_version_is_gone_on_from(tmp_path: Path) -> None:
    """It had neither a version nor checksums."""
    three(tmp_path)
    rewrite(tmp_path / "step-000000003", version=None)
    (tmp_path / "step-000000003" / CHECKSUMS).unlink()
    told: list[str] = []
    found = Checkpoints(tmp_path, "one").load(told.append)
    assert found is not None
    assert (found.step, told) == (3, [])


def test_one_of_a_newer_version_says_why_it_is_not_taken_up(tmp_path: Path) -> None:
    three(tmp_path)
    rewrite(tmp_path / "step-000000003", version=VERSION + 1)
    told: list[str] = []
    found = Checkpoints(tmp_path, "one").load(told.append)
    assert found is not None
    assert found.step == 2
    assert f"it is of version {VERSION + 1}, made by a newer outcrop; this one reads up to {VERSION}" in told[0]


def test_a_moment_that_was_just_loaded_is_not_written_again(tmp_path: Path) -> None:
    """A stop right after a resume: while the copy took its place there would be none for an instant."""
    three(tmp_path)
    checkpoints = Checkpoints(tmp_path, "one")
    checkpoints.load(lambda sentence: None)
    before = (tmp_path / "step-000000003").stat().st_ino
    checkpoints.save(3, {"x": torch.full((2,), 3.0)}, {"note": 3})
    assert (tmp_path / "step-000000003").stat().st_ino == before
    checkpoints.save(4, {"x": torch.full((2,), 4.0)}, {"note": 4})
    assert kept(tmp_path) == ["step-000000003", "step-000000004"]


class Line:
    """A small regression whose steps draw from torch's random stream; its second evaluation is the best one."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.linspace(-1, 1, 6).reshape(2, 3))
        self.evaluations = 0

    def parameters(self) -> list[nn.Parameter]:
        return [self.weight]

    def learn(self, step: int) -> Tally:
        x = torch.rand(4, 3)
        nll = ((x @ self.weight.t() - step) ** 2).sum()
        torch.autograd.backward(nll / 4)
        return Tally(float(nll.detach()), tokens=8, scored=4)

    def validators(self) -> int:
        return 1

    def evaluate(self, validator: int) -> Iterator[Tally]:
        yield Tally(1.0 + float((self.weight.detach() - 0.5).abs().sum()), tokens=4, scored=2)


def life(
    folder: Path, until: int | None = None, weight: torch.Tensor | None = None
) -> tuple[Line, Progress | None, list[dict[str, Any]]]:
    """One life of a run, cut off before the step `until`."""
    torch.manual_seed(1)
    learner = Line()
    if weight is not None:
        learner.weight = nn.Parameter(weight)
    said: list[dict[str, Any]] = []

    def emit(kind: str, **members: Any) -> None:
        said.append({"kind": kind, **members})
        if kind == "step" and members["step"] == until:
            raise KeyboardInterrupt

    try:
        return learner, train(learner, COURSE, Checkpoints(folder, "key"), emit, lambda: False), said
    except KeyboardInterrupt:
        return learner, None, said


def measured(lives: list[list[dict[str, Any]]]) -> dict[tuple[Any, ...], float]:
    """Losses by their place, the later life winning."""
    events = [event for said in lives for event in said if event["kind"] in {"step", "eval"}]
    return {(event["kind"], event["step"]): event["loss"] for event in events}


@pytest.mark.parametrize("broken", ["newest", "both", "best", "all best"])
def test_a_run_over_damaged_checkpoints_ends_with_the_same_bits(broken: str, tmp_path: Path) -> None:
    expected, whole, story = life(tmp_path / "whole")
    _, none, before = life(tmp_path / "torn", until=9)
    assert none is None
    folder = tmp_path / "torn"
    found, best = sorted(folder.glob("step-*")), sorted((folder / "best").glob("step-*"))
    assert len(found) == 2
    assert best
    match broken:
        case "newest":
            flip(found[1])
        case "both":
            flip(found[0])
            truncate(found[1])
        case "best":
            flip(best[-1])
        case "all best":
            shutil.rmtree(folder / "best")
    learner, progress, after = life(folder)
    assert any("cannot be taken up" in event.get("message", "") for event in after)
    assert measured([before, after]) == measured([story])
    assert torch.equal(learner.weight, expected.weight)
    assert progress is not None
    assert whole is not None
    assert {**progress.outcome(), "seconds": 0} == {**whole.outcome(), "seconds": 0}


def test_what_the_run_cannot_use_is_not_taken_up(tmp_path: Path) -> None:
    life(tmp_path / "one", until=5)
    _, progress, said = life(tmp_path / "one", weight=torch.zeros(1, 3))
    assert progress is not None
    assert "its tensors are not those of this run" in said[0]["message"]
    life(tmp_path / "two", until=5)
    for folder in (tmp_path / "two").glob("step-*"):
        state = json.loads((folder / STATE).read_text())["state"]
        rewrite(folder, state=state | {"a_member_of_another_time": 1})
    _, _, said = life(tmp_path / "two")
    assert "this version does not understand its state" in said[0]["message"]


def test_best_weights_that_are_gone_are_missed_by_name(tmp_path: Path) -> None:
    with pytest.raises(Unfit, match="step-000000099 is gone"):
        Checkpoints(tmp_path, "key").best.at(99)
