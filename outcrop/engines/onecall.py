"""A step as one call: every kernel of a lean model in its order, over buffers that stay.

What a step of few rows computes is small, and what Python does between sixty kernels is not; nor is waking a thread for
each of them. The numbers are those of the model's own way, bit by bit: the same kernels read the same. Knows a model's
parts, batches and the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from outcrop.engines.adapters import Gains
from outcrop.engines.batch import Batch, Chunk
from outcrop.engines.cache import Cache
from outcrop.engines.loaded import Group
from outcrop.kernels import rows as small
from outcrop.kernels.attention import attend_into, scratch_for
from outcrop.kernels.chunk import attend_into as chunk_into
from outcrop.kernels.native import Call
from outcrop.kernels.product import PairedWeight
from outcrop.kernels.program import Program
from outcrop.kernels.rows import Norm
from outcrop.kernels.rule import Rule

MOST: Final = 1024
"""Rows of a step beyond which nothing is gained."""

CHUNKS: Final = 16
"""Prompts that a step reads of at most, to be one call."""

CROWDS: Final = 4
"""Adapters of which so many rows are read that they are products of their own, likewise."""

ANSWERS: Final = 64
"""Rows whose logits are made by the same call; those of more are rare and large."""

REACH: Final = 256
"""Tokens that an answer's attention has room for at first; it grows by doubling."""

SINGLES: Final = 6
"""Which of the numbers of single rows' attention says how many they are."""

WORTH: Final = 1 << 21
"""Numbers of all products under which waking a second thread takes longer than doing it alone."""


class Layer(Protocol):
    """What is asked of a layer beside its products."""

    @property
    def before(self) -> Norm:
        """The norm before attention."""

    @property
    def between(self) -> Norm:
        """The norm behind it."""

    @property
    def heads(self) -> Norm | None:
        """Of queries' and keys' heads."""

    @property
    def rule(self) -> Rule:
        """How it attends."""


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a lean model is made of."""

    table: Tensor
    """Of tokens, (vocabulary, hidden)."""
    layers: Sequence[tuple[Layer, Sequence[PairedWeight]]]
    """Each with its products: queries, keys and values; what attention gives; gate and up; down."""
    last: Norm
    """Before the head."""
    head: PairedWeight
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
        self.logits = torch.empty(min(rows, ANSWERS), parts.head.outputs, dtype=kind)
        self.cos, self.sin = (torch.empty(rows, width) for _ in range(2))
        self.places = torch.empty(rows, dtype=torch.int64)
        self.where = {layer.rule.window: torch.empty(rows, 2, dtype=torch.int64) for layer, _ in parts.layers}


@dataclass(frozen=True, slots=True)
class _Join:
    """Where adapters' shares of a product have their places, and what they read and write."""

    thin: int
    crowds: Sequence[tuple[int, int]]
    x: Tensor
    y: Tensor


