"""Causal attention of short segments on a CPU as plain matrix products: several times faster there than torch's kernel.

Torch's flash kernel for CPUs walks small tiles, which pays for long contexts; examples are a few hundred tokens, and
their scores fit into cache. Scores and softmax are float32 whatever the weights are, the other products in the weights'
own dtype. The shares of short segments are kept for the backward pass, those of long ones computed again. Knows
tensors; nothing of models or of who packs.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from outcrop.precision import products_of

BLOCK: Final = 128
"""Queries that are taken together: of what lies above the diagonal little is computed, and the scores stay small."""

KEPT: Final = 1024
"""Tokens of a segment up to which its shares are kept: beside a layer's other activations they are few until there."""

Runs = Sequence[tuple[int, int]]
"""(length, count) of neighbouring segments of one length."""

Place = tuple[int, int, int]
"""Start, length and count of a run."""

Heads = tuple[Tensor, Tensor, Tensor]
"""Query (heads, T, d), key and value (kv heads, T, d)."""


def attention(  # noqa: PLR0917
    query: Tensor, key: Tensor, value: Tensor, runs: Runs, scale: float, shared: int = 0
) -> Tensor:
    """Attention within segments that lie end to end, all of them going on from the first `shared` places.

    query is (heads, T, d), key and value (kv heads, T, d), with T those places and the sum over the runs. Returns
    (T, heads, d).
    """
    found: Tensor = _Attention.apply(query, key, value, tuple(runs), scale, shared)  # type: ignore[no-untyped-call]
    return found


def attend(heads: Heads, runs: Runs, scale: float, shared: int = 0) -> tuple[Tensor, list[Tensor]]:
    """What attention() returns, and the shares that descend() wants: without a record of how it came about."""
    query, key, value = heads
    out = query.new_empty(query.shape[1], query.shape[0], query.shape[2])
    kept: list[Tensor] = []
    for place in _places(runs, shared):
        k, v = (_seen(one, place, shared) for one in (key, value))
        wide = k.float()
        for block in _blocks(place):
            shares = _shares(query, wide, place, block, scale)
            _lay(torch.bmm(shares, v[:, : shares.shape[2]]), out.transpose(0, 1), place, block)
            if k.shape[1] <= KEPT:
                kept.append(shares)
    return out, kept


def descend(  # noqa: PLR0917
    above: Tensor, heads: Heads, kept: Sequence[Tensor], runs: Runs, scale: float, shared: int = 0
) -> Heads:
    """Gradients of query, key and value, in their shapes, from that of attend()'s answers and the shares it kept."""
    query, key, value = heads
    # As (T, heads, d) in memory, like what the projections made.
    found = tuple(torch.empty_like(one.transpose(0, 1)).transpose(0, 1) for one in heads)
    left = iter(kept)
    # Of what is shared: from all that go on from it, in float32, as they are a sum.
    sums = tuple(one.new_zeros(one.shape[0], shared, one.shape[2], dtype=torch.float32) for one in (key, value))
    for place in _places(runs, shared):
        k, v = (_seen(one, place, shared) for one in (key, value))
        wide = k.float() if k.shape[1] > KEPT else k
        to_seen: list[Tensor] = []
        for block in _blocks(place):
            shares = next(left) if k.shape[1] <= KEPT else _shares(query, wide, place, block, scale)
            seen = slice(shares.shape[2])
            rows, along = (_cut(one, place, block, len(key)) for one in (query, above.transpose(0, 1)))
            inner = torch.bmm(along, v[:, seen].transpose(1, 2))
            # In one pass, and rounded once at its end.
            inner = torch.ops.aten._softmax_backward_data(inner, shares, -1, inner.dtype)
            _lay(_scaled(inner, k[:, seen], scale), found[0], place, block)
            pieces = _scaled(inner.transpose(1, 2), rows, scale), torch.bmm(shares.transpose(1, 2), along)
            if to_seen:
                for total, piece in zip(to_seen, pieces, strict=True):
                    total[:, seen].add_(piece)
            else:
                # Over several blocks it is a sum, so in float32.
                to_seen = [piece.float() if block.start else piece for piece in pieces]
        for piece, total, target in zip(to_seen, sums, found[1:], strict=True):
            _settle(piece, total, target, place)
    for total, target in zip(sums, found[1:], strict=True):
        target[:, :shared] = total
    return found[0], found[1], found[2]


