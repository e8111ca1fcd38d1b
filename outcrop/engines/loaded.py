"""An adapter as an engine holds it, the products that it gains upon, and which rows of a step are whose.

Knows tensors; nothing of how the gains are computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from outcrop.kernels.product import PairedWeight
from outcrop.kernels.thin import Thin

MANY: Final = 4
"""Rows of one adapter from which a product of their own is faster than their share of the batched one."""


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
    """By target; None where it gains nothing."""
    ranks: tuple[tuple[int, ...], ...]
    """By target, of each of its layers; 0 where it gains nothing."""
    thin: Thin | None = None
    """The same for the kernel of few rows, where it reads such tensors."""
    paired: tuple[tuple[PairedWeight, PairedWeight] | None, ...] = ()
    """`factors` as our own products have them, where those multiply; there are no others then."""

    def add(self, target: int, x: Tensor, y: Tensor) -> None:
        """Add to all rows of y, in place, what the adapter makes of x; RuntimeError for tensors that are not such."""
        if self.paired:
            pair = self.paired[target]
            if pair is not None:
                # Kernels write by address, whatever lies there.
                if y.shape != (len(x), pair[1].outputs) or y.dtype != x.dtype or not y.is_contiguous():
                    raise RuntimeError(f"an adapter does not add to {tuple(y.shape)} in {y.dtype}, or not end to end")
                pair[1].into(y, pair[0](x), adds=True).run()
            return
        factors = self.factors[target]
        if factors is not None:
            y.addmm_(x @ factors[0], factors[1])


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
