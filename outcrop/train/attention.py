"""Attention for examples laid end to end in one row: each sees itself only, through transformers' own extension point.

Examples that do not know of each other cannot contaminate each other: every segment is a call of its own, so there is
no mask to get wrong. Knows torch and transformers' AttentionInterface; nothing of datasets or losses.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, softmax

from outcrop.errors import OutcropError
from outcrop.train import causal
from outcrop.weights import window_of

NAME: Final = "outcrop_segments"

_UNCARRIED: Final = ("s_aux", "position_bias")
"""What some architectures ask of their attention beyond causality and a window; refused, never ignored."""


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
    if (
        query.device.type == "cpu"
        and sliding_window_spares(segments, sliding_window, shared)
        and softcap is None
        and not dropout
    ):
        scale = query.shape[3] ** -0.5 if scaling is None else scaling
        return causal.attention(query[0], key[0], value[0], tuple(runs(segments)), scale, shared).unsqueeze(0), None
    grouped = key.shape[1] != query.shape[1]
    pieces = []
    start = 0
    for length, count in ((shared, 1), *runs(segments)) if shared else runs(segments):
        end = start + length * count
        before = shared if start else 0
        q, k, v = (_apart(one[0, :, start:end], length, count) for one in (query, key, value))
        if before:
            k, v = (
                torch.cat((one[:, :, :shared].expand(count, -1, -1, -1), own), dim=2)
                for one, own in ((key, k), (value, v))
            )
        mask = _mask(length, before, sliding_window, query.device)
        if softcap is None:
            out = scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling, enable_gqa=grouped
            )
        else:
            out = _capped(q, k, v, mask, scaling=scaling, softcap=softcap, dropout=dropout)
        pieces.append(out.transpose(1, 2).reshape(length * count, out.shape[1], out.shape[3]))
        start = end
    return torch.cat(pieces).unsqueeze(0), None


def _capped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scaling: float | None,
    softcap: float,
    dropout: float,
) -> Tensor:
    """Attention whose scores are bent by softcap * tanh(score / softcap), as Gemma 2 has it; torch's kernel cannot."""
    length, groups = query.shape[2], query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    scores = query @ key.transpose(2, 3) * (query.shape[3] ** -0.5 if scaling is None else scaling)
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
