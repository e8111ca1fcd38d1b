"""Many LoRA adapters in one step: rows of each go through its own factors, rows of the base pay nothing.

An adapter's rows lie beside each other: many of them are one product each side; single ones, each of another adapter,
are gathered into one batched product. Knows tensors and LoraAdapter; nothing of models' layers beyond their names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
        self._stacks: dict[tuple[Loaded, ...], list[Pair | None]] = {}

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
        return Loaded(self._count, name, pairs, wide)

    def begin(self, batch_groups: list[Group], rows: int) -> None:
        """From now on so many rows are read, and belong to these groups."""
        self._groups, self._rows = batch_groups, rows
        many = [group.adapters for group in batch_groups if len(group.adapters) > 1]
        self._stacks = {key: self._stacks.get(key) or self._stacked(key) for key in many}

    @property
    def acting(self) -> bool:
        """False where all rows are the base's own."""
        return bool(self._groups)

    def add(self, target: int, x: Tensor, y: Tensor) -> None:
        """Add to y (rows, outputs), in place, what the rows' adapters make of x (rows, inputs)."""
        if x.shape[0] != self._rows:
            raise RuntimeError(f"{x.shape[0]} rows reach a layer in a step of {self._rows}: whose they are is unknown")
        for group in self._groups:
            rows = slice(group.row, group.row + group.length)
            if len(group.adapters) == 1:
                one = group.adapters[0]
                pair = one.wide[target] if group.length >= CROWD else one.factors[target]
                if pair is not None and group.length >= CROWD:
                    y[rows].addmm_(x[rows] @ pair[0], pair[1])
                elif pair is not None:
                    y[rows].add_(x[rows].to(self._dtype) @ pair[0] @ pair[1])
                continue
            pair = self._stacks[group.adapters][target]
            if pair is not None:
                low = torch.bmm(x[rows].to(self._dtype).unsqueeze(1), pair[0])
                y[rows].add_(torch.bmm(low, pair[1]).squeeze(1))

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

    def _stacked(self, adapters: tuple[Loaded, ...]) -> list[Pair | None]:
        """The pairs of single rows, one upon the other, at the widest rank among them."""
        stacks: list[Pair | None] = []
        for place, target in enumerate(self._targets):
            pairs = [adapter.factors[place] for adapter in adapters]
            rank = max((pair[0].shape[1] for pair in pairs if pair is not None), default=0)
            if not rank:
                stacks.append(None)
                continue
            a = self._placed(torch.zeros(len(pairs), target.inputs, rank))
            b = self._placed(torch.zeros(len(pairs), rank, sum(target.outputs.values())))
            for row, pair in enumerate(pairs):
                if pair is not None:
                    a[row, :, : pair[0].shape[1]] = pair[0]
                    b[row, : pair[1].shape[0]] = pair[1]
            stacks.append((a, b))
        return stacks

    def _placed(self, factor: Tensor) -> Tensor:
        return factor.to(self._device, self._dtype).contiguous()
