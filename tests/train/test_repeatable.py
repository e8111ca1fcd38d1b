"""What is told to torch where a GPU trains, tried on a CPU: the switches are the same, and so are some refusals."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train import repeatable
from outcrop.train.text import TextLearner, load_learner


@pytest.fixture(autouse=True)
def switches(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As they were, afterwards."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


@pytest.fixture
def plan(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    write_shard(write_pairs(24), "prompt-completion", Encoder.read(llama), tmp_path / "shard", lambda fault: None)
    return Plan(Shard.open(tmp_path / "shard"), (), 1, 3, seed=5)


def learner_of(base: Path, plan: Plan, method: str, dtype: str, device: str = "cpu") -> TextLearner:
    return load_learner(base, plan, method=method, rank=4, alpha=8.0, seed=3, device=device, dtype=dtype)


def grads(learner: TextLearner) -> list[torch.Tensor | None]:
    return [one.grad for one in (*learner.parameters(), *learner.model.parameters())]


@pytest.mark.parametrize(("method", "dtype"), [("lora", "float32"), ("full", "bfloat16")])
def test_a_step_is_tried_and_nothing_of_it_stays(llama: Path, plan: Plan, method: str, dtype: str) -> None:
    repeatable.prepare()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    repeatable.insist()
    learner = learner_of(llama, plan, method, dtype)
    before, drawn = [one.detach().clone() for one in learner.parameters()], torch.get_rng_state()
    assert repeatable.tried(learner, plan) is None
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled(), "else flash attention would not care"
    assert all(one is None for one in grads(learner))
    assert all(torch.equal(one, other) for one, other in zip(before, learner.parameters(), strict=True))
    assert torch.equal(drawn, torch.get_rng_state())


def test_what_cannot_be_repeated_is_allowed_and_told(llama: Path, plan: Plan) -> None:
    repeatable.insist()
    learner = learner_of(llama, plan, "lora", "float32")

    def unordered(_module: object, _inputs: object, output: torch.Tensor) -> None:
        # Of which torch has no way that repeats itself, on a CPU either.
        torch.zeros(4).put_(torch.tensor([0, 0]), output.detach().flatten()[:2])

    hook = learner.model.get_input_embeddings().register_forward_hook(unordered)
    said = repeatable.tried(learner, plan)
    assert said is not None
    assert said.endswith("than it would have: put_ does not have a deterministic implementation, but you set "
                         "'torch.use_deterministic_algorithms(True)'")  # fmt: skip
    assert all(one is None for one in grads(learner))
    learner.learn(0)
    hook.remove()


def test_other_faults_are_not_taken_for_that(llama: Path, plan: Plan) -> None:
    repeatable.insist()
    learner = learner_of(llama, plan, "lora", "float32")

    def broken(_module: object, _inputs: object) -> None:
        raise RuntimeError("the device is gone")

    learner.model.get_input_embeddings().register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="the device is gone"):
        repeatable.tried(learner, plan)


def test_nothing_is_tried_where_nobody_insisted(llama: Path, plan: Plan) -> None:
    learner = learner_of(llama, plan, "lora", "float32")
    learner.model.register_forward_pre_hook(lambda *_: pytest.fail("a step was taken"))
    assert repeatable.tried(learner, plan) is None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU; run `pytest -m cuda` on a machine with one")
def test_a_gpu_s_steps_repeat_to_the_last_bit(llama: Path, plan: Plan) -> None:
    repeatable.prepare()
    found = []
    for _ in range(2):
        learner = learner_of(llama, plan, "lora", "bfloat16", "cuda")
        repeatable.insist()
        assert repeatable.tried(learner, plan) is None
        for step in range(3):
            learner.learn(step)
        found.append([one.grad for one in learner.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
