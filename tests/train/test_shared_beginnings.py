"""What the examples of a row begin with is computed once, and nothing of losses or gradients changes with it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train.text import SHARED, TextLearner, load_learner, pack
from tests.train.labels import per_label

CPU = torch.device("cpu")
BEGINNING = "answer in one word; be kind. "
SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "initializer_range": 0.2,
}  # fmt: skip
KINDS: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "qwen2, every projection with a bias": lambda: Qwen2Config(**SHAPE),
    "mistral with a window that spares": lambda: MistralConfig(**SHAPE, head_dim=8, sliding_window=4096),
    "mistral with a window of 7": lambda: MistralConfig(**SHAPE, head_dim=8, sliding_window=7),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=8),
    "phi3": lambda: Phi3Config(**SHAPE),
    "gemma2, whose scores are capped": lambda: Gemma2Config(**SHAPE, head_dim=8, sliding_window=9),
    "gemma3, one layer with a window": lambda: Gemma3TextConfig(
        **SHAPE, head_dim=8, sliding_window=9, layer_types=["sliding_attention", "full_attention"]
    ),
}


def plan_of(qwen: Path, folder: Path, beginning: str = BEGINNING) -> Plan:
    """Twelve questions of many lengths behind one beginning, two of them the same."""
    pairs = [
        {"prompt": f"{beginning}{'where ' * (index % 3)}{index % 11}?", "completion": "here " * (1 + index % 4)}
        for index in range(12)
    ]
    source = folder / "pairs.jsonl"
    source.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    assert write_shard(source, "prompt-completion", Encoder.read(qwen), folder / "shard", lambda fault: None) == 0
    return Plan(Shard.open(folder / "shard"), (), 1, 12, seed=5)


def learner_of(config: Any, plan: Plan, folder: Path, method: str, dtype: str = "float32") -> TextLearner:
    torch.manual_seed(2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    learner = load_learner(folder, plan, method=method, rank=2, alpha=4.0, seed=0, device="cpu", dtype=dtype)
    if learner.adapter is not None:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for factors in learner.adapter.factors.values():
                factors.b.normal_(0, 0.05, generator=generator)
    return learner


def outcome(learner: TextLearner, *, share: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What every label costs, and all gradients of their sum in one row."""
    batch = pack(learner._plan.train, list(range(12)), CPU, share=share)
    assert (batch.shared > SHARED) == share
    assert batch.ids.shape[1] == batch.tokens - 11 * batch.shared
    nll = per_label(learner, batch)
    with torch.no_grad():
        total = learner._likelihood(batch)
    torch.testing.assert_close(total, nll.detach().sum(), atol=1e-3, rtol=2e-2 if learner.dtype.itemsize == 2 else 1e-5)
    torch.autograd.backward(learner._likelihood(batch))
    found = []
    for parameter in learner.parameters():
        found.append(torch.zeros(0) if parameter.grad is None else parameter.grad.flatten().float())
        parameter.grad = None
    return nll.detach(), torch.cat(found)


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_whole_examples(kind: str, method: str, qwen: Path, tmp_path: Path) -> None:
    learner = learner_of(KINDS[kind](), plan_of(qwen, tmp_path), tmp_path / "base", method)
    assert learner.layout.shares
    (nll, gradient), (whole_nll, whole_gradient) = (outcome(learner, share=share) for share in (True, False))
    torch.testing.assert_close(nll, whole_nll, atol=5e-5, rtol=1e-4)
    assert whole_gradient.abs().max() > 0.01
    torch.testing.assert_close(gradient, whole_gradient, atol=2e-4, rtol=2e-3)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_bfloat16_is_as_near_to_float32_as_whole_examples_are(kind: str, qwen: Path, tmp_path: Path) -> None:
    plan = plan_of(qwen, tmp_path)
    exact = outcome(learner_of(KINDS[kind](), plan, tmp_path / "base", "lora"), share=False)
    rounded = learner_of(KINDS[kind](), plan, tmp_path / "other", "lora", "bfloat16")
    for ours, whole, truth in zip(outcome(rounded, share=True), outcome(rounded, share=False), exact, strict=True):
        assert (ours - truth).norm() < 1.5 * (whole - truth).norm()


@pytest.mark.parametrize("kind", ["llama", "phi3"])
def test_a_step_shares_by_itself_and_tells_how_much_it_spared(kind: str, qwen: Path, tmp_path: Path) -> None:
    plan = plan_of(qwen, tmp_path)
    learner = learner_of(KINDS[kind](), plan, tmp_path / "base", "lora")
    sharing = learner.learn(0)
    ours = [parameter.grad.clone() for parameter in learner.parameters() if parameter.grad is not None]
    for parameter in learner.parameters():
        parameter.grad = None
    apart = TextLearner(replace(learner.layout, shares=False), plan, learner.adapter)
    whole = apart.learn(0)
    assert whole.spared == 0
    assert sharing.spared == 11 * pack(plan.train, list(range(12)), CPU, share=True).shared
    assert (sharing.tokens, sharing.scored) == (whole.tokens, whole.scored) == (plan.tokens, plan.scored_tokens)
    assert sharing.nll == pytest.approx(whole.nll, rel=1e-5)
    for one, parameter in zip(ours, apart.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, atol=1e-5, rtol=1e-3)


def test_what_spares_little_or_is_learnt_is_not_shared(qwen: Path, tmp_path: Path) -> None:
    (tmp_path / "short").mkdir()
    short = plan_of(qwen, tmp_path / "short", "you are ").train
    assert pack(short, list(range(12)), CPU, share=True).shared == 0
    whole = plan_of(qwen, tmp_path).train
    shared = pack(whole, list(range(12)), CPU, share=True).shared
    assert shared > SHARED
    assert pack(whole, [3], CPU, share=True).shared == 0
    # The same example twice: as far as the place before its first label.
    ids, scored = whole.example(3)
    assert pack(whole, [3, 3], CPU, share=True).shared == int(np.flatnonzero(scored)[0]) - 1
    assert len(ids) > int(np.flatnonzero(scored)[0])
    learnt = replace(whole, scored=whole.scored.copy())
    learnt.scored[learnt.offsets[:-1] + SHARED] = 1
    assert pack(learnt, list(range(12)), CPU, share=True).shared == 0
    learnt.scored[learnt.offsets[:-1] + SHARED + 1] = 1
    learnt.scored[learnt.offsets[:-1] + SHARED] = 0
    assert pack(learnt, list(range(12)), CPU, share=True).shared == SHARED
