"""Llama and its like without transformers' modules: fused products, few calls a layer, the same numbers.

Takes the weights of LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and Qwen3ForCausalLM over, layer by layer,
so that there is never a second copy of them. Knows those models' parts, batches and the cache; nothing of requests.
"""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from outcrop import kernels
from outcrop.engines import plain
from outcrop.engines.adapters import Gains
from outcrop.engines.attention import Layer as Kept
from outcrop.engines.attention import attend
from outcrop.engines.batch import Batch
from outcrop.engines.cache import Cache, LayerShape
from outcrop.engines.loaded import Target
from outcrop.engines.onecall import OneCall, Parts
from outcrop.engines.products import Product
from outcrop.kernels import rows
from outcrop.kernels.rows import Both, Norm
from outcrop.kernels.rule import Rule

KINDS: Final = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

STEADY: Final = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose frequencies do not hang on how long a text is."""

SHORT: Final = 1024
"""Tokens of a text for which rotations are known beforehand."""

PRODUCTS: Final = 4
"""Of a layer: queries, keys and values; what attention gives; gate and up; down."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One block: its norms, its products and how it attends."""

    before: Norm
    between: Norm
    heads: Norm | None
    """Of Qwen3: of queries' and keys' heads, (heads + kv heads, d)."""
    qkv: Product
    out: Product
    gate_up: Product
    down: Product
    rule: Rule


class _Small(Protocol):
    """What rows undergo between products: kernels.rows or plain."""

    def norm(self, hidden: Tensor, added: Tensor | None, by: Norm) -> Tensor: ...

    def gate(self, both: Tensor) -> Tensor: ...

    def turn(self, made: Tensor, turns: Both, layer: Kept, places: Tensor, heads: Norm | None) -> Tensor: ...


def is_like(model: Any) -> bool:
    """True for a model that this file runs as transformers does."""
    config = model.config
    kind = type(model)
    return (
        kind.__name__ in KINDS
        and kind.__module__.startswith("transformers.models.")
        and config.hidden_act == "silu"
        and (config.rope_parameters or {}).get("rope_type", "default") in STEADY
        and all(type(layer.mlp.gate_proj) is nn.Linear for layer in model.model.layers)
        # Kernels read all of it as one.
        and len({one.dtype for one in model.parameters()}) == 1
    )


