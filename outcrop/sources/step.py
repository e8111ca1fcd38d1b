"""What a training process holds in its largest step, reckoned from the headers of weights and the sizes of a pack.

Asked by the job before it trains and by whoever foretells the job, so that both decide alike. Knows what the layers of
train/block.py keep tensor by tensor, and of other architectures a bound; nothing of torch, plans or what there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from outcrop.datasets.packs import Pack
from outcrop.sources import memory
from outcrop.sources.look import Look

MASTER, GRADIENT, OPTIMIZER = 4, 4, 8
"""Bytes of a trained number: itself, its gradient, and AdamW's two moments, all float32."""
PROCESS: Final = 480 << 20
"""Bytes of a training process without weights: torch, transformers, numba and what they keep (measured: 350 to 450 MB
before there were kernels; numba takes 60 of its own, kernels from disk 40 and those that are compiled anew 70).
memory.PROCESS is a bound from below, for a no that is sure."""
KERNELS, KERNEL, MOST_KERNELS = 60 << 20, 16 << 20, 1200 << 20
"""Bytes that oneDNN keeps for products in bfloat16 on a CPU, whatever the model: of a first step, of every further
length of segments and of steps, and at most, when a run has seen all its lengths (measured: 0.8 GB with 37 lengths, 1.0
with 91, 1.1 to 1.4 with hundreds; float32 has 0.02)."""
HOLES: Final = 1.2
"""What lies between activations is a fifth of them: memory that was freed and fits nothing that is asked for. The first
step has none of it, the third nearly all."""
LEAST, MOST = 1 / 1.5, 1.15
"""Shares of the sum between which all runs were measured: 0.86 to 1.11 with train/block.py's layers, 0.69 to 1.05 with
transformers' own, for which the sum is a bound (docs/decisions/training.md)."""

BLOCKS: Final = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"})
"""Architectures whose layers are train/block.py's on a CPU."""
EVEN, WIDEST = 32, 256
"""Heads are multiples of the one wide and no wider than the other where attention keeps no shares on a CPU that
multiplies pairs of bfloat16 numbers (train/fused.py)."""
KEPT: Final = 1024
"""Tokens of a segment up to which its attention's shares are kept on a CPU elsewhere (train/causal.py)."""
QUERIES: Final = 128
"""Queries that are taken together there: so far beyond the diagonal shares are kept."""
ROWS: Final = {"cpu": 256, "gpu": 1024}
"""Labels whose logits there are at one time, where the head is scored in chunks (train/likelihood.py)."""
EXACT: Final = 2**26
"""Logits that a GPU takes together in float32, and their softmax beside them; on a CPU they are few."""
LEARNING: Final = 2**27
"""Logits that there are at one time at least, where a head learns."""
WHOLE_LOGITS: Final = 4
"""Times that all logits are there where they are not."""
UNKNOWN: Final = ("mamba", "ssm", "rwkv", "recurrent", "linear_attention", "linear_attn", "conv", "lru")
"""In names and layer types of a configuration: parts of which nothing is known here."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a model is trained here, as far as memory depends on it."""

    number: int
    """Bytes of a number in the type that is multiplied in."""
    blocks: bool
    """Whether layers are train/block.py's."""
    chunked: bool
    """Whether logits are there in chunks only."""
    on_gpu: bool = False
    fused: bool = False
    """Whether attention is train/fused.py's, which keeps no shares, where scores are not capped."""


def manner(seen: Look, number: int) -> Manner:
    """What to expect of weights on a CPU, before they are loaded and tried."""
    bent = any(seen.config.get(name) for name in ("final_logit_softcapping", "logits_scaling", "logit_scale"))
    plain = seen.config.get("hidden_act", "silu") in ("silu", "swish")
    size = head_size(seen.config)
    fused = number < MASTER and size % EVEN == 0 and size <= WIDEST and memory.multiplies_pairs()
    return Manner(number, blocks=seen.architecture in BLOCKS and plain, chunked=not bent, fused=fused)


