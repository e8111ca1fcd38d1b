"""Layers that are computed again on their way back: the same bits, whatever they are and whatever learns."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train import recompute
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.events import StopAsked
from outcrop.train.loop import Course, train
from outcrop.train.text import TextLearner, load_learner

LAYERS = 3
DROPOUT = "dropout that is off"
SHAPE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0,
    "eos_token_id": 1, "pad_token_id": None, "initializer_range": 0.2,
}  # fmt: skip
KINDS: dict[str, Callable[[], Any]] = {
    "llama, in blocks": lambda: LlamaConfig(**SHAPE),
    "qwen2, in blocks": lambda: Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "mistral, with a window": lambda: MistralConfig(**SHAPE, sliding_window=8),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=16),
    "gemma2, which bends its scores": lambda: Gemma2Config(**SHAPE, head_dim=16),
    "a mixture of experts": lambda: MixtralConfig(**SHAPE, num_local_experts=4),
    "one by one": lambda: StableLmConfig(**SHAPE),
    DROPOUT: lambda: GPT2Config(
        vocab_size=320, n_embd=64, n_layer=LAYERS, n_head=4, n_positions=256, bos_token_id=0, eos_token_id=1
    ),
}


@pytest.fixture
def plan(qwen: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    write_shard(write_pairs(24), "prompt-completion", Encoder.read(qwen), tmp_path / "shard", lambda fault: None)
    return Plan(Shard.open(tmp_path / "shard"), (), 1, 6, seed=0)


def base_of(kind: str, folder: Path) -> Path:
    torch.manual_seed(3)
    AutoModelForCausalLM.from_config(KINDS[kind]()).save_pretrained(folder)  # type: ignore[no-untyped-call]
    return folder


def learner_of(base: Path, plan: Plan, method: str, dtype: torch.dtype) -> TextLearner:
    return load_learner(base, plan, method=method, rank=4, alpha=8.0, seed=0, device="cpu", dtype=dtype)


def passes(learner: TextLearner) -> Counter[int]:
    """How often each layer's second half is gone through forwards, counted from now on."""
    found: Counter[int] = Counter()
    for place, layer in enumerate(learner.model.base_model.layers):
        norm = layer.post_attention_layernorm
        # Blocks do not call the norm but read its weight: both ask for this module.
        norm.register_forward_hook(lambda *_, place=place: found.update([place]))
    return found


def learnt(learner: TextLearner) -> list[Any]:
    """Losses of two steps and every gradient of either."""
    found: list[Any] = []
    for step in range(2):
        found.append(learner.learn(step).nll)
        found += [None if one.grad is None else one.grad.clone() for one in learner.parameters()]
    return found


def half_done(losses: list[float]) -> bool:
    return len(losses) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "method"),
    # GPT-2 has no linear layer that LoRA adapts.
    [(kind, method) for kind in KINDS for method in ("lora", "full") if (kind, method) != (DROPOUT, "lora")],
)
def test_losses_and_gradients_are_the_same_bits(
    kind: str, method: str, dtype: torch.dtype, plan: Plan, tmp_path: Path
) -> None:
    base = base_of(kind, tmp_path / "base")
    plain, again = (learner_of(base, plan, method, dtype) for _ in range(2))
    assert again.layout.blocks == ("block" in kind or "window" in kind)
    assert recompute.install(again.model) == LAYERS
    for one, other in zip(learnt(plain), learnt(again), strict=True):
        if isinstance(one, torch.Tensor):
            assert isinstance(other, torch.Tensor)
            assert torch.equal(one, other)
        else:
            assert one == other
    assert any(isinstance(one, torch.Tensor) and bool(one.abs().max() > 0) for one in learnt(again))


def test_layers_keep_their_inputs_alone(plan: Plan, tmp_path: Path) -> None:
    base = base_of("llama, in blocks", tmp_path / "base")
    kept = {}
    for again in (False, True):
        learner = learner_of(base, plan, "lora", torch.float32)
        if again:
            recompute.install(learner.model)
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        weights = {one.untyped_storage().data_ptr() for one in (*learner.model.parameters(), *learner.parameters())}
        batch = next(learner._batches(plan.train, plan.examples(0)))
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = learner._likelihood(batch)
        kept[again] = sum(size for place, size in sizes.items() if place not in weights)
        loss.backward()  # type: ignore[no-untyped-call]
    row = batch.ids.shape[1] * SHAPE["hidden_size"] * 4
    assert kept[False] > 10 * LAYERS * row
    # Each layer's own input, tables of positions, and what the head made of the last rows.
    assert kept[True] < (LAYERS + 3) * row


def test_names_stay_and_scoring_is_done_once(plan: Plan, tmp_path: Path) -> None:
    learner = learner_of(base_of("qwen3", tmp_path / "base"), plan, "lora", torch.float32)
    names = list(learner.model.state_dict())
    recompute.install(learner.model)
    assert list(learner.model.state_dict()) == names
    found = passes(learner)
    batch = next(learner._batches(plan.train, plan.examples(0)))
    with torch.no_grad():
        learner.logits(batch)
    assert found == dict.fromkeys(range(LAYERS), 1)
    found.clear()
    learner.learn(0)
    assert found == dict.fromkeys(range(LAYERS), 2)


def test_a_run_goes_on_either_way(plan: Plan, tmp_path: Path) -> None:
    """Free memory may be another when a run is resumed: the rest is the same all the same."""
    base = base_of("qwen2, in blocks", tmp_path / "base")
    course = Course(4, 4, 1e-2, 0, "linear", 0.0, 1.0, 1e9)
    ends = []
    for name, halves in (("plain", (False,)), ("again", (True,)), ("first", (True, False)), ("then", (False, True))):
        losses: list[float] = []

        def emit(kind: str, losses: list[float] = losses, **members: Any) -> None:
            losses.extend([members["loss"]] if kind == "step" else [])

        for life, again in enumerate(halves):
            learner = learner_of(base, plan, "full", torch.bfloat16)
            if again:
                recompute.install(learner.model)
            checkpoints = Checkpoints(tmp_path / name, "work")
            if life == len(halves) - 1:
                train(learner, course, checkpoints, emit, lambda: False)
            else:
                with pytest.raises(StopAsked):
                    train(learner, course, checkpoints, emit, partial(half_done, losses))
        ends.append((losses, [one.detach().clone() for one in learner.parameters()]))
    assert len(ends[0][0]) == 4
    for losses, numbers in ends[1:]:
        assert losses == ends[0][0]
        assert all(torch.equal(one, other) for one, other in zip(numbers, ends[0][1], strict=True))