class _Planned:
    """A program for up to so many rows, for sequences of up to so many tokens."""

    def __init__(self, parts: Parts, cache: Cache, rows: int, reach: int) -> None:
        self.rows, self.reach, self.cache = rows, reach, cache
        self.at = _Buffers(parts, rows, cache.layers[0][0].shape[2])
        self._parts = parts
        self._joins: list[_Join] = []
        self._calls: list[Call | None] = []
        self._singles: list[int] = []
        self._chunks: dict[Rule, list[list[tuple[int, int]]]] = {}
        """By rule, and by layer: where each chunk's two calls have their places."""
        self._keys: dict[Rule, tuple[list[int], list[int]]] = {}
        """By rule, where its layers' keys and values lie."""
        self._scratch = scratch_for(torch.get_num_threads(), parts.queries, cache.layers[0], reach)
        for number, kept in enumerate(cache.layers):
            self._layer(number, kept)
        at = self.at
        self._tail = [
            small.norm_into(at.normed, at.hidden, at.added, parts.last),
            parts.head.into(at.logits, at.normed),
        ]
        self._ends = [len(self._calls), len(self._calls) + 1]
        self._program = Program([*self._calls, *self._tail])
        self._served: tuple[object, list[Group], int] = None, [], 0
        self._read = 0
        self._ending = True

    def run(self, batch: Batch, gains: Gains, threads: int, *, ends: bool) -> None:
        """Through the step whose rows lie in the buffers; ends: up to the logits, which are wanted of all rows."""
        if ends != self._ending:
            for place, call in zip(self._ends, self._tail, strict=True):
                self._program.put([place], call if ends else None)
            self._ending = ends
        self._program.read(batch.rows)
        # Attention of single rows is the one kernel that does not go over all of them.
        self._program.set(self._singles, SINGLES, batch.single)
        self._attend(batch.chunks)
        self._gain(gains, batch.rows)
        self._program.run(threads)

    def let_go(self) -> None:
        """Hold no adapter's factors, until a step has them again."""
        for join in self._joins:
            self._program.put([join.thin, *(place for both in join.crowds for place in both)], None)
        self._served = None, [], 0

    def _layer(self, number: int, kept: tuple[Tensor, Tensor]) -> None:
        parts, at = self._parts, self.at
        layer, (qkv, out, gate_up, down) = parts.layers[number]
        self._calls.append(small.norm_into(at.normed, at.hidden, at.added if number else None, layer.before))
        self._product(qkv, at.normed, at.made)
        turns = at.cos, at.sin
        self._calls.append(small.turn_into(at.query, at.made, turns, kept, at.places, layer.heads))
        self._attention(layer.rule, kept)
        self._product(out, at.seen.flatten(1), at.told)
        self._calls.append(small.norm_into(at.normed, at.hidden, at.told, layer.between))
        self._product(gate_up, at.normed, at.both)
        self._calls.append(small.gate_into(at.gated, at.both))
        self._product(down, at.gated, at.added)

    def _attention(self, rule: Rule, kept: tuple[Tensor, Tensor]) -> None:
        at, where, scratch = self.at, self.at.where[rule.window], self._scratch
        single = attend_into(at.seen, at.query, kept, where, self.reach, rule, scratch)
        self._singles.append(len(self._calls))
        self._calls.append(single)
        begin = len(self._calls)
        self._chunks.setdefault(rule, []).append(
            [(begin + 2 * place, begin + 2 * place + 1) for place in range(CHUNKS)]
        )
        keys, values = self._keys.setdefault(rule, ([], []))
        keys.append(kept[0].data_ptr())
        values.append(kept[1].data_ptr())
        self._calls += [None] * (2 * CHUNKS)

    def _product(self, weight: PairedWeight, x: Tensor, y: Tensor) -> None:
        self._calls.append(weight.into(y, x))
        begin = len(self._calls)
        crowds = [(begin + 1 + 2 * place, begin + 2 + 2 * place) for place in range(CROWDS)]
        self._joins.append(_Join(begin, crowds, x, y))
        self._calls += [None] * (1 + 2 * CROWDS)

    def _attend(self, chunks: Sequence[Chunk]) -> None:
        """Let each prompt's attention take its places."""
        at, program = self.at, self._program
        # A step that fails on the way here leaves some of its own behind.
        read, self._read = self._read, max(self._read, len(chunks))
        for rule, layers in self._chunks.items():
            keys, values = self._keys[rule]
            for place, chunk in enumerate(chunks):
                rows = slice(chunk.row, chunk.row + chunk.length)
                # Laid out and attended to layer after layer, by the same memory.
                seen, asked, kept = at.seen[rows], at.query[rows], self.cache.layers[0]
                laying, attending = chunk_into(seen, asked, kept, chunk.place, chunk.start, rule)
                first, second = ([layer[place][side] for layer in layers] for side in range(2))
                program.put(first, laying)
                program.set(first, 0, keys)
                program.set(first, 1, values)
                program.put(second, attending)
            for place in range(len(chunks), read):
                program.put([both for layer in layers for both in layer[place]], None)
        self._read = len(chunks)

    def _gain(self, gains: Gains, rows: int) -> None:
        """Let adapters' shares take their places, where the step's are not those of the last."""
        thin, crowds = gains.thin, gains.crowds
        served, others, count = self._served
        if served is thin and others == crowds and (count == rows or not gains.acting):
            return
        # Set again at the very end: a step that fails on the way here leaves some of its own behind.
        self._served = object(), max(others, crowds, key=len), 0
        for target, join in enumerate(self._joins):
            x, y = join.x[:rows], join.y[:rows]
            self._program.put([join.thin], None if thin is None else thin.into(target, x, y))
            for group, places in zip(crowds, join.crowds, strict=False):
                low, high = _shares(group, target, x, y)
                self._program.put(places[:1], low)
                self._program.put(places[1:], high)
            for places in join.crowds[len(crowds) : len(others)]:
                self._program.put(places, None)
        self._served = thin, list(crowds), rows


