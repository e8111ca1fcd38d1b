"""Causal attention of short segments on a CPU as plain matrix products: about twice as fast there as torch's kernel.

Torch's flash kernel for CPUs walks small tiles, which pays for long contexts; examples are a few hundred tokens, and
their scores fit into cache. Scores and softmax are float32 whatever the weights are, the other products in the weights'
own dtype. Nothing of the size of the scores is kept for the backward pass: they are computed again. Knows tensors;
nothing of models or of who packs.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

BLOCK: Final = 128
"""Queries that are taken together: of what lies above the diagonal little is computed, and the scores stay small."""

Runs = Sequence[tuple[int, int]]
"""(length, count) of neighbouring segments of one length."""


def attention(query: Tensor, key: Tensor, value: Tensor, runs: Runs, scale: float) -> Tensor:
    """Attention within segments that lie end to end.

    query is (heads, T, d), key and value (kv heads, T, d), with T the sum over the runs. Returns (T, heads, d).
    """
    found: Tensor = _Attention.apply(query, key, value, tuple(runs), scale)  # type: ignore[no-untyped-call]
    return found


class _Attention(torch.autograd.Function):
    """The whole row at once, so that autograd cuts nothing up and adds nothing together."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, runs: Runs, scale: float) -> Tensor:  # noqa: PLR0917
        """See attention()."""
        heads, length, width = query.shape
        out = query.new_empty(length, heads, width)
        normalisers = []
        for place in _places(runs):
            q, k, v = (_apart(one, place, key.shape[0]) for one in (query, key, value))
            found, normaliser = _attend(q, k[:, 0], v[:, 0], scale)
            _lay(found, out.transpose(0, 1), place)
            normalisers.append(normaliser)
        ctx.save_for_backward(query, key, value, out, *normalisers)
        ctx.runs, ctx.scale = runs, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, out, *normalisers = ctx.saved_tensors
        along = gradients[0].transpose(0, 1)
        to_query, to_key, to_value = (torch.empty_like(one) for one in (query, key, value))
        for place, normaliser in zip(_places(ctx.runs), normalisers, strict=True):
            q, k, v, o, d = (
                _apart(one, place, key.shape[0]) for one in (query, key, value, out.transpose(0, 1), along)
            )
            # What a row's shares are measured against: their mean gradient.
            mean = (d.float() * o.float()).sum(dim=-1, keepdim=True)
            found = _descend(q, k[:, 0], v[:, 0], d, normaliser=normaliser, mean=mean, scale=ctx.scale)
            for piece, target in zip(found, (to_query, to_key, to_value), strict=True):
                _lay(piece, target, place)
        return to_query, to_key, to_value, None, None


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """(B, groups, L, d) queries upon (B, L, d): the answers and each row's logarithm of the sum of exponents."""
    out = torch.empty_like(q)
    normalisers = q.new_empty(*q.shape[:3], 1, dtype=torch.float32)
    for block in _blocks(q.shape[2]):
        scores = _scores(q[:, :, block], k[:, : block.stop], scale)
        largest = scores.amax(dim=-1, keepdim=True)
        weights = scores.sub_(largest).exp_()
        # Divided by its sum after the product: a row of d numbers, not of scores.
        total = weights.sum(dim=-1, keepdim=True)
        answers = weights.flatten(1, 2).to(v.dtype) @ v[:, : block.stop]
        out[:, :, block] = answers.view_as(out[:, :, block]) / total
        normalisers[:, :, block] = total.log_().add_(largest)
    return out, normalisers


def _descend(
    q: Tensor, k: Tensor, v: Tensor, along: Tensor, *, normaliser: Tensor, mean: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of what _attend was given, shaped as q, and (B, 1, L, d) twice."""
    to_q = torch.empty_like(q)
    # Summed over blocks, so in float32.
    to_k, to_v = (torch.zeros_like(k, dtype=torch.float32) for _ in range(2))
    for block in _blocks(q.shape[2]):
        rows, d = q[:, :, block].flatten(1, 2), along[:, :, block].flatten(1, 2)
        upto_k, upto_v = k[:, : block.stop], v[:, : block.stop]
        shares = _scores(q[:, :, block], upto_k, scale).sub_(normaliser[:, :, block]).exp_()
        to_v[:, : block.stop] += shares.flatten(1, 2).to(v.dtype).transpose(1, 2) @ d
        inner = (d @ upto_v.transpose(1, 2)).float().view_as(shares)
        inner = inner.sub_(mean[:, :, block]).mul_(shares).mul_(scale).to(q.dtype).flatten(1, 2)
        to_q[:, :, block] = (inner @ upto_k).view_as(to_q[:, :, block])
        to_k[:, : block.stop] += inner.transpose(1, 2) @ rows
    return to_q, to_k.to(k.dtype).unsqueeze(1), to_v.to(v.dtype).unsqueeze(1)


def _scores(q: Tensor, k: Tensor, scale: float) -> Tensor:
    """Float32 (B, groups, rows, keys): the last rows among a segment's first `keys` tokens, the future at -inf."""
    rows, keys = q.shape[2], k.shape[1]
    scores = (q.flatten(1, 2).float() * scale) @ k.float().transpose(1, 2)
    scores = scores.view(*q.shape[:3], keys)
    future = torch.ones(rows, rows, dtype=torch.bool, device=q.device).triu_(1)
    scores[..., keys - rows :].masked_fill_(future, float("-inf"))
    return scores


def _blocks(length: int) -> Iterator[slice]:
    for start in range(0, length, BLOCK):
        yield slice(start, min(start + BLOCK, length))


def _places(runs: Runs) -> Iterator[tuple[int, int, int]]:
    """Start, length and count of every run."""
    start = 0
    for length, count in runs:
        yield start, length, count
        start += length * count


def _apart(tensor: Tensor, place: tuple[int, int, int], kv_heads: int) -> Tensor:
    """A run of (heads, T, d) as (count * kv heads, groups, length, d)."""
    start, length, count = place
    piece = tensor[:, start : start + length * count]
    piece = piece.reshape(kv_heads, -1, count, length, tensor.shape[2])
    return piece.permute(2, 0, 1, 3, 4).reshape(count * kv_heads, -1, length, tensor.shape[2])


def _lay(piece: Tensor, target: Tensor, place: tuple[int, int, int]) -> None:
    """The reverse of _apart, into its place."""
    start, length, count = place
    heads, width = target.shape[0], target.shape[2]
    kv_heads = piece.shape[0] // count
    piece = piece.view(count, kv_heads, heads // kv_heads, length, width).permute(1, 2, 0, 3, 4)
    target[:, start : start + length * count] = piece.reshape(heads, count * length, width)
