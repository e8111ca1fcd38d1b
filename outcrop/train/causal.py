"""Causal attention of short segments on a CPU as plain matrix products: several times faster there than torch's kernel.

Torch's flash kernel for CPUs walks small tiles, which pays for long contexts; examples are a few hundred tokens, and
their scores fit into cache. Scores and softmax are float32 whatever the weights are, the other products in the weights'
own dtype. The shares of short segments are kept for the backward pass, those of long ones computed again. Knows
tensors; nothing of models or of who packs.
"""

import math
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
        q = _apart(query, place, key.shape[0])
        k, v = (_seen(one, place, shared) for one in (key, value))
        _lay(_Segments(q, k, v, scale).attend(kept), out.transpose(0, 1), place)
    return out, kept


def descend(  # noqa: PLR0917
    above: Tensor, heads: Heads, out: Tensor, kept: Sequence[Tensor], runs: Runs, scale: float, shared: int = 0
) -> Heads:
    """Gradients of query, key and value, in their shapes, from that of attend()'s answers and what it returned."""
    query, key, value = heads
    # As (T, heads, d) in memory, like what the projections made.
    found = tuple(torch.empty_like(one.transpose(0, 1)).transpose(0, 1) for one in heads)
    shares = iter(kept)
    # Of what is shared: from all that go on from it, in float32, as they are a sum.
    sums = tuple(one.new_zeros(one.shape[0], shared, one.shape[2], dtype=torch.float32) for one in (key, value))
    for place in _places(runs, shared):
        q, o, d = (_apart(one, place, key.shape[0]) for one in (query, out.transpose(0, 1), above.transpose(0, 1)))
        k, v = (_seen(one, place, shared) for one in (key, value))
        to_q, *to_seen = _Segments(q, k, v, scale).descend(o, d, shares)
        _lay(to_q, found[0], place)
        for piece, total, target in zip(to_seen, sums, found[1:], strict=True):
            before = piece.shape[2] - place[1]
            if before:
                total.add_(piece[:, 0, :before].view(place[2], *total.shape).sum(dim=0))
            elif shared:
                total.add_(piece[:, 0])
                continue
            _lay(piece[:, :, before:], target, place)
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
        ctx.save_for_backward(query, key, value, out, *kept)
        ctx.how = runs, scale, shared
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, out, *kept = ctx.saved_tensors
        return *descend(gradients[0], (query, key, value), out, kept, *ctx.how), None, None, None


class _Segments:
    """Segments of one length: (B, groups, L, d) queries upon (B, K, d) keys and values, the last L their own."""

    def __init__(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> None:
        # A power of two changes no digit, so it goes into the queries; another scale into the scores.
        self._folded = scale if math.frexp(scale)[0] == 0.5 else 1.0
        self._scale = scale / self._folded
        self._q, self._k, self._v = q if self._folded == 1.0 else q * self._folded, k, v
        self._before = k.shape[1] - q.shape[2]
        side = min(BLOCK, q.shape[2])
        self._future = torch.full((side, side), float("-inf"), device=q.device).triu_(1)

    def attend(self, kept: list[Tensor]) -> Tensor:
        """The answers, shaped as q; what descend() wants is added to `kept`."""
        out = torch.empty_like(self._q)
        for block in self._blocks():
            shares = self._shares(block)
            out[:, :, block] = (shares @ self._v[:, : shares.shape[2]]).view_as(out[:, :, block])
            if self._k.shape[1] <= KEPT:
                kept.append(shares)
        return out

    def descend(self, out: Tensor, along: Tensor, kept: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of q, shaped as it is, and float32 (B, 1, K, d) of k and v, from the answers' own."""
        q, k, v = self._q, self._k, self._v
        to_q = torch.empty_like(q)
        # Summed over blocks, so in float32.
        to_k, to_v = (torch.zeros_like(k, dtype=torch.float32) for _ in range(2))
        # What a row's shares are measured against: their mean gradient.
        mean = torch.linalg.vecdot(along.float(), out.float()).unsqueeze(-1)
        for block in self._blocks():
            shares = next(kept) if k.shape[1] <= KEPT else self._shares(block)
            seen = slice(shares.shape[2])
            rows, d = q[:, :, block].flatten(1, 2), along[:, :, block].flatten(1, 2)
            to_v[:, seen] += shares.transpose(1, 2) @ d
            inner = (d @ v[:, seen].transpose(1, 2)).float()
            inner = inner.sub_(mean[:, :, block].flatten(1, 2)).mul_(shares)
            if self._scale != 1.0:
                inner.mul_(self._scale)
            inner = inner.to(q.dtype)
            to_q[:, :, block] = (inner @ k[:, seen]).view_as(to_q[:, :, block])
            to_k[:, seen] += inner.transpose(1, 2) @ rows
        if self._folded != 1.0:
            to_q.mul_(self._folded)
        return to_q, to_k.unsqueeze(1), to_v.unsqueeze(1)

    def _shares(self, block: slice) -> Tensor:
        """(B, groups * rows, keys) of these rows among a segment's first keys, in the queries' dtype."""
        q, keys = self._q[:, :, block], self._before + block.stop
        rows = q.shape[2]
        with products_of(q.dtype):
            scores = q.flatten(1, 2).float() @ self._k[:, :keys].float().transpose(1, 2)
        if self._scale != 1.0:
            scores.mul_(self._scale)
        scores.view(*q.shape[:3], keys)[..., keys - rows :].add_(self._future[:rows, :rows])
        return torch.softmax(scores, dim=-1).to(q.dtype)

    def _blocks(self) -> Iterator[slice]:
        length = self._q.shape[2]
        for start in range(0, length, BLOCK):
            yield slice(start, min(start + BLOCK, length))


def _places(runs: Runs, shared: int) -> Iterator[tuple[int, int, int]]:
    """Start, length and count of every run; what is shared is one before them."""
    start = shared
    if shared:
        yield 0, shared, 1
    for length, count in runs:
        yield start, length, count
        start += length * count


def _apart(tensor: Tensor, place: tuple[int, int, int], kv_heads: int) -> Tensor:
    """A run of (heads, T, d) as (count * kv heads, groups, length, d)."""
    start, length, count = place
    piece = tensor[:, start : start + length * count]
    piece = piece.reshape(kv_heads, -1, count, length, tensor.shape[2])
    return piece.permute(2, 0, 1, 3, 4).reshape(count * kv_heads, -1, length, tensor.shape[2])


def _seen(tensor: Tensor, place: tuple[int, int, int], shared: int) -> Tensor:
    """Keys or values (count * kv heads, places, d) that a run of (kv heads, T, d) sees: what is shared, and its own."""
    own = _apart(tensor, place, tensor.shape[0])[:, 0]
    start, _, count = place
    if start < shared or not shared:
        return own
    before = tensor[:, :shared].expand(count, -1, -1, -1).flatten(0, 1)
    return torch.cat((before, own), dim=1)


def _lay(piece: Tensor, target: Tensor, place: tuple[int, int, int]) -> None:
    """The reverse of _apart, into its place."""
    start, length, count = place
    heads, width = target.shape[0], target.shape[2]
    kv_heads = piece.shape[0] // count
    piece = piece.view(count, kv_heads, heads // kv_heads, length, width).permute(1, 2, 0, 3, 4)
    target[:, start : start + length * count] = piece.reshape(heads, count * length, width)
