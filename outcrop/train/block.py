"""The two halves of a Llama-like layer as one step of autograd each, for training on a CPU.

Autograd keeps more than is needed and goes over memory more often than the products that are the work: norms in
float32, sums of gradients, copies. Here each half is written out forwards and backwards. Only layers of classes whose
arithmetic this is are taken, and the whole model is compared with itself before it is trained so (layout). Knows
transformers' layers by their members; nothing of plans or losses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.train import causal, fused, norm, rows
from outcrop.train.attention import runs, sliding_window_spares
from outcrop.train.bundle import Bundle, Wiring, wire

KINDS: Final = frozenset({"LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer"})
"""Layers of transformers that are: norm, rotated attention, sum; norm, gated silu, sum."""


class Block(nn.Module):
    """In the place of a layer, around the same modules under the same names."""

    def __init__(self, layer: Any, *, last: bool) -> None:
        super().__init__()
        self.self_attn, self.mlp = layer.self_attn, layer.mlp
        self.input_layernorm = layer.input_layernorm
        self.post_attention_layernorm = layer.post_attention_layernorm
        # In a tuple, so that torch does not take it for a submodule and state_dict stays the model's own.
        self._replaced = (layer,)
        self._last = last

    @property
    def replaced(self) -> Any:
        """The layer that this one stands for."""
        return self._replaced[0]

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        *,
        segments: Sequence[int] | None = None,
        shared: int = 0,
        wanted: Tensor | None = None,
        **rest: Any,
    ) -> Tensor:
        """As the layer's own; `wanted`: the places that matter afterwards, all that the last layer returns."""
        # Qwen2 has windows in some of its layers and says so in each; Mistral in all of them.
        everywhere = getattr(self.self_attn.config, "sliding_window", None)
        window = getattr(self.self_attn, "sliding_window", everywhere)
        by_kernel = fused.takes(hidden_states.device, hidden_states.dtype, self.self_attn.head_dim)
        if (
            segments is None
            or position_embeddings is None
            or not (by_kernel or sliding_window_spares(segments, window, shared))
        ):
            found: Tensor = self.replaced(
                hidden_states,
                attention_mask=attention_mask,
                position_embeddings=position_embeddings,
                segments=segments,
                shared=shared,
                **rest,
            )
            return found if wanted is None or not self._last else found[:, wanted]
        if attention_mask is not None:
            raise OutcropError(f"{type(self.replaced).__name__} is not plainly causal, so segments cannot be packed")
        cut = _Cut(tuple(runs(segments)), shared, window, by_kernel)
        x = self._attend(hidden_states[0], position_embeddings, cut)
        if self._last and wanted is not None:
            x = x.index_select(0, wanted)
        return self._think(x).unsqueeze(0)

    def _attend(self, x: Tensor, positions: tuple[Tensor, Tensor], cut: "_Cut") -> Tensor:
        attention, before = self.self_attn, self.input_layernorm
        first, tensors = wire([attention.q_proj, attention.k_proj, attention.v_proj])
        second, more = wire([attention.o_proj])
        shape = _Shape(first, second, before.variance_epsilon, cut, attention.head_dim, attention.scaling)
        cos, sin = (one[0] for one in positions)
        found: Tensor = _Attending.apply(x, before.weight, shape, cos, sin, *tensors, *more)  # type: ignore[no-untyped-call]
        return found

    def _think(self, x: Tensor) -> Tensor:
        before = self.post_attention_layernorm
        first, tensors = wire([self.mlp.gate_proj, self.mlp.up_proj])
        second, more = wire([self.mlp.down_proj])
        shape = _Shape(first, second, before.variance_epsilon)
        found: Tensor = _Thinking.apply(x, before.weight, shape, *tensors, *more)  # type: ignore[no-untyped-call]
        return found


def installable(model: Any) -> bool:
    """Whether a model's layers are such that blocks can stand for them, and blocks would be faster."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList) or next(model.parameters()).device.type != "cpu":
        return False
    return all(type(layer).__name__ in KINDS and _plain(layer) for layer in layers)


def install(model: Any) -> None:
    """Put blocks in the place of the layers of a model that is installable."""
    layers = model.base_model.layers
    for place, layer in enumerate(layers):
        layers[place] = Block(layer, last=place == len(layers) - 1)


def remove(model: Any) -> None:
    """Put the layers back that install() replaced."""
    layers = model.base_model.layers
    for place, layer in enumerate(layers):
        layers[place] = layer.replaced


def _plain(layer: Any) -> bool:
    """Whether the gate is bent by silu: the classes leave that to the configuration."""
    return isinstance(layer.mlp.act_fn, nn.SiLU) or type(layer.mlp.act_fn).__name__ == "SiLUActivation"


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a row falls into segments, and by which way each sees itself."""

    runs: causal.Runs = ()
    shared: int = 0
    """Tokens from which all of them go on."""
    window: int | None = None
    by_kernel: bool = False

    def attend(self, heads: causal.Heads, scale: float) -> tuple[Tensor, list[Tensor]]:
        """See causal.attend()."""
        if self.by_kernel:
            return fused.attend(heads, self.runs, scale, self.shared, self.window)
        return causal.attend(heads, self.runs, scale, self.shared)

    def descend(self, above: Tensor, heads: causal.Heads, kept: Sequence[Tensor], scale: float) -> causal.Heads:
        """See causal.descend()."""
        if self.by_kernel:
            return fused.descend(above, heads, kept, self.runs, scale, self.shared, self.window)
        return causal.descend(above, heads, kept, self.runs, scale, self.shared)