def head_size(config: Mapping[str, Any]) -> int:
    """Numbers of an attention's head."""
    width, heads = _number(config, "hidden_size", "n_embd"), _number(config, "num_attention_heads", "n_head")
    return _number(config, "head_dim") or width // (heads or 1)


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of a training process at its largest, and what they are for."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    """What is there between the way forward and the way back of the largest pack, its logits too."""
    process: int
    kernels: int
    """What is kept for products of every shape that a run asks for, by and by."""
    loading: int
    """What there is while weights are loaded: as they are stored, and as they will be."""
    known: bool
    """Whether nothing but parts that are known here keeps activations; recurrences and convolutions are not."""

    @property
    def total(self) -> int:
        """At the largest moment."""
        step = self.parameters + self.gradients + self.optimizer + self.activations + self.process + self.kernels
        return max(step, self.loading)

    @property
    def least(self) -> int:
        """Below it no run was measured, however few its steps."""
        return round(max(self.total - self.kernels, self.loading) * LEAST)

    @property
    def most(self) -> int:
        """Above it no run was measured."""
        return round(self.total * MOST)


def known(seen: Look) -> bool:
    """Whether nothing but parts that are known here keeps activations."""
    config = seen.config
    words = " ".join((str(config.get("model_type", "")), *config, *map(str, config.get("layer_types") or ())))
    return not any(mark in words for mark in UNKNOWN)


def need(  # noqa: PLR0917
    seen: Look, method: str, rank: int, pack: Pack, how: Manner, shapes: int, *, again: bool = False
) -> Need:
    """What the step of a pack takes in a run of so many shapes (packs.shapes).

    again: with layers that are computed again on the way back.
    """
    layer = _Layer.of(seen.config, how, rank if method == "lora" else 0)
    numbers = seen.parameters if method == "full" else seen.lora_parameters(rank)
    # Factors in float32, or the float32 masters of weights that multiply in a narrower type.
    beside = numbers * MASTER if method == "lora" or how.number < MASTER else 0
    kernels = min(KERNELS + shapes * KERNEL, MOST_KERNELS) if how.number < MASTER and not how.on_gpu else 0
    process = 0 if how.on_gpu else PROCESS
    stored = 0 if how.on_gpu else seen.bytes
    return Need(
        parameters=seen.parameters * how.number + beside,
        gradients=numbers * GRADIENT,
        optimizer=numbers * OPTIMIZER,
        activations=layer.activations(pack, again=again) + _logits(seen, method, pack, how),
        process=process,
        kernels=kernels,
        loading=process + stored + seen.parameters * how.number,
        known=known(seen),
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one layer keeps for its way back."""

    count: int
    """Of layers."""
    input: int
    """Bytes of a token that comes in."""
    token: int
    """Bytes that are kept of a token, its input among them."""
    share: int
    """Bytes that are kept of a token for every token that it sees."""
    passing: int
    """Bytes of a token that are there beside them while a layer's gradients are made."""

    @classmethod
    def of(cls, config: Mapping[str, Any], how: Manner, rank: int) -> "_Layer":
        """Of a configuration, with adapters of that rank; 0: without."""
        width, count = _number(config, "hidden_size", "n_embd"), _number(config, "num_hidden_layers", "n_layer")
        heads = _number(config, "num_attention_heads", "n_head") or 1
        size = head_size(config)
        keys = 2 * size * (_number(config, "num_key_value_heads") or heads)
        inner, chosen = _inner(config, width)
        number = how.number
        if how.blocks:
            # Inputs and norms of both halves; queries, answers, keys and values; gate and up; the adapters' products.
            token = number * (4 * width + 2 * size * heads + keys + 2 * inner + 7 * rank) + 8
            # Gate, up, their product and one more; three rows of a norm in float32.
            passing = number * (4 * inner + 2 * width) + 12 * width
        else:
            # Norms in float32, rotated heads, gate, its silu, up, their product: as transformers writes a layer.
            token = number * (12 * width + 5 * size * heads + 2 * keys + 5 * inner + 3 * chosen * width)
            passing = 2 * token
        capped = 12 if config.get("attn_logit_softcapping") else 0
        none = how.on_gpu or (how.fused and not capped)
        share = heads * (0 if none else number) + heads * capped
        return cls(count, number * width, token, share, passing)

    def activations(self, pack: Pack, *, again: bool) -> int:
        """Bytes of a pack, over all layers."""
        whole = pack.tokens * self.token + self.share * _seen(pack)
        held = pack.tokens * self.input * self.count + whole if again else whole * self.count
        return round(HOLES * (held + pack.tokens * self.passing))


def _seen(pack: Pack) -> int:
    """Pairs of tokens whose shares are kept."""
    return sum(one * (one + min(one, QUERIES)) // 2 for one in pack.lengths if one <= KEPT)


def _inner(config: Mapping[str, Any], width: int) -> tuple[int, int]:
    """Numbers of a token between the two products of the second half, and by how many experts they are made."""
    inner = _number(config, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size") or 4 * width
    chosen = _number(config, "num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")
    if not chosen:
        return inner, 0
    each = _number(config, "moe_intermediate_size", "expert_intermediate_size") or inner
    beside = _number(config, "shared_expert_intermediate_size") or each * _number(config, "n_shared_experts")
    return max(chosen * each + beside, inner), chosen


def _logits(seen: Look, method: str, pack: Pack, how: Manner) -> int:
    """Bytes of the logits that there are at one time, and, where the head learns, of its gradient in float32."""
    vocabulary = _number(seen.config, "vocab_size")
    all_of_them = pack.labels * vocabulary
    learns = vocabulary * seen.width * GRADIENT if method == "full" else 0
    if not how.chunked:
        return WHOLE_LOGITS * all_of_them * how.number + learns
    held = max(ROWS["gpu" if how.on_gpu else "cpu"] * vocabulary, LEARNING if learns else 0)
    at_once = min(all_of_them, held)
    exact = 2 * 4 * min(at_once, EXACT) if how.on_gpu else 0
    return at_once * how.number + exact + learns


def _number(config: Mapping[str, Any], *names: str) -> int:
    """The first of these that a configuration has, the largest where it has one a layer; 0 where it has none."""
    for name in names:
        found = config.get(name)
        if isinstance(found, list):
            found = max((one for one in found if isinstance(one, int)), default=None)
        if isinstance(found, int) and found:
            return found
    return 0
