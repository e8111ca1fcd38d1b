"""Whole models whose products are bfloat16: masters learn as float32 does, resume to the bit, and are what is saved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.events import StopAsked
from outcrop.train.loop import Course, train
from outcrop.train.text import TextLearner, load_learner

COURSE = Course(
    steps=8, steps_per_epoch=8, learning_rate=2e-4, warmup_steps=2, schedule="linear", weight_decay=0.01, clip=1.0,
    checkpoint_seconds=1e9,
)  # fmt: skip


@pytest.fixture
def plan(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    write_shard(write_pairs(24), "prompt-completion", Encoder.read(llama), tmp_path / "shard", lambda fault: None)
    return Plan(Shard.open(tmp_path / "shard"), (), 1, 3, seed=5)


def whole(base: Path, plan: Plan, dtype: str) -> TextLearner:
    return load_learner(base, plan, method="full", rank=0, alpha=0.0, seed=3, device="cpu", dtype=dtype)


def run(learner: TextLearner, folder: Path, stop_at: int | None = None) -> list[float]:
    losses: list[float] = []

    def emit(kind: str, **members: Any) -> None:
        if kind == "step":
            losses.append(members["loss"])

    train(learner, COURSE, Checkpoints(folder, "k"), emit, lambda: len(losses) == stop_at)
    return losses


@pytest.mark.parametrize("base", ["llama", "qwen"])
def test_losses_and_weights_stay_near_float32(
    base: str, plan: Plan, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(base)
    exact, rounded = whole(folder, plan, "float32"), whole(folder, plan, "bfloat16")
    assert {one.dtype for one in rounded.model.parameters()} == {torch.bfloat16}
    assert {one.dtype for one in rounded.parameters()} == {torch.float32}
    start = [one.detach().clone() for one in exact.parameters()]
    wanted, found = run(exact, tmp_path / "exact"), run(rounded, tmp_path / "rounded")
    # Two steps of warm-up and a small rate: what bfloat16 alone would lose, as a weight moves by less than it can tell.
    assert found == pytest.approx(wanted, rel=1e-2)
    assert rounded.learn(0).nll < exact.learn(0).scored * wanted[0]
    moved = torch.cat([(one - before).flatten() for before, one in zip(start, exact.parameters(), strict=True)])
    apart = torch.cat([(a - b).flatten() for a, b in zip(exact.parameters(), rounded.parameters(), strict=True)])
    assert apart.norm() < 0.35 * moved.norm()


def test_the_model_is_its_masters_roundings(llama: Path, plan: Plan, tmp_path: Path) -> None:
    learner = whole(llama, plan, "bfloat16")
    run(learner, tmp_path / "run")
    learner.learn(0)
    for narrow, master in zip(learner.model.parameters(), learner.parameters(), strict=True):
        assert torch.equal(narrow, master.bfloat16())
        assert narrow.grad is None
        assert master.grad is not None
        assert master.grad.dtype == torch.float32


def test_gradients_of_pieces_add_up_in_float32(llama: Path, plan: Plan) -> None:
    learner = whole(llama, plan, "bfloat16")
    learner.learn(0)
    whole_step = [one.grad.clone() for one in learner.parameters() if one.grad is not None]
    for one in learner.parameters():
        one.grad = None
    learner._budget = 20
    learner.learn(0)
    for parameter, once in zip(learner.parameters(), whole_step, strict=True):
        assert parameter.grad is not None
        assert (parameter.grad - once).norm() < 0.03 * once.norm()


def test_a_stop_in_the_middle_changes_no_bit(llama: Path, plan: Plan, tmp_path: Path) -> None:
    straight = whole(llama, plan, "bfloat16")
    losses = run(straight, tmp_path / "straight")
    with pytest.raises(StopAsked):
        run(whole(llama, plan, "bfloat16"), tmp_path / "torn", stop_at=5)
    again = whole(llama, plan, "bfloat16")
    assert run(again, tmp_path / "torn") == losses[5:]
    for one, other in zip(straight.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_saved_are_the_masters(llama: Path, plan: Plan, tmp_path: Path) -> None:
    learner = whole(llama, plan, "bfloat16")
    run(learner, tmp_path / "run")
    masters = [one.detach().clone() for one in learner.parameters()]
    learner.save(tmp_path / "model", llama, "llama")
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    # The base is stored in float32, so nothing may be rounded on the way.
    for one, other in zip(saved.parameters(), masters, strict=True):
        assert torch.equal(one, other)


def test_the_best_weights_of_a_run_reach_the_model(llama: Path, plan: Plan, tmp_path: Path) -> None:
    held = replace(plan, validation=(plan.train,))
    learner = load_learner(llama, held, method="full", rank=0, alpha=0.0, seed=3, device="cpu", dtype="bfloat16")
    before = sum(tally.nll for tally in learner.evaluate(0))
    kept = [one.detach().clone() for one in learner.parameters()]
    run(learner, tmp_path / "run")
    assert sum(tally.nll for tally in learner.evaluate(0)) < before
    with torch.no_grad():
        for one, old in zip(learner.parameters(), kept, strict=True):
            one.copy_(old)
    assert sum(tally.nll for tally in learner.evaluate(0)) == before
