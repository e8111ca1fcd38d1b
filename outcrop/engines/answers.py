"""A step of answers, one row each, as one call: every kernel of a lean model in its order, over buffers that stay.

What such a step computes is small, and what Python does between sixty kernels is not. The numbers are those of the
model's own way, bit by bit: the same kernels read the same. Knows a model's parts, batches and the cache.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from outcrop.engines.adapters import Gains
from outcrop.engines.attention import Rule
from outcrop.engines.batch import Batch
from outcrop.engines.cache import Cache
from outcrop.kernels import rows
from outcrop.kernels.attention import attend_into, scratch_for
from outcrop.kernels.native import Call
from outcrop.kernels.product import PairedWeight
from outcrop.kernels.program import Program

KEPT: Final = 64
"""Programs that are kept: one for each number of rows, of threads, and reach of attention that was seen of late."""

REACH: Final = 256
"""By whose multiples attention's room is made, so that a text that grows does not ask for another program."""


class Layer(Protocol):
    """What is asked of a layer beside its products."""

    @property
    def before(self) -> Tensor:
        """The norm before attention."""

    @property
    def between(self) -> Tensor:
        """The norm behind it."""

    @property
    def heads(self) -> Tensor | None:
        """Norms of queries' and keys' heads."""

    @property
    def rule(self) -> Rule:
        """How it attends."""


WORTH: Final = 1 << 21
"""Numbers of all products under which waking a second thread takes longer than doing it alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a lean model is made of."""

    table: Tensor
    """Of tokens, (vocabulary, hidden)."""
    layers: Sequence[tuple[Layer, Sequence[PairedWeight]]]
    """Each with its products: queries, keys and values; what attention gives; gate and up; down."""
    last: Tensor
    """The last norm."""
    head: PairedWeight
    eps: float
    queries: int
    """Heads."""


class _Buffers:
    """What rows are, from the first kernel to the last."""

    def __init__(self, parts: Parts, rows: int, width: int) -> None:
        kind, hidden = parts.table.dtype, parts.table.shape[1]
        (_, (qkv, out, gate_up, down)), *_ = parts.layers
        self.hidden, self.normed = (torch.empty(rows, hidden, dtype=kind) for _ in range(2))
        self.made = torch.empty(rows, qkv.outputs, dtype=kind)
        self.query, self.seen = (torch.empty(rows, parts.queries, width, dtype=kind) for _ in range(2))
        self.told = torch.empty(rows, out.outputs, dtype=kind)
        self.both = torch.empty(rows, gate_up.outputs, dtype=kind)
        self.gated = torch.empty(rows, gate_up.outputs // 2, dtype=kind)
        self.added = torch.empty(rows, down.outputs, dtype=kind)
        self.logits = torch.empty(rows, parts.head.outputs, dtype=kind)
        self.cos, self.sin = (torch.empty(rows, width) for _ in range(2))
        self.places = torch.empty(rows, dtype=torch.int64)
        self.where = {layer.rule.window: torch.empty(rows, 2, dtype=torch.int64) for layer, _ in parts.layers}


class _Planned:
    """A program, where its kernels read and write, and where adapters would join."""

    def __init__(self, parts: Parts, cache: Cache, count: int, reach: int) -> None:
        self._width = cache.layers[0][0].shape[2]
        self.at = _Buffers(parts, count, self._width)
        self.joins: list[tuple[int, Tensor, Tensor]] = []
        """Where in the program an adapter's share of each product has its place, and what it reads and writes."""
        self.served: object = None
        """Whose rows the program was last made for."""
        self._calls: list[Call | None] = []
        threads = torch.get_num_threads()
        self._scratch = scratch_for(threads, parts.queries, cache.layers[0], reach)
        for number, kept in enumerate(cache.layers):
            self._layer(parts, number, kept, reach)
        at = self.at
        self._calls += [
            rows.norm_into(at.normed, at.hidden, at.added, parts.last, parts.eps),
            parts.head.into(at.logits, at.normed),
        ]
        self.program = Program(self._calls)

    def _layer(self, parts: Parts, number: int, kept: tuple[Tensor, Tensor], reach: int) -> None:
        layer, (qkv, out, gate_up, down) = parts.layers[number]
        at, rule, eps = self.at, layer.rule, parts.eps
        self._calls.append(rows.norm_into(at.normed, at.hidden, at.added if number else None, layer.before, eps))
        self._product(qkv, at.normed, at.made)
        self._calls += [
            rows.turn_into(at.query, at.made, (at.cos, at.sin), kept, at.places, heads=layer.heads, eps=eps),
            attend_into(
                at.seen,
                at.query,
                kept,
                at.where[rule.window],
                reach,
                scale=rule.scale,
                cap=rule.cap,
                scratch=self._scratch,
            ),
        ]
        self._product(out, at.seen.flatten(1), at.told)
        self._calls.append(rows.norm_into(at.normed, at.hidden, at.told, layer.between, eps))
        self._product(gate_up, at.normed, at.both)
        self._calls.append(rows.gate_into(at.gated, at.both))
        self._product(down, at.gated, at.added)

    def _product(self, weight: PairedWeight, x: Tensor, y: Tensor) -> None:
        self._calls.append(weight.into(y, x))
        self.joins.append((len(self._calls), x, y))
        self._calls.append(None)


class Answers:
    """Steps of answers of one lean model whose products are our own kernel's."""

    def __init__(self, parts: Parts, gains: Gains) -> None:
        self._parts, self._gains = parts, gains
        self._planned: OrderedDict[tuple[int, int, int], _Planned] = OrderedDict()
        self._cache: Cache | None = None
        products = [parts.head, *(one for _, some in parts.layers for one in some)]
        self._numbers = sum(one.inputs * one.outputs for one in products)

    def fit(self, batch: Batch) -> bool:
        """True where a step has single rows only, all of them answer, and no adapter's rows are a product of theirs."""
        return batch.single == batch.rows == batch.answered and not self._gains.crowded

    def run(self, batch: Batch, cache: Cache, turns: tuple[Tensor, Tensor]) -> Tensor:
        """Logits (rows, vocabulary), to be read before the next step; turns: as kernels.rows.turn has them."""
        seen = {window: batch.seen(window) for window in {layer.rule.window for layer, _ in self._parts.layers}}
        planned = self._plan(batch.rows, cache, max(longest for _, longest in seen.values()))
        at = planned.at
        torch.index_select(self._parts.table, 0, batch.ids, out=at.hidden)
        at.cos.copy_(turns[0])
        at.sin.copy_(turns[1])
        at.places.copy_(batch.places)
        for window, (where, _) in seen.items():
            at.where[window].copy_(where)
        self._join(planned)
        planned.program.run(torch.get_num_threads() if self._numbers >= WORTH else 1)
        return at.logits

    def _plan(self, count: int, cache: Cache, longest: int) -> _Planned:
        if cache is not self._cache:
            self._planned.clear()
            self._cache = cache
        key = count, torch.get_num_threads(), -(-longest // REACH) * REACH
        planned = self._planned.get(key)
        if planned is None:
            planned = self._planned[key] = _Planned(self._parts, cache, count, key[2])
            if len(self._planned) > KEPT:
                self._planned.popitem(last=False)
        self._planned.move_to_end(key)
        return planned

    def _join(self, planned: _Planned) -> None:
        """Let adapters' kernels take their places, where the step's are not those of the last."""
        thin = self._gains.thin
        if planned.served is thin:
            return
        for target, (place, x, y) in enumerate(planned.joins):
            planned.program.put(place, None if thin is None else thin.into(target, x, y))
        planned.served = thin
