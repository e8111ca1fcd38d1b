"""Attention of one step's rows, each within its own sequence, over keys and values that lie in the cache.

Knows a batch, a layer's two tensors and the numbers of an attention; nothing of models. Windows and capped scores are
carried out; whatever else an architecture asks of its attention must be refused by whoever calls.
"""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, softmax

from outcrop import kernels
from outcrop.engines.batch import Batch, Chunk
from outcrop.kernels.attention import attend as single_rows
from outcrop.kernels.chunk import attend as several_rows
from outcrop.kernels.chunk import fits as several_fit
from outcrop.kernels.rule import Rule
from outcrop.precision import products_of

BLOCK: Final = 128
"""Rows of a chunk that attend at once by hand: those before them need not look at what comes after."""

Layer = tuple[Tensor, Tensor]
"""A layer's keys and values in the cache: (kv heads, places, d) each."""


def keep(batch: Batch, layer: Layer, key: Tensor, value: Tensor) -> None:
    """Put the rows' keys and values, (rows, kv heads, d) each, where they lie in the cache."""
    for cached, one in zip(layer, (key, value), strict=True):
        cached.index_copy_(1, batch.places, one.transpose(0, 1).to(cached.dtype))


def attend(batch: Batch, layer: Layer, rule: Rule, query: Tensor) -> Tensor:
    """What each row of query (rows, heads, d) sees of its own sequence, whose keys and values the cache holds.

    Returns (rows, heads, d of values) in query's dtype. Raises RuntimeError where d or the heads are not the cache's.
    """
    if query.shape[2] != layer[0].shape[2] or query.shape[1] % layer[0].shape[0]:
        raise RuntimeError(f"queries {tuple(query.shape)} do not meet keys {tuple(layer[0].shape)}")
    asked = query.to(layer[0].dtype)
    pieces = [_singles(batch, layer, rule, asked[: batch.single])] if batch.single else []
    pieces += [_chunk(batch, chunk, layer, rule, asked) for chunk in batch.chunks]
    found = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
    return found.to(query.dtype)


def _singles(batch: Batch, layer: Layer, rule: Rule, query: Tensor) -> Tensor:
    """One row a sequence: the heads that share keys are the rows of one product."""
    if kernels.run(query.device, query.dtype):
        where, longest = batch.seen(rule.window)
        return single_rows(query, layer, where, longest, rule)
    grouped = query.view(query.shape[0], layer[0].shape[0], -1, query.shape[2])
    return _gathered(batch, layer, rule, grouped).flatten(1, 2)


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
    if kernels.run(query.device, query.dtype) and several_fit(query):
        rows = query[chunk.row : chunk.row + chunk.length]
        return several_rows(rows, layer, chunk.place, chunk.start, rule)
    end = chunk.start + chunk.length
    first = 0 if rule.window is None else max(0, chunk.start + 1 - rule.window)
    k, v = (one.narrow(1, chunk.place + first, end - first).unsqueeze(0) for one in layer)
    rows = query[chunk.row : chunk.row + chunk.length].transpose(0, 1).unsqueeze(0)
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and rule.cap is None:
        return _by_hand(batch, chunk, rule, rows[0], (k[0], v[0])).transpose(0, 1)
    plain = chunk.start == 0 and (rule.window is None or end <= rule.window) and rule.cap is None
    if plain:
        found = scaled_dot_product_attention(
            rows, k, v, is_causal=True, scale=rule.scale, enable_gqa=rows.shape[1] != k.shape[1]
        )
    else:
        found = _scored(rows, k, v, rule, _mask(batch, chunk, first, rule.window))
    return found[0].transpose(0, 1)


def _by_hand(batch: Batch, chunk: Chunk, rule: Rule, query: Tensor, seen: Layer) -> Tensor:
    """Products and softmax one after the other: on a CPU less than torch's own attention takes. Scores and softmax are
    float32, as in training (train.causal): in bfloat16 sharp heads were off by a hundredth.

    query is (heads, rows, d) and `seen` (kv heads, places, d) each, the last place the last row's own.
    """
    times = query.shape[0] // seen[0].shape[0]
    key, value = (one.repeat_interleave(times, 0) if times > 1 else one for one in seen)
    # Products that read bfloat16 numbers and leave float32 want them to lie in float32.
    query, key = query.float(), key.float()
    before = key.shape[1] - chunk.length
    found = []
    for row in range(0, chunk.length, BLOCK):
        rows = slice(row, min(row + BLOCK, chunk.length))
        end = before + rows.stop
        mask = _shut(batch, chunk, rule.window, rows, key.shape[1])[:, :end]
        with products_of(torch.bfloat16):
            scores = torch.bmm(query[:, rows], key[:, :end].transpose(1, 2))
        scores = scores.mul_(rule.scale).add_(mask).softmax(-1)
        found.append(torch.bmm(scores.bfloat16(), value[:, :end]))
    return found[0] if len(found) == 1 else torch.cat(found, 1)


def _shut(batch: Batch, chunk: Chunk, window: int | None, rows: slice, places: int) -> Tensor:
    """What is added to scores: nothing where a row sees a place, minus infinity elsewhere."""
    key = (chunk, window, rows.start)
    if key not in batch.masks:
        first = chunk.start + chunk.length - places
        seen = _mask(batch, chunk, first, window)[rows]
        batch.masks[key] = torch.zeros(seen.shape).masked_fill_(~seen, float("-inf"))
    return batch.masks[key]


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
