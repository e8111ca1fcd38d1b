"""Attention of one step's rows, each within its own sequence, over keys and values that lie in the cache.

Knows a batch, a layer's two tensors and the numbers of an attention; nothing of models. Windows and capped scores are
carried out; whatever else an architecture asks of its attention must be refused by whoever calls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, softmax

from outcrop.engines.batch import Batch, Chunk

Layer = tuple[Tensor, Tensor]
"""A layer's keys and values in the cache: (kv heads, places, d) each."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How a layer attends."""

    scale: float
    window: int | None = None
    """Tokens that a row sees, itself included; None: all before it."""
    cap: float | None = None
    """Scores are bent by cap * tanh(score / cap)."""


def attend(batch: Batch, layer: Layer, rule: Rule, *, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Keep the rows' keys and values, then attend.

    query is (rows, heads, d), key and value (rows, kv heads, d); returns (rows, heads, d of values) in query's dtype.
    """
    keys, values = layer
    keys.index_copy_(1, batch.places, key.transpose(0, 1).to(keys.dtype))
    values.index_copy_(1, batch.places, value.transpose(0, 1).to(values.dtype))
    asked = query.to(keys.dtype)
    pieces = [_singles(batch, layer, rule, asked[: batch.single])] if batch.single else []
    pieces += [_chunk(batch, chunk, layer, rule, asked) for chunk in batch.chunks]
    found = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return found.to(query.dtype)


def _singles(batch: Batch, layer: Layer, rule: Rule, query: Tensor) -> Tensor:
    """One row a sequence: the heads that share keys are the rows of one product."""
    grouped = query.view(query.shape[0], layer[0].shape[0], -1, query.shape[2])
    if query.device.type != "cpu":
        return _gathered(batch, layer, rule, grouped).flatten(1, 2)
    found = []
    for row, part in enumerate(batch.parts[: batch.single]):
        first = 0 if rule.window is None else max(0, part.end - rule.window)
        length = part.end - first
        k, v = (one.narrow(1, part.place + first, length).unsqueeze(0) for one in layer)
        found.append(_scored(grouped[row : row + 1], k, v, rule, None))
    return torch.cat(found).flatten(1, 2)


def _gathered(batch: Batch, layer: Layer, rule: Rule, grouped: Tensor) -> Tensor:
    """All rows as one padded product: where a call costs more than reading keys twice."""
    key = ("gather", rule.window)
    if key not in batch.masks:
        parts = batch.parts[: batch.single]
        ends = torch.tensor([part.end for part in parts], device=batch.device)
        firsts = torch.zeros_like(ends) if rule.window is None else (ends - rule.window).clamp_min(0)
        places = torch.tensor([part.place for part in parts], device=batch.device) + firsts
        lengths = ends - firsts
        longest = max(part.end if rule.window is None else min(part.end, rule.window) for part in parts)
        step = torch.arange(longest, device=batch.device)
        seen = step < lengths[:, None]
        batch.masks[key] = torch.where(seen, places[:, None] + step, places[:, None])
        batch.masks[*key, "seen"] = seen[:, None, None, :]
    places, seen = batch.masks[key], batch.masks[*key, "seen"]
    k, v = (one[:, places].transpose(0, 1) for one in layer)
    return _scored(grouped, k, v, rule, seen)


def _chunk(batch: Batch, chunk: Chunk, layer: Layer, rule: Rule, query: Tensor) -> Tensor:
    """Several rows of one sequence."""
    end = chunk.start + chunk.length
    first = 0 if rule.window is None else max(0, chunk.start + 1 - rule.window)
    k, v = (one.narrow(1, chunk.place + first, end - first).unsqueeze(0) for one in layer)
    rows = query[chunk.row : chunk.row + chunk.length].transpose(0, 1).unsqueeze(0)
    plain = chunk.start == 0 and (rule.window is None or end <= rule.window) and rule.cap is None
    if plain:
        found = scaled_dot_product_attention(
            rows, k, v, is_causal=True, scale=rule.scale, enable_gqa=rows.shape[1] != k.shape[1]
        )
    else:
        found = _scored(rows, k, v, rule, _mask(batch, chunk, first, rule.window))
    return found[0].transpose(0, 1)


def _mask(batch: Batch, chunk: Chunk, first: int, window: int | None) -> Tensor:
    """Which keys from `first` on each row of a chunk sees."""
    key = (chunk, window)
    if key not in batch.masks:
        rows = torch.arange(chunk.start, chunk.start + chunk.length, device=batch.device)[:, None]
        places = torch.arange(first, chunk.start + chunk.length, device=batch.device)
        seen = places <= rows
        batch.masks[key] = seen if window is None else seen & (places > rows - window)
    return batch.masks[key]


def _scored(query: Tensor, key: Tensor, value: Tensor, rule: Rule, mask: Tensor | None) -> Tensor:
    """(n, heads, rows, d) upon (n, kv heads, places, d)."""
    grouped = query.shape[1] != key.shape[1]
    if rule.cap is None:
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=rule.scale, enable_gqa=grouped)
    if grouped:
        times = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(times, dim=1) for one in (key, value))
    scores = query @ key.transpose(2, 3) * rule.scale
    scores = rule.cap * torch.tanh(scores / rule.cap)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype) @ value
