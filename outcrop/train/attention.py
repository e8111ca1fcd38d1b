"""Attention for examples laid end to end in one row: each sees itself only, through transformers' own extension point.

Examples that do not know of each other cannot contaminate each other: there is no mask to get wrong. On a GPU one call
of flash attention takes all segments (varlen), where it was tried and said what a call for each said; on a CPU they go
through kernels of our own (fused) or are plain matrix products (causal); else every segment is a call of its own, but
neighbours of one length go together. Knows torch and transformers' AttentionInterface; nothing of datasets or losses.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, softmax

from outcrop.errors import OutcropError
from outcrop.train import causal, fused, varlen
from outcrop.weights import window_of

NAME: Final = "outcrop_segments"

_UNCARRIED: Final = ("s_aux", "position_bias")
"""What some architectures ask of their attention beyond causality and a window; refused, never ignored."""

TRIED: Final = (9, 131, 1, 34)
TRIED_SHARED: Final = 5
TRIED_WINDOW: Final = 7
"""Segments that one call is tried with, what they share, and the window of the second try."""

TRIED_APART: Final = 3e-2
"""How far what one call finds may be off, of the largest number: rounding of bfloat16 is a fifth of it."""


def register() -> None:
    """Make this attention known to transformers under NAME; models are then loaded with attn_implementation=NAME.

    No mask function is registered beside it: transformers then builds no mask, and none is needed.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Sequence[int] | None = None,
    shared: int = 0,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment.

    query is (1, heads, T, d), key and value (1, kv heads, T, d); `segments` are the lengths of the examples in order,
    passed through the model's forward, each without the first `shared` tokens, with which all of them begin and which
    lie in front of them once: T is the sum of all that. Returns ((1, T, heads, d), None).
    """
    name = type(module).__name__
    if segments is None or shared + sum(segments) != query.shape[2] or query.shape[0] != 1:
        raise OutcropError(f"{name} does not hand on its segments, so they cannot be packed")
    if attention_mask is not None or not getattr(module, "is_causal", True):
        raise OutcropError(f"{name} is not plainly causal, so segments cannot be packed")
    if sliding_window is None and window_of(module.config, int(module.layer_idx)) is not None:  # type: ignore[arg-type]
        raise OutcropError(f"{name} leaves a window to its mask, so segments cannot be packed")
    for asked in _UNCARRIED:
        if rest.get(asked) is not None:
            raise OutcropError(f"{name} asks for {asked} in its attention, so segments cannot be packed")
    plain = softcap is None and not dropout
    scale = query.shape[3] ** -0.5 if scaling is None else scaling
    heads = query[0], key[0], value[0]
    kernel = kernel_for(query, key) if plain else None
    # What a CPU has of our own takes values that are as wide as queries.
    plain = plain and query.shape[3] == value.shape[3]
    if kernel is not None:
        found = varlen.attention(heads, segments, scale, shared, window=sliding_window, by=kernel)
    elif plain and fused.takes(query.device, query.dtype, query.shape[3]):
        found = fused.attention(*heads, tuple(runs(segments)), scale, shared, sliding_window)
    elif plain and query.device.type == "cpu" and sliding_window_spares(segments, sliding_window, shared):
        found = causal.attention(*heads, tuple(runs(segments)), scale, shared)
    else:
        found = by_length(heads, segments, scale, shared, window=sliding_window, softcap=softcap, dropout=dropout)
    return found.unsqueeze(0), None


def told(model: Any) -> str | None:
    """How segments of a model are attended to on its GPU, in words; None on a CPU."""
    if next(model.parameters()).device.type == "cpu":
        return None
    return slower(model) or (
        "the examples of a row are attended to in one call of flash attention, whatever their lengths: varlen_attn of "
        f"torch {torch.__version__}"
    )


def slower(model: Any) -> str | None:
    """What segments of a model lose on its GPU where no one call takes all of them, and why; None where one does."""
    first, config = next(model.parameters()), model.config.get_text_config()
    if first.device.type == "cpu":
        return None
    reason: str | None = "flash attention does not cap scores"
    if getattr(config, "attn_logit_softcapping", None) is None:
        heads = int(config.num_attention_heads)
        width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        _, reason = one_call(first.device, first.dtype, heads, kv_heads, width)
    if reason is None:
        return None
    return f"its examples are attended to in a call for each length, which is slower than one call for all: {reason}"


@lru_cache(maxsize=16)
def one_call(
    device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, width: int
) -> tuple[varlen.Kernel | None, str | None]:
    """The kernel that takes all segments of such heads at once, or why there is none; remembered, as it is tried."""
    reason = varlen.doubt(device, dtype, width)
    kernel = varlen.kernel()
    if reason is None and kernel is not None:
        reason = failing(kernel, device, dtype, heads, kv_heads, width)
    return (kernel, None) if reason is None else (None, reason)


def failing(  # noqa: PLR0917
    kernel: varlen.Kernel, device: torch.device, dtype: torch.dtype, heads: int, kv_heads: int, width: int
) -> str | None:
    """Why this kernel is not to be had or not to be believed there, or None: a row is tried, with its gradients."""
    generator = torch.Generator().manual_seed(0)
    total = TRIED_SHARED + sum(TRIED)
    made = [
        torch.randn(total, count, width, generator=generator).to(device, dtype) for count in (heads, kv_heads, kv_heads)
    ]
    along = torch.randn(total, heads, width, generator=generator).to(device, dtype)

    def outcome(wide: torch.dtype, attention: Callable[..., Tensor]) -> list[Tensor]:
        given = [one.to(wide).requires_grad_() for one in made]
        out = attention(tuple(one.transpose(0, 1) for one in given))
        return [out.detach(), *torch.autograd.grad(out, given, along.to(wide))]

    for window in (None, TRIED_WINDOW):
        how: dict[str, Any] = {
            "segments": TRIED, "scale": width**-0.5, "shared": TRIED_SHARED, "window": window
        }  # fmt: skip
        # Layouts are tried without gradients: not so here.
        with torch.enable_grad():
            exact = outcome(torch.float32, partial(by_length, **how))
            try:
                found = outcome(dtype, partial(varlen.attention, **how, by=kernel))
            except (torch.AcceleratorError, torch.OutOfMemoryError):
                # A lost device, or one that is full at this moment, says nothing of the kernel.
                raise
            except (RuntimeError, TypeError, ValueError) as fault:
                return f"varlen_attn of torch {torch.__version__} fails here: {str(fault).splitlines()[0]}"
        apart = max(
            float((one - other).abs().max() / other.abs().max()) for one, other in zip(found, exact, strict=True)
        )
        if not apart <= TRIED_APART:
            return f"varlen_attn of torch {torch.__version__} is off by {apart:.2g} of the size of what it should find"
    return None


def kernel_for(query: Tensor, key: Tensor) -> varlen.Kernel | None:
    """What takes all segments of these (1, heads, T, d) at once."""
    if query.device.type == "cpu":
        return None
    kernel, _ = one_call(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3])
    return kernel


def by_length(
    heads: causal.Heads,
    segments: Sequence[int],
    scale: float,
    shared: int = 0,
    *,
    window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of (heads, T, d) upon (kv heads, T, d), a call for neighbours of one length. Returns (T, heads, d)."""
    query, key, value = heads
    grouped = key.shape[0] != query.shape[0]
    pieces = []
    start = 0
    for length, count in ((shared, 1), *runs(segments)) if shared else runs(segments):
        end = start + length * count
        before = shared if start else 0
        q, k, v = (_apart(one[:, start:end], length, count) for one in heads)
        if before:
            k, v = (
                torch.cat((one[:, :shared].expand(count, -1, -1, -1), own), dim=2)
                for one, own in ((key, k), (value, v))
            )
        mask = _mask(length, before, window, query.device)
        if softcap is None:
            out = scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scale, enable_gqa=grouped
            )
        else:
            out = _capped(q, k, v, mask, scale=scale, softcap=softcap, dropout=dropout)
        pieces.append(out.transpose(1, 2).reshape(length * count, out.shape[1], out.shape[3]))
        start = end
    return torch.cat(pieces)


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    softcap: float,
    dropout: float,
) -> Tensor:
    """Attention whose scores are bent by softcap * tanh(score / softcap), as Gemma 2 has it; torch's kernel cannot."""
    length, groups = query.shape[2], query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    scores = query @ key.transpose(2, 3) * scale
    scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    scores = scores.masked_fill(~mask, float("-inf"))
    shares = softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.dropout(shares, dropout, train=dropout > 0) @ value


def sliding_window_spares(segments: Sequence[int], sliding_window: int | None, shared: int = 0) -> bool:
    """True where no segment is longer than the window, so that causality alone says it all."""
    return sliding_window is None or shared + max(segments) <= sliding_window


def runs(segments: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours of one length as (length, count): they go through one call."""
    start = 0
    for place in range(1, len(segments) + 1):
        if place == len(segments) or segments[place] != segments[start]:
            yield segments[start], place - start
            start = place


def _apart(tensor: Tensor, length: int, count: int) -> Tensor:
    """(heads, count * length, d) to (count, heads, length, d), without a copy."""
    return tensor.view(tensor.shape[0], count, length, tensor.shape[2]).transpose(0, 1)


def _mask(length: int, before: int, sliding_window: int | None, device: torch.device) -> Tensor | None:
    """What `length` places see of `before` ones and of themselves; None where causality from the first on says it."""
    if not before and (sliding_window is None or length <= sliding_window):
        return None
    places = torch.arange(before + length, device=device)
    distance = places[before:, None] - places[None, :]
    near = distance >= 0
    return near if sliding_window is None else near & (distance < sliding_window)