class _Attention(torch.autograd.Function):
    """The whole row at once, so that autograd cuts nothing up and adds nothing together."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, runs: Runs, scale: float, shared: int
    ) -> Tensor:
        """See attention()."""
        out, kept = attend((query, key, value), runs, scale, shared)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.how = runs, scale, shared
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, *kept = ctx.saved_tensors
        return *descend(gradients[0], (query, key, value), kept, *ctx.how), None, None, None


def _shares(query: Tensor, wide: Tensor, place: Place, block: slice, scale: float) -> Tensor:
    """(B, groups * rows, keys) of these rows of a run's segments, among the first of their keys, as wide as queries.

    wide: the keys (B, K, d) in float32.
    """
    kv_heads, rows, keys = len(wide) // place[2], block.stop - block.start, wide.shape[1] - place[1] + block.stop
    q = _cut(query, place, block, kv_heads, torch.float32)
    with products_of(query.dtype):
        scores = _scaled(q, wide[:, :keys].transpose(1, 2), scale)
    future = torch.full((rows, rows), float("-inf"), device=q.device).triu_(1)
    scores.view(len(q), -1, rows, keys)[..., keys - rows :].add_(future)
    return torch.softmax(scores, dim=-1).to(query.dtype)


def _scaled(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """A product times a number, which is taken before the result is rounded and costs no pass."""
    target = left.new_empty(len(left), left.shape[1], right.shape[2])
    return torch.baddbmm(target, left, right, beta=0, alpha=scale, out=target)


def _blocks(place: Place) -> Iterator[slice]:
    """Rows of a run's segments that are taken together: first those that see all keys."""
    length = place[1]
    for start in reversed(range(0, length, BLOCK)):
        yield slice(start, min(start + BLOCK, length))


def _places(runs: Runs, shared: int) -> Iterator[Place]:
    """Start, length and count of every run; what is shared is one before them."""
    start = shared
    if shared:
        yield 0, shared, 1
    for length, count in runs:
        yield start, length, count
        start += length * count


def _apart(tensor: Tensor, place: Place, block: slice, kv_heads: int) -> Tensor:
    """Rows of a run's segments of (heads, T, d), seen as (count, kv heads, groups, rows, d)."""
    start, length, count = place
    piece = tensor[:, start : start + length * count]
    piece = piece.view(kv_heads, -1, count, length, tensor.shape[2])
    return piece[:, :, :, block].permute(2, 0, 1, 3, 4)


def _cut(tensor: Tensor, place: Place, block: slice, kv_heads: int, dtype: torch.dtype | None = None) -> Tensor:
    """The same as (count * kv heads, groups * rows, d) of their own, copied once whatever the dtype."""
    piece = _apart(tensor, place, block, kv_heads)
    own = torch.empty(piece.shape, dtype=dtype or tensor.dtype, device=tensor.device).copy_(piece)
    return own.view(len(piece) * kv_heads, -1, tensor.shape[2])


def _lay(piece: Tensor, target: Tensor, place: Place, block: slice) -> None:
    """The reverse of _cut, into its place."""
    kv_heads = len(piece) // place[2]
    there = _apart(target, place, block, kv_heads)
    there.copy_(piece.view(there.shape))


def _seen(tensor: Tensor, place: Place, shared: int) -> Tensor:
    """Keys or values (count * kv heads, places, d) that a run of (kv heads, T, d) sees: what is shared, and its own."""
    start, length, count = place
    own = _cut(tensor, place, slice(length), len(tensor))
    if start < shared or not shared:
        return own
    before = tensor[:, :shared].expand(count, -1, -1, -1).flatten(0, 1)
    return torch.cat((before, own), dim=1)


def _settle(piece: Tensor, total: Tensor, target: Tensor, place: Place) -> None:
    """Put what a run sends to the keys or values it sees where they are: its own, and the sum over what is shared."""
    before, shared = piece.shape[1] - place[1], total.shape[1]
    if before:
        total.add_(piece[:, :before].view(place[2], *total.shape).sum(dim=0, dtype=torch.float32))
    elif shared:
        total.add_(piece)
        return
    _lay(piece[:, before:], target, place, slice(place[1]))