_WHOLE: Final = _Cut()


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a half's arithmetic follows beside its tensors."""

    first: tuple[Wiring, ...]
    second: tuple[Wiring, ...]
    eps: float
    cut: _Cut = _WHOLE
    width: int = 0
    """Of a head."""
    scale: float = 0.0

    def bundles(self, tensors: Sequence[Tensor]) -> tuple[Bundle, Bundle]:
        """Both sets of layers, of the tensors that wire() gave."""
        left = iter(tensors)
        return Bundle(self.first, left), Bundle(self.second, left)

    def split(self, learns: Sequence[bool]) -> tuple[Sequence[bool], Sequence[bool]]:
        """Which tensors learn, of either set."""
        count = sum(1 + wiring.biased + 2 * len(wiring.scales) for wiring in self.first)
        return learns[:count], learns[count:]


class _Attending(torch.autograd.Function):
    """x + o(attention(rotated q(norm x), rotated k(norm x), v(norm x)))."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any, x: Tensor, weight: Tensor, shape: _Shape, cos: Tensor, sin: Tensor, *tensors: Tensor
    ) -> Tensor:
        """(T, width) to the same."""
        first, second = shape.bundles(tensors)
        even, scale = norm.normed(x, weight, shape.eps)
        made, low = first(even)
        q, k, v = (one.view(len(x), -1, shape.width) for one in made)
        q, k = rows.turned(q, cos, sin), rows.turned(k, cos, sin)
        answers, kept = shape.cut.attend(_heads(q, k, v), shape.scale)
        (y,), low_out = second(answers.view(len(x), -1))
        ctx.shape, ctx.count = shape, len(tensors)
        ctx.save_for_backward(x, weight, cos, sin, *tensors, even, scale, q, k, v, answers, low, low_out, *kept)
        return y.add_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, the norm's weight and all tensors that learn."""
        (above,) = gradients
        x, weight, cos, sin, *rest = ctx.saved_tensors
        tensors, (even, scale, q, k, v, answers, low, low_out, *kept) = rest[: ctx.count], rest[ctx.count :]
        shape: _Shape = ctx.shape
        first, second = shape.bundles(tensors)
        down, learns_norm = ctx.needs_input_grad[:2]
        learns, learns_out = shape.split(ctx.needs_input_grad[5:])
        to_answers, found_out = second.descend(
            [above], answers.view(len(x), -1), low_out, downwards=True, learns=learns_out
        )
        assert to_answers is not None
        to_heads = shape.cut.descend(to_answers.view_as(answers), _heads(q, k, v), kept, shape.scale)
        to_q, to_k, to_v = _heads(*to_heads)
        to_q, to_k = rows.turned(to_q, cos, sin, back=True), rows.turned(to_k, cos, sin, back=True)
        flat = [one.reshape(len(x), -1) for one in (to_q, to_k, to_v)]
        towards, found = first.descend(flat, even, low, downwards=down or learns_norm, learns=learns)
        if towards is None:
            return None, None, None, None, None, *found, *found_out
        to_x, to_weight = norm.descend(towards, x, scale, weight, above, learns=learns_norm)
        return to_x, to_weight, None, None, None, *found, *found_out


class _Thinking(torch.autograd.Function):
    """x + down(silu(gate(norm x)) * up(norm x))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shape: _Shape, *tensors: Tensor) -> Tensor:
        """(N, width) to the same."""
        first, second = shape.bundles(tensors)
        even, scale = norm.normed(x, weight, shape.eps)
        (gate, up), low = first(even)
        (y,), low_out = second(rows.gated(gate, up))
        ctx.shape, ctx.count = shape, len(tensors)
        ctx.save_for_backward(x, weight, *tensors, even, scale, gate, up, low, low_out)
        return y.add_(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, the norm's weight and all tensors that learn."""
        (above,) = gradients
        x, weight, *rest = ctx.saved_tensors
        tensors, (even, scale, gate, up, low, low_out) = rest[: ctx.count], rest[ctx.count :]
        shape: _Shape = ctx.shape
        first, second = shape.bundles(tensors)
        down, learns_norm = ctx.needs_input_grad[:2]
        learns, learns_out = shape.split(ctx.needs_input_grad[3:])
        product = rows.gated(gate, up)
        to_product, found_out = second.descend([above], product, low_out, downwards=True, learns=learns_out)
        assert to_product is not None
        to_gate, to_up = rows.gated_back(to_product, gate, up)
        towards, found = first.descend([to_gate, to_up], even, low, downwards=down or learns_norm, learns=learns)
        if towards is None:
            return None, None, None, *found, *found_out
        to_x, to_weight = norm.descend(towards, x, scale, weight, above, learns=learns_norm)
        return to_x, to_weight, None, *found, *found_out


def _heads(*tensors: Tensor) -> causal.Heads:
    """Heads and places change seats."""
    query, key, value = (one.transpose(0, 1) for one in tensors)
    return query, key, value
