"""Factors of many adapters beside each other: single rows, each of another adapter, go through one batched product.

For tensors that no kernel reads: on a GPU a call costs more than what it reads. Knows loaded adapters and their rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from outcrop.engines.loaded import Group, Loaded, Target


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Neighbouring layers of a target that give as many numbers each: one product for all of them."""

    first: int
    """The first of them among the target's."""
    count: int
    columns: slice
    """Where in the target's outputs theirs are."""
    b: Tensor
    """(slots, layers, rank, numbers)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """Rows of a step that the shelf serves."""

    rows: slice
    slots: Tensor | None
    """Whose results are theirs; None: all, in order."""


class Shelf:
    """A slot for each adapter.

    An adapter keeps its slot until another one needs it: who joins costs a copy of its own factors, who leaves nothing.
    Fused layers lie apart here: side by side as one factor, most of it would be zeros that are read for nothing.
    """

    def __init__(self, targets: Sequence[Target], dtype: torch.dtype, device: torch.device) -> None:
        self._targets, self._dtype, self._device = tuple(targets), dtype, device
        self._slots: list[Loaded | None] = []
        self._rank = 0
        self._gaining: frozenset[int] = frozenset()
        """The targets that anybody here gains upon."""
        self._a: dict[int, Tensor] = {}
        """(slots, inputs, layers * rank)."""
        self._runs: dict[int, list[_Run]] = {}
        self._groups: list[Group] = []
        self._asked: list[_Asked] = []
        self._used = 0
        self._source: Tensor | None = None
        """The row that each slot in use reads; None: as they are asked."""

    def hold(self, groups: list[Group]) -> None:
        """From now on these rows are asked for; where an adapter has two of them it has two slots."""
        if groups == self._groups:
            return
        # Set again at the very end: a step that fails on the way here must not find itself prepared.
        self._groups, self._asked = [], []
        adapters = [adapter for group in groups for adapter in group.adapters]
        if not adapters:
            return
        rank = max(rank for adapter in adapters for ranks in adapter.ranks for rank in ranks)
        gaining = {place for adapter in adapters for place, pair in enumerate(adapter.factors) if pair is not None}
        if rank > self._rank or len(adapters) > len(self._slots) or not gaining <= self._gaining:
            self._lay_out(max(len(adapters), len(self._slots)), max(rank, self._rank), self._gaining | gaining)
        slots = self._placed(adapters, len(self._slots))
        if max(slots) >= 2 * len(adapters):
            slots = self._placed(adapters, len(adapters))
        self._used = max(slots) + 1
        rows = [row for group in groups for row in range(group.row, group.row + group.length)]
        plain = slots == list(range(len(slots))) and len(groups) == 1
        source = dict(zip(slots, rows, strict=True))
        self._source = None if plain else self._numbers([source.get(slot, rows[0]) for slot in range(self._used)])
        for group in groups:
            own, slots = slots[: group.length], slots[group.length :]
            self._asked.append(
                _Asked(slice(group.row, group.row + group.length), None if plain else self._numbers(own))
            )
        self._groups = groups

    def forget(self, adapter: Loaded) -> None:
        """It is not served any more."""
        self._slots = [None if one is adapter else one for one in self._slots]
        self._groups, self._asked = [], []

    def add(self, target: int, x: Tensor, y: Tensor) -> None:
        """Add to the rows of y that are asked for what their adapters make of x."""
        if target not in self._gaining or not self._asked:
            return
        read = x[self._asked[0].rows] if self._source is None else x.index_select(0, self._source)
        low = torch.bmm(read.to(self._dtype).unsqueeze(1), self._a[target][: self._used])
        for run in self._runs[target]:
            b = run.b[: self._used].flatten(0, 1)
            some = low.view(self._used, -1, self._rank)[:, run.first : run.first + run.count].reshape(-1, 1, self._rank)
            gained = torch.bmm(some, b).view(self._used, -1)
            for asked in self._asked:
                own = gained if asked.slots is None else gained.index_select(0, asked.slots)
                y[asked.rows, run.columns].add_(own)

    def _placed(self, adapters: list[Loaded], room: int) -> list[int]:
        """A slot below `room` for each; what is not there yet is copied there."""
        idle: dict[Loaded | None, list[int]] = {}
        for slot in range(room - 1, -1, -1):
            idle.setdefault(self._slots[slot], []).append(slot)
        found = [idle[adapter].pop() if idle.get(adapter) else None for adapter in adapters]
        free = sorted((slot for slots in idle.values() for slot in slots), reverse=True)
        placed = [free.pop() if slot is None else slot for slot in found]
        for adapter, slot, there in zip(adapters, placed, found, strict=True):
            if there is None:
                self._fill(slot, adapter)
        return placed

    def _fill(self, slot: int, adapter: Loaded) -> None:
        """Copy an adapter's factors, layer by layer, into a slot."""
        self._slots[slot] = None
        for place in self._gaining:
            a, runs, pair = self._a[place][slot], self._runs[place], adapter.factors[place]
            a.zero_()
            for run in runs:
                run.b[slot].zero_()
            if pair is None:
                continue
            row = column = 0
            for run in runs:
                for layer in range(run.count):
                    rank, width = adapter.ranks[place][run.first + layer], run.b.shape[3]
                    start = (run.first + layer) * self._rank
                    a[:, start : start + rank] = pair[0][:, row : row + rank]
                    run.b[slot, layer, :rank] = pair[1][row : row + rank, column : column + width]
                    row, column = row + rank, column + width
        self._slots[slot] = adapter

    def _lay_out(self, slots: int, rank: int, gaining: frozenset[int]) -> None:
        """Room for so many adapters of this rank at most."""
        self._slots, self._a, self._runs = [], {}, {}
        self._rank, self._gaining = rank, gaining
        for place in gaining:
            target = self._targets[place]
            self._a[place] = self._zeros(slots, target.inputs, len(target.outputs) * rank)
            self._runs[place] = []
            first = column = 0
            for width, alike in groupby(target.outputs.values()):
                count = len(list(alike))
                columns = slice(column, column + count * width)
                self._runs[place].append(_Run(first, count, columns, self._zeros(slots, count, rank, width)))
                first, column = first + count, columns.stop
        self._slots = [None] * slots

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self._dtype, device=self._device)

    def _numbers(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)
