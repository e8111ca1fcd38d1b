"""Many LoRA adapters in one step: rows of each go through its own factors, rows of the base pay nothing.

An adapter's rows lie beside each other: many of them are one product each side. Few go through a kernel, each over its
own adapter's factors; where kernels do not read such tensors, single ones are one batched product over a shelf. Knows
tensors and LoraAdapter; nothing of models' layers beyond their names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from outcrop import kernels
from outcrop.engines.loaded import Group, Loaded, Pair, Target
from outcrop.engines.shelf import Shelf
from outcrop.errors import OutcropError
from outcrop.kernels.product import PairedWeight, pays
from outcrop.kernels.thin import Thin, ThinRows
from outcrop.lora import Factors, LoraAdapter

CROWD: Final = 32
"""Rows of one adapter from which torch's products are faster than the kernel, which reads the factors for each."""


class Gains:
    """What adapters add to the products of one model."""

    def __init__(self, targets: Sequence[Target], dtype: torch.dtype, device: torch.device) -> None:
        self._targets = tuple(targets)
        self._places = {path: place for place, target in enumerate(targets) for path in target.outputs}
        self._dtype, self._device = dtype, device
        self._by_kernel = kernels.run(device, dtype)
        self._count = 0
        self._rows = 0
        self._groups: list[Group] = []
        self.crowds: list[Group] = []
        """Those whose rows are a product of their own."""
        self.thin: ThinRows | None = None
        """Rows that gain by the kernel."""
        self._shelf = Shelf(self._targets, dtype, device)
        self.after_forget: Callable[[], None] = lambda: None
        """Called when an adapter was forgotten: whoever has its tensors lets go of them."""

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
        both = list(zip(self._targets, by_target, strict=True))
        ranks = tuple(
            tuple(factors[path].a.shape[0] if path in factors else 0 for path in target.outputs)
            for target, factors in both
        )
        pairs = tuple(self._pair(target, factors) for target, factors in both)
        thin = Thin.of([self._thin_pairs(target, factors) for target, factors in both]) if self._by_kernel else None
        paired: tuple[tuple[PairedWeight, PairedWeight] | None, ...] = ()
        even = all(target.inputs % 2 == 0 for target in self._targets)
        if self._by_kernel and self._dtype == torch.bfloat16 and even and pays():
            paired = tuple(None if pair is None else _paired(pair) for pair in pairs)
            pairs = (None,) * len(pairs)
        return Loaded(self._count, name, pairs, ranks, thin, paired)

    def begin(self, groups: list[Group], rows: int) -> None:
        """From now on so many rows are read, and belong to these groups."""
        self._rows = rows
        if groups == self._groups:
            return
        # Set again at the very end: a step that fails on the way here must not find itself prepared.
        self._groups, self.crowds, self.thin = [], [], None
        if self._by_kernel:
            self.crowds = [group for group in groups if len(group.adapters) == 1 and group.length >= CROWD]
            few = [group for group in groups if group not in self.crowds]
            owned = [(row, one) for group in few for row, one in _owners(group)]
            if owned:
                found = [one.thin for _, one in owned if one.thin is not None]
                maps = [(target.inputs, list(target.outputs.values())) for target in self._targets]
                self.thin = ThinRows([row for row, _ in owned], found, maps)
        else:
            self.crowds = [group for group in groups if len(group.adapters) == 1]
            self._shelf.hold([group for group in groups if len(group.adapters) > 1])
        self._groups = groups

    def forget(self, adapter: Loaded) -> None:
        """Nobody will ask for this adapter again."""
        self._groups, self.crowds, self.thin = [], [], None
        self._shelf.forget(adapter)
        self.after_forget()

    @property
    def acting(self) -> bool:
        """False where all rows are the base's own."""
        return bool(self._groups)

    def add(self, target: int, x: Tensor, y: Tensor) -> None:
        """Add to y (rows, outputs), in place, what the rows' adapters make of x (rows, inputs)."""
        if x.shape[0] != self._rows:
            raise RuntimeError(f"{x.shape[0]} rows reach a layer in a step of {self._rows}: whose they are is unknown")
        for group in self.crowds:
            rows = slice(group.row, group.row + group.length)
            group.adapters[0].add(target, x[rows], y[rows])
        if self.thin is not None:
            self.thin.add(target, x, y)
        elif not self._by_kernel:
            self._shelf.add(target, x, y)

    def _pair(self, target: Target, factors: Mapping[str, Factors]) -> Pair | None:
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

    def _thin_pairs(self, target: Target, factors: Mapping[str, Factors]) -> list[Pair | None]:
        """(A, B) of each layer, (rank, inputs) and (rank, outputs)."""
        found = [factors.get(path) for path in target.outputs]
        return [
            None
            if one is None
            else (self._placed(one.a.detach()), self._placed(one.b.detach().float().t() * one.scale))
            for one in found
        ]

    def _placed(self, factor: Tensor) -> Tensor:
        return factor.to(self._device, self._dtype).contiguous()


def _paired(pair: Pair) -> tuple[PairedWeight, PairedWeight]:
    """Both factors as our own products have them, which multiply pairs of numbers: an odd rank gets one of zeros."""
    a, b = pair
    odd = a.shape[1] % 2
    return (
        PairedWeight(functional.pad(a, (0, odd)).t().contiguous(), None),
        PairedWeight(functional.pad(b, (0, 0, 0, odd)).t().contiguous(), None),
    )


def _owners(group: Group) -> list[tuple[int, Loaded]]:
    """Each row of a group, and whose it is."""
    adapters = group.adapters if len(group.adapters) == group.length else group.adapters * group.length
    return list(zip(range(group.row, group.row + group.length), adapters, strict=True))