class LeanModel:
    """A Llama-like over packed rows."""

    together = True
    way, why = "lean", ""

    def __init__(self, model: Any) -> None:
        """Take a model over: its layers' weights are gone from it afterwards."""
        body, config = model.model, model.config
        self._table: Tensor = body.embed_tokens.weight
        self.device, self.dtype = self._table.device, self._table.dtype
        self._small: _Small = rows if kernels.run(self.device, self.dtype) else plain
        self._rotary, self._norm = body.rotary_emb, Norm(body.norm.weight, config.rms_norm_eps)
        first = body.layers[0].self_attn
        self._width = first.head_dim
        self._keys = config.num_key_value_heads
        self._queries = config.num_attention_heads
        self.shapes = [LayerShape(self._keys, self._width, self._width)] * len(body.layers)
        self.gains = Gains(
            [target for number, layer in enumerate(body.layers) for target in _targets(number, layer)],
            self.dtype,
            self.device,
        )
        self._layers = [self._taken(layer) for layer in body.layers]
        self._turned = self._turned_to(SHORT)
        self._head = Product(model.lm_head.weight, model.lm_head.bias)
        self._one_call = self._as_one_call()

    def run(self, batch: Batch, cache: Cache) -> Tensor:
        """Logits (wanted, vocabulary) of a step, to be read before the next one.

        The rows' keys and values are in the cache after it.
        Raises RuntimeError for rows beyond the cache: kernels do not look where they write.
        """
        if batch.reaches > cache.size:
            raise RuntimeError(f"rows reach to place {batch.reaches} of a cache of {cache.size}")
        self.gains.begin(batch.groups, batch.rows)
        turned = self._turns(batch.longest)
        if self._one_call is not None and self._one_call.fit(batch):
            return self._one_call.run(batch, cache, turned)
        hidden, added = embedding(batch.ids, self._table), None
        turns = turned[0].index_select(0, batch.positions), turned[1].index_select(0, batch.positions)
        for number, (layer, kept) in enumerate(zip(self._layers, cache.layers, strict=True)):
            added = self._block(number * PRODUCTS, layer, (hidden, added), turns, (batch, kept))
        if batch.wanted.shape[0] != batch.rows:
            hidden, added = hidden[batch.wanted], None if added is None else added[batch.wanted]
        return self._head(self._small.norm(hidden, added, self._norm))

    def _block(
        self,
        target: int,
        layer: _Layer,
        there: tuple[Tensor, Tensor | None],
        turns: tuple[Tensor, Tensor],
        where: tuple[Batch, Kept],
    ) -> Tensor:
        """One layer: what rows see of each other, then what each makes of it.

        there: the rows so far, written over, and what is still to be added to them; returns what is, afterwards.
        """
        (hidden, added), (batch, kept), small = there, where, self._small
        made = self._product(target, layer.qkv, small.norm(hidden, added, layer.before))
        query = small.turn(made, turns, kept, batch.places, layer.heads)
        seen = attend(batch, kept, layer.rule, query).flatten(1)
        told = self._product(target + 1, layer.out, seen)
        both = self._product(target + 2, layer.gate_up, small.norm(hidden, told, layer.between))
        return self._product(target + 3, layer.down, small.gate(both))

    def _product(self, target: int, product: Product, x: Tensor) -> Tensor:
        y = product(x)
        if self.gains.acting:
            self.gains.add(target, x, y)
        return y

    def _as_one_call(self) -> OneCall | None:
        """The same layers as a program of kernels; None where some of them are no kernels."""
        products = [[one.paired for one in (layer.qkv, layer.out, layer.gate_up, layer.down)] for layer in self._layers]
        paired = [[one for one in some if one is not None] for some in products]
        head = self._head.paired
        if head is None or paired != products or self._small is not rows:
            return None
        layers = list(zip(self._layers, paired, strict=True))
        parts = Parts(self._table, layers, self._norm, head, self._queries)
        return OneCall(parts, self.gains)

    def _turns(self, longest: int) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines of each position of such a text, (places, d): x cos + roll(x) sin turns x."""
        if longest > len(self._turned[0]):
            self._turned = self._turned_to(1 << (longest - 1).bit_length())
        return self._turned

    def _turned_to(self, length: int) -> tuple[Tensor, Tensor]:
        """The same of all positions before one."""
        exact = self._table.new_empty(0, dtype=torch.float64 if self.dtype == torch.float64 else torch.float32)
        cos, sin = self._rotary(exact, torch.arange(length, device=self.device)[None])
        half = self._width // 2
        return cos[0].contiguous(), torch.cat((-sin[0, :, :half], sin[0, :, half:]), -1)

    def _taken(self, layer: Any) -> _Layer:
        """A layer's weights, fused and laid out; the module's own are let go."""
        attention, mlp = layer.self_attn, layer.mlp
        linears = [attention.q_proj, attention.k_proj, attention.v_proj], [mlp.gate_proj, mlp.up_proj]
        qkv, gate_up = (Product.fused([one.weight for one in some], [one.bias for one in some]) for some in linears)
        out = Product(attention.o_proj.weight, attention.o_proj.bias)
        down = Product(mlp.down_proj.weight, mlp.down_proj.bias)
        for linear in (*linears[0], *linears[1], attention.o_proj, mlp.down_proj):
            linear.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)
        eps, heads = self._norm.eps, None
        if getattr(attention, "q_norm", None) is not None:
            both = (attention.q_norm.weight, self._queries), (attention.k_norm.weight, self._keys)
            heads = Norm(torch.cat([weight.expand(count, -1) for weight, count in both]), eps)
        # Mistral's window is its config's; Qwen's blocks have each their own, and Llama has none.
        config = attention.config
        window = config.sliding_window if config.model_type == "mistral" else getattr(attention, "sliding_window", None)
        return _Layer(
            Norm(layer.input_layernorm.weight, eps),
            Norm(layer.post_attention_layernorm.weight, eps),
            heads,
            qkv,
            out,
            gate_up,
            down,
            Rule(attention.scaling, window),
        )


def _targets(number: int, layer: Any) -> list[Target]:
    """The products of a layer, in the order in which they are run."""
    attention, mlp = layer.self_attn, layer.mlp
    fused = (
        ("self_attn", {name: getattr(attention, name) for name in ("q_proj", "k_proj", "v_proj")}),
        ("self_attn", {"o_proj": attention.o_proj}),
        ("mlp", {name: getattr(mlp, name) for name in ("gate_proj", "up_proj")}),
        ("mlp", {"down_proj": mlp.down_proj}),
    )
    return [
        Target(
            next(iter(linears.values())).in_features,
            {f"model.layers.{number}.{room}.{name}": one.out_features for name, one in linears.items()},
        )
        for room, linears in fused
    ]
