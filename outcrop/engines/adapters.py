"""Many LoRA adapters in one step: rows of each go through its own factors, rows of the base pay nothing.

An adapter's rows lie beside each other: many of them are one product each side; single ones, each of another adapter,
go through one batched product, over factors that stay beside each other on a shelf while their adapters come and go.
Knows tensors and LoraAdapter; nothing of models' layers beyond their names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

import torch
from torch import Tensor

from outcrop.errors import OutcropError
from outcrop.lora import Factors, LoraAdapter

MANY: Final = 4
"""Rows of one adapter from which a product of their own is faster than their share of the batched one."""


CROWD: Final = 32
"""Rows from which a CPU is faster in the model's own bfloat16: 3 to 15 times for a chunk of 256 rows."""


@dataclass(frozen=True, slots=True)
class Target:
    """A product of the model that adapters gain upon: one linear layer, or several that read the same and are fused."""

    inputs: int
    outputs: dict[str, int]
    """Each layer's path, as adapters name it, and how many numbers it gives."""


Pair = tuple[Tensor, Tensor]
"""(inputs, rank) and (rank, outputs), the scale within the latter."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An adapter laid out for the targets of a model."""

    number: int
    """Never used again for another one; from 1 on."""
    name: str
    factors: tuple[Pair | None, ...]
    """By target; None where it gains nothing. For few rows."""
    wide: tuple[Pair | None, ...]
    """The same in the model's own dtype, for many."""
    ranks: tuple[tuple[int, ...], ...]
    """By target, of each of its layers; 0 where it gains nothing."""


@dataclass(frozen=True, slots=True)
class Group:
    """Neighbouring rows: all of one adapter, or each of its own."""

    row: int
    length: int
    adapters: tuple[Loaded, ...]


def groups(parts: Sequence[tuple[Loaded | None, int]]) -> list[Group]:
    """Parts as (adapter, rows) in the order of their rows."""
    runs: list[Group] = []
    row = 0
    for adapter, length in parts:
        last = runs[-1] if runs else None
        if adapter is None:
            pass
        elif last is not None and last.adapters == (adapter,) and last.row + last.length == row:
            runs[-1] = Group(last.row, last.length + length, last.adapters)
        else:
            runs.append(Group(row, length, (adapter,)))
        row += length
    found: list[Group] = []
    for run in runs:
        last = found[-1] if found else None
        if run.length >= MANY:
            found.append(run)
        elif last is not None and len(last.adapters) == last.length and last.row + last.length == run.row:
            found[-1] = Group(last.row, last.length + run.length, last.adapters + run.adapters * run.length)
        else:
            found.append(Group(run.row, run.length, run.adapters * run.length))
    return found


class Gains:
    """What adapters add to the products of one model."""

    def __init__(self, targets: Sequence[Target], dtype: torch.dtype, device: torch.device) -> None:
        self._targets = tuple(targets)
        self._places = {path: place for place, target in enumerate(targets) for path in target.outputs}
        self._own = dtype
        # On a CPU products of few rows and small ranks are three times faster in float32, whatever the model is in.
        self._dtype = torch.float32 if device.type == "cpu" else dtype
        self._device = device
        self._count = 0
        self._groups: list[Group] = []
        self._rows = 0
        self._shelf = _Shelf(self._targets, self._dtype, device)

    def lay_out(self, name: str, adapter: LoraAdapter) -> Loaded:
        """An adapter ready to act; raises OutcropError where it does not fit the model."""
        by_target: list[dict[str, Factors]] = [{} for _ in self._targets]
        for path, factors in adapter.factors.items():
            place = self._places.get(path)
            if place is None:
                raise OutcropError(f"adapter {name}: the base has no linear layer {path}")
            target = self._targets[place]
            maps = (factors.a.shape[1], factors.b.shape[0])
            if maps != (target.inputs, target.outputs[path]):
                raise OutcropError(
                    f"adapter {name}: {path} maps {maps} but the base's layer is "
                    f"{(target.inputs, target.outputs[path])}"
                )
            by_target[place][path] = factors
        self._count += 1
        pairs = tuple(self._pair(target, factors) for target, factors in zip(self._targets, by_target, strict=True))
        wide = tuple(None if pair is None else (pair[0].to(self._own), pair[1].to(self._own)) for pair in pairs)
        ranks = tuple(
            tuple(factors[path].a.shape[0] if path in factors else 0 for path in target.outputs)
            for target, factors in zip(self._targets, by_target, strict=True)
        )
        return Loaded(self._count, name, pairs, wide, ranks)

    def begin(self, batch_groups: list[Group], rows: int) -> None:
        """From now on so many rows are read, and belong to these groups."""
        self._groups, self._rows = batch_groups, rows
        self._shelf.hold([group for group in batch_groups if len(group.adapters) > 1])

    def forget(self, adapter: Loaded) -> None:
        """Nobody will ask for this adapter again."""
        self._shelf.forget(adapter)

    @property
    def acting(self) -> bool:
        """False where all rows are the base's own."""
        return bool(self._groups)

    def add(self, target: int, x: Tensor, y: Tensor) -> None:
        """Add to y (rows, outputs), in place, what the rows' adapters make of x (rows, inputs)."""
        if x.shape[0] != self._rows:
            raise RuntimeError(f"{x.shape[0]} rows reach a layer in a step of {self._rows}: whose they are is unknown")
        for group in self._groups:
            if len(group.adapters) > 1:
                continue
            rows, one = slice(group.row, group.row + group.length), group.adapters[0]
            pair = one.wide[target] if group.length >= CROWD else one.factors[target]
            if pair is not None and group.length >= CROWD:
                y[rows].addmm_(x[rows] @ pair[0], pair[1])
            elif pair is not None:
                y[rows].add_(x[rows].to(self._dtype) @ pair[0] @ pair[1])
        self._shelf.add(target, x, y)

    def _pair(self, target: Target, factors: dict[str, Factors]) -> Pair | None:
        """One pair for fused layers: A upon A, B block by block."""
        if not factors:
            return None
        rank = sum(one.a.shape[0] for one in factors.values())
        wide = torch.zeros(rank, sum(target.outputs.values()), dtype=torch.float32)
        row = column = 0
        for path, width in target.outputs.items():
            one = factors.get(path)
            if one is not None:
                wide[row : row + one.b.shape[1], column : column + width] = one.b.detach().float().t() * one.scale
                row += one.b.shape[1]
            column += width
        a = torch.cat([factors[path].a.detach().float() for path in target.outputs if path in factors])
        return self._placed(a.t()), self._placed(wide)

    def _placed(self, factor: Tensor) -> Tensor:
        return factor.to(self._device, self._dtype).contiguous()


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


class _Shelf:
    """Factors of adapters beside each other, a slot each: single rows of many adapters are one batched product.

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