def _shares(group: Group, target: int, x: Tensor, y: Tensor) -> tuple[Call | None, Call | None]:
    """What an adapter adds to its rows, as two products one after the other."""
    pair = group.adapters[0].paired[target]
    if pair is None:
        return None, None
    rows = slice(group.row, group.row + group.length)
    low = x.new_empty(group.length, pair[0].outputs)
    return pair[0].into(low, x[rows]), pair[1].into(y[rows], low, adds=True)


class OneCall:
    """Steps of one lean model whose products are our own kernel's."""

    def __init__(self, parts: Parts, gains: Gains) -> None:
        self._parts, self._gains = parts, gains
        self._planned: dict[int, _Planned] = {}
        """By threads."""
        products = [parts.head, *(one for _, some in parts.layers for one in some)]
        self._numbers = sum(one.inputs * one.outputs for one in products)
        # The next step may be long in coming, or another plan's.
        gains.after_forget = self._let_go

    def fit(self, batch: Batch) -> bool:
        """True where a step can be one call."""
        return batch.rows <= MOST and len(batch.chunks) <= CHUNKS and len(self._gains.crowds) <= CROWDS

    def run(self, batch: Batch, cache: Cache, turned: tuple[Tensor, Tensor]) -> Tensor:
        """Logits (wanted, vocabulary), to be read before the next step; turned: of all positions, as
        kernels.rows.turn has them for some.
        """
        parts, rows = self._parts, batch.rows
        seen = {window: batch.seen(window) for window in {layer.rule.window for layer, _ in parts.layers}}
        planned = self._plan(rows, cache, max(longest for _, longest in seen.values()))
        at = planned.at
        for into, table, which in (
            (at.hidden, parts.table, batch.ids),
            (at.cos, turned[0], batch.positions),
            (at.sin, turned[1], batch.positions),
        ):
            torch.index_select(table, 0, which, out=into[:rows])
        at.places[:rows] = batch.places
        for window, (where, _) in seen.items():
            at.where[window][: batch.single] = where
        ends = batch.answered == rows <= ANSWERS
        planned.run(batch, self._gains, torch.get_num_threads() if self._numbers >= WORTH else 1, ends=ends)
        if ends:
            return at.logits[:rows]
        wanted = batch.wanted
        normed = small.norm(at.hidden[wanted], at.added[wanted], parts.last)
        return parts.head(normed)

    def _let_go(self) -> None:
        for planned in self._planned.values():
            planned.let_go()

    def _plan(self, rows: int, cache: Cache, longest: int) -> _Planned:
        """The program for torch's number of threads, large enough."""
        threads = torch.get_num_threads()
        planned = self._planned.get(threads)
        if planned is None or planned.cache is not cache or planned.rows < rows or planned.reach < longest:
            old = planned if planned is not None and planned.cache is cache else None
            room = max(ANSWERS, 1 << (rows - 1).bit_length(), old.rows if old else 0)
            reach = max(REACH, 1 << (longest - 1).bit_length(), old.reach if old else 0)
            planned = self._planned[threads] = _Planned(self._parts, cache, room, reach)
        return planned
