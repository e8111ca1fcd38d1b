"""Linear layers that read the same rows, with what adapters add to them, forwards and backwards as plain products.

What autograd would do layer by layer is done once for all of them: the rows are read once by all the adapters' first
factors, and the gradients of the rows add up inside the products. Knows tensors and adapters; nothing of what the
layers are for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from outcrop.lora import LoraLinear


@dataclass(frozen=True, slots=True)
class Wiring:
    """Which tensors one layer brings along: its weight, maybe a bias, and two factors of every acting adapter."""

    biased: bool
    scales: tuple[float, ...]
    """One an adapter."""


def wire(layers: Sequence[nn.Module]) -> tuple[tuple[Wiring, ...], list[Tensor]]:
    """The layers as they are at this moment."""
    wirings, tensors = [], []
    for layer in layers:
        if not isinstance(layer, nn.Linear | LoraLinear):
            raise TypeError(f"{type(layer).__name__} is no linear layer")
        acting = layer.acting() if isinstance(layer, LoraLinear) else []
        wirings.append(Wiring(layer.bias is not None, tuple(one.scale for one in acting)))
        tensors.append(layer.weight)
        if layer.bias is not None:
            tensors.append(layer.bias)
        for one in acting:
            tensors += [one.a, one.b]
    return tuple(wirings), tensors


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    weight: Tensor
    bias: Tensor | None
    adapters: tuple[tuple[slice, Tensor, float], ...]
    """Each one's place among all first products, its second factor, and its scale."""


class Bundle:
    """The layers of some wirings; their tensors are taken from the front of an iterator."""

    def __init__(self, wirings: Sequence[Wiring], tensors: Iterator[Tensor]) -> None:
        self._layers: list[_Layer] = []
        firsts: list[Tensor] = []
        rank = 0
        for wiring in wirings:
            weight = next(tensors)
            bias = next(tensors) if wiring.biased else None
            adapters = []
            for scale in wiring.scales:
                a, b = next(tensors), next(tensors)
                firsts.append(a.to(weight.dtype))
                adapters.append((slice(rank, rank + len(a)), b.to(weight.dtype), scale))
                rank += len(a)
            self._layers.append(_Layer(weight, bias, tuple(adapters)))
        self._first = torch.cat(firsts) if firsts else None

    def __call__(self, x: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """What each layer makes of (N, in), and the adapters' first products, which descend() wants."""
        low = None if self._first is None else functional.linear(x, self._first)
        made = []
        for layer in self._layers:
            y = functional.linear(x, layer.weight, layer.bias)
            for place, b, scale in layer.adapters:
                if low is not None:
                    y.addmm_(low[:, place], b.t(), alpha=scale)
            made.append(y)
        return made, low

    def descend(
        self, above: Sequence[Tensor], x: Tensor, low: Tensor | None, *, downwards: bool, learns: Sequence[bool]
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of x (where it goes on downwards), and of all tensors that learn, in their order."""
        towards = None
        if downwards:
            towards = above[0] @ self._layers[0].weight
            for layer, one in zip(self._layers[1:], above[1:], strict=True):
                towards.addmm_(one, layer.weight)
        to_first = self._to_first(above, x, towards)
        found: list[Tensor | None] = []
        left = iter(learns)
        for layer, one in zip(self._layers, above, strict=True):
            found.append(one.t() @ x if next(left) else None)
            if layer.bias is not None:
                found.append(one.sum(dim=0, dtype=torch.float32).to(one.dtype) if next(left) else None)
            for place, _, scale in layer.adapters:
                found.append(to_first[place].float() if next(left) and to_first is not None else None)
                wanted = next(left) and low is not None
                # In this order the product of so few rows takes half the time.
                second = (low[:, place].t() @ one).t() if wanted and low is not None else None
                found.append(None if second is None else second.float().contiguous().mul_(scale))
        return towards, found

    def _to_first(self, above: Sequence[Tensor], x: Tensor, towards: Tensor | None) -> Tensor | None:
        """The gradient of all first factors, one upon the other; what they send on is added to `towards`."""
        if self._first is None:
            return None
        between = torch.cat(
            [
                (one @ b).mul_(scale)
                for layer, one in zip(self._layers, above, strict=True)
                for _, b, scale in layer.adapters
            ],
            dim=1,
        )
        if towards is not None:
            towards.addmm_(between, self._first)
        return between.t() @ x
