"""Architectures that cannot be packed are found out and trained a segment at a time, with plain transformers' loss."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    FalconConfig,
    GptOssConfig,
    Lfm2Config,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MixtralConfig,
    Phi3Config,
    Phi3ForCausalLM,
    PhimoeConfig,
    StableLmConfig,
)

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train import attention
from outcrop.train.layout import Layout
from outcrop.train.text import load_learner, pack
from tests.train.labels import per_label

CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": None, "initializer_range": 0.2,
}  # fmt: skip
HEADS = {"vocab_size": 320, "hidden_size": 64, "num_attention_heads": 4, "bos_token_id": 0, "eos_token_id": 1}
ALONE: dict[str, tuple[Callable[[], Any], str]] = {
    "attention that is not told": (lambda: StableLmConfig(**SHAPE), "does not hand on its segments"),
    "attention that ignores it": (lambda: FalconConfig(**HEADS, num_hidden_layers=2), "an attention of its own"),
    "no positions": (lambda: BloomConfig(vocab_size=320, hidden_size=64, n_layer=2, n_head=4), "attention of its own"),
    "a recurrence": (lambda: MambaConfig(vocab_size=320, hidden_size=64, num_hidden_layers=2), "takes no positions"),
    "convolutions": (lambda: Lfm2Config(**SHAPE, layer_types=["conv", "full_attention"]), "see each other"),
    "sinks in attention": (
        lambda: GptOssConfig(**SHAPE, num_local_experts=4, head_dim=16, sliding_window=4),
        "asks for s_aux",
    ),
    "windows of the mask": (
        lambda: PhimoeConfig(**SHAPE, num_local_experts=2, sliding_window=8), "leaves a window to its mask",
    ),
    "chunks": (
        lambda: Llama4TextConfig(
            **SHAPE, head_dim=16, intermediate_size_mlp=96, num_local_experts=2, attention_chunk_size=8
        ),
        "leaves a window to its mask",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")  # Mamba's own, about kernels that are not installed
@pytest.mark.parametrize("kind", ALONE)
def test_what_cannot_be_packed_is_trained_segment_by_segment(
    kind: str, qwen: Path, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    make, reason = ALONE[kind]
    torch.manual_seed(3)
    folder = tmp_path / "base"
    AutoModelForCausalLM.from_config(make()).save_pretrained(folder)
    write_shard(write_pairs(6), "prompt-completion", Encoder.read(qwen), tmp_path / "shard", lambda fault: None)
    plan = Plan(Shard.open(tmp_path / "shard"), (), 1, 6, seed=0)
    learner = load_learner(folder, plan, method="full", rank=0, alpha=0.0, seed=0, device="cpu")
    assert reason in str(learner.layout.alone)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    order = [4, 1, 5, 0]
    packed = per_label(learner, pack(plan.train, order, CPU))
    alone = []
    for index in order:
        ids, marks = (torch.from_numpy(part.astype(np.int64)) for part in plan.train.example(index))
        logits = plain(input_ids=ids.unsqueeze(0), use_cache=False).logits[0, :-1].float()
        alone.append(cross_entropy(logits, ids[1:], reduction="none")[marks[1:].bool()])
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-4, rtol=1e-4)
    tally = learner.learn(0)
    assert tally.scored == plan.scored_tokens
    # Experts that no token chose have no gradient; everything else has one.
    assert sum(parameter.grad is not None for parameter in learner.parameters()) > len(learner.parameters()) / 2
    tuned = load_learner(folder, plan, method="lora", rank=2, alpha=4.0, seed=0, device="cpu")
    assert tuned.learn(0).nll == pytest.approx(tally.nll, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("experts", [False, True])
def test_what_can_be_packed_is(experts: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    more = {"num_local_experts": 4, "num_experts_per_tok": 2}
    config = MixtralConfig(**SHAPE, **more) if experts else LlamaConfig(**SHAPE)
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    assert Layout.of(model).alone is None
    assert model.config._attn_implementation == attention.NAME


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_leak_is_seen_in_either_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(4)
    model = AutoModelForCausalLM.from_config(ALONE["convolutions"][0]()).to(dtype)
    assert "see each other" in str(Layout.of(model.eval()).alone)


def test_segments_without_labels_are_passed_over() -> None:
    torch.manual_seed(4)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()
    layout = Layout(model, "for this test", keeps=True)
    ids = torch.arange(9).unsqueeze(0)
    none, some = torch.tensor([], dtype=torch.int64), torch.tensor([4, 5])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0, 1, 2]])
    with torch.no_grad():
        assert layout.logits(ids, positions, (4, 2, 3), none).shape == (0, 320)
        found = layout.logits(ids, positions, (4, 2, 3), some)
        torch.testing.assert_close(found, model(ids[:, 4:6]).logits[0])


def rotated(kind: str) -> Any:
    """Models of which texts beyond 16 tokens bend the frequencies of everything beside them."""
    torch.manual_seed(5)
    if kind == "dynamic":
        rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 4.0}
        return LlamaForCausalLM(LlamaConfig(**{**SHAPE, "max_position_embeddings": 16}, rope_parameters=rope))
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0 + place for place in range(8)]}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "original_max_position_embeddings": 16, **factors}
    shape = {**SHAPE, "pad_token_id": 0, "max_position_embeddings": 64}
    return Phi3ForCausalLM(Phi3Config(**shape, original_max_position_embeddings=16, rope_parameters=rope))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_long_neighbour_does_not_bend_a_short_segment(kind: str) -> None:
    layout = Layout.of(rotated(kind).eval())
    assert layout.alone is None
    assert "more than 16 tokens are trained one by one" in str(layout.slower)
    short, beside, long = (torch.arange(length).unsqueeze(0) * 7 % 320 for length in (12, 9, 60))
    places = [torch.arange(length) for length in (12, 9, 60)]
    rows, targets = torch.arange(12), torch.arange(12) * 5 % 320

    def seen(ids: list[torch.Tensor], positions: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        given = torch.cat(ids, dim=1), torch.cat(positions).unsqueeze(0), tuple(len(one) for one in positions)
        with torch.no_grad():
            return layout.logits(*given, rows), layout.likelihood(*given, rows, targets, 1.0)

    alone = seen([short], places[:1])
    for found in (seen([short, beside], places[:2]), seen([short, long], [places[0], places[2]])):
        for one, other in zip(found, alone, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
