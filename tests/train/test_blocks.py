"""Layers written out by hand against transformers' own: values and every gradient, whatever is adapted or trained."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama import modeling_llama

from outcrop.lora import Adapters, LoraAdapter
from outcrop.train import block
from outcrop.train.layout import Layout

SHAPE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
KINDS: dict[str, Any] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama with every bias": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=4)),
}
SEGMENTS = (3, 3, 4, 1)
LONG = (7, 3, 1)
"""Longer than mistral's window: its layers take such rows the old way."""


def layout_of(kind: str, dtype: torch.dtype = torch.float32) -> Layout:
    torch.manual_seed(7)
    # The same numbers in either width: only what is made of them is rounded.
    model = KINDS[kind]().bfloat16().to(dtype).eval()
    model.requires_grad_(False)
    # Norms whose weights are all one would hide half of their gradient.
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1:
            parameter.data.copy_((1 + 0.3 * torch.randn(parameter.shape)).bfloat16())
        assert parameter.dtype == dtype, name
    return Layout.of(model)


def adapt(model: Any, *, twice: bool) -> list[torch.nn.Parameter]:
    adapters, found = Adapters(model), []
    names = ("parent", "trained") if twice else ("trained",)
    for seed, name in enumerate(names):
        adapter = LoraAdapter.new(model, 3, 6.0, seed)
        generator = torch.Generator().manual_seed(seed)
        for factors in adapter.factors.values():
            factors.b.data.normal_(0, 0.3, generator=generator)
        adapters.attach(name, adapter)
        if name == "trained":
            found = adapter.parameters()
        else:
            for factors in adapter.factors.values():
                factors.a.requires_grad_(False)
                factors.b.requires_grad_(False)
    adapters.act(*names)
    return found


def outcome(layout: Layout, trained: Sequence[torch.Tensor], segments: tuple[int, ...]) -> list[torch.Tensor]:
    """The loss at every second place, and its gradient in everything that is trained."""
    total = sum(segments)
    ids = (torch.arange(total) * 29 % 320).unsqueeze(0)
    positions = torch.cat([torch.arange(length) for length in segments]).unsqueeze(0)
    rows = torch.arange(0, total, 2)
    loss = layout.likelihood(ids, positions, segments, rows, rows * 17 % 320, 0.25)
    loss.backward()  # type: ignore[no-untyped-call]
    found = [loss.detach()]
    for parameter in trained:
        assert parameter.grad is not None
        found.append(parameter.grad.clone())
        parameter.grad = None
    return found


def compared(layout: Layout, trained: Sequence[torch.Tensor], segments: tuple[int, ...]) -> tuple[Any, Any]:
    assert layout.blocks
    ours = outcome(layout, trained, segments)
    block.remove(layout.model)
    return ours, outcome(Layout(layout.model, None, layout.keeps), trained, segments)


@pytest.mark.parametrize("segments", [SEGMENTS, LONG])
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_adapters_learn_as_in_transformers(kind: str, twice: bool, segments: tuple[int, ...]) -> None:
    layout = layout_of(kind)
    ours, theirs = compared(layout, adapt(layout.model, twice=twice), segments)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_models_learn_as_in_transformers(kind: str) -> None:
    layout = layout_of(kind)
    layout.model.requires_grad_(True)
    ours, theirs = compared(layout, list(layout.model.parameters()), SEGMENTS)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-6, rtol=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_as_near_to_float32_as_transformers_is(kind: str) -> None:
    exact = layout_of(kind)
    truth = torch.cat([one.flatten() for one in outcome(exact, adapt(exact.model, twice=False), SEGMENTS)[1:]])
    rounded = layout_of(kind, torch.bfloat16)
    both = compared(rounded, adapt(rounded.model, twice=False), SEGMENTS)
    ours, theirs = (torch.cat([one.flatten() for one in found[1:]]) for found in both)
    assert (ours - truth).norm() < 1.5 * (theirs - truth).norm()
    assert (ours - truth).norm() < 0.03 * truth.norm()


def test_only_layers_whose_arithmetic_it_is_are_replaced() -> None:
    torch.manual_seed(7)
    assert not block.installable(Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=12)))
    assert not block.installable(LlamaForCausalLM(LlamaConfig(**SHAPE, hidden_act="gelu")))


def test_layers_of_other_arithmetic_under_a_known_name_stay_and_it_is_told() -> None:
    class LlamaDecoderLayer(modeling_llama.LlamaDecoderLayer):
        def forward(self, *given: Any, **more: Any) -> torch.Tensor:
            found: torch.Tensor = super().forward(*given, **more)
            return found * 1.5

    torch.manual_seed(7)
    model = KINDS["llama"]()
    for layer in model.model.layers:
        layer.__class__ = LlamaDecoderLayer
    layout = Layout.of(model.eval())
    assert not layout.blocks
    assert [type(layer) for layer in model.model.layers] == [LlamaDecoderLayer] * len(model.model.layers)
    assert layout.slower is not None
    assert "slower than in blocks: with blocks LlamaForCausalLM's logits are off by" in layout.slower


def test_names_and_order_of_parameters_stay() -> None:
    torch.manual_seed(7)
    model = KINDS["qwen2"]()
    before = [name for name, _ in model.named_parameters()], list(model.state_dict())
    assert block.installable(model)
    block.install(model)
    assert ([name for name, _ in model.named_parameters()], list(model.state_dict())) == before
    block.remove(model)
    assert ([name for name, _ in model.named_parameters()], list(model.state_dict())) == before
