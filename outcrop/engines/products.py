"""Frozen linear layers laid out once for the machine: for our own kernel, as oneDNN wants them, or as they are.

bfloat16 goes through our kernel where the processor has the instruction for it, and no larger ones. Elsewhere on x86
CPUs oneDNN's layout: torch's own linear layer has oneDNN reorder a bfloat16 weight at every call, and takes another
library for float32; laid out beforehand, 16 rows take 1.6 and 2.5 times less (EPYC of Zen 5, one core, torch 2.13).
Knows tensors only.
"""

import platform
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from outcrop.kernels.product import PairedWeight, pays

ROWS: Final = 16
"""For how many rows oneDNN is asked to lay out a weight; the layout for 1 to 512 was the same where it was measured."""


class Product:
    """x W^T + b for a frozen weight (outputs, inputs)."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.outputs, self.inputs = weight.shape
        self.bytes = weight.numel() * weight.element_size()
        weight, bias = weight.detach(), None if bias is None else bias.detach()
        self.paired: PairedWeight | None = PairedWeight(weight, bias) if _is_paired(weight) else None
        """The weight as our own kernel has it, where that multiplies."""
        if self.paired is not None:
            self._run: Callable[[Tensor], Tensor] = self.paired
        elif lays_out(weight.device, weight.dtype):
            laid = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS)
            self._run = partial(_by_onednn, laid, bias)
        else:
            self._run = partial(functional.linear, weight=weight, bias=bias)

    @classmethod
    def fused(cls, weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> "Product":
        """Several layers that read the same, as one; either all of them have a bias or none."""
        bias = [one for one in biases if one is not None]
        return cls(torch.cat(list(weights)), torch.cat(bias) if bias else None)

    def __call__(self, x: Tensor) -> Tensor:
        """(…, inputs) to (…, outputs)."""
        if x.dim() == 2:
            return self._run(x)
        return self._run(x.reshape(-1, self.inputs)).view(*x.shape[:-1], self.outputs)


def _is_paired(weight: Tensor) -> bool:
    """True where our kernel multiplies by this weight."""
    fits = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    return fits and weight.shape[1] > 0 and weight.shape[1] % 2 == 0 and pays()


def _by_onednn(laid: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, laid, bias, "none", _NOTHING, "")
    return found


_NOTHING: Final[list[Any]] = []


def lays_out(device: torch.device, dtype: torch.dtype) -> bool:
    """True where weights of this dtype are laid out beforehand."""
    if device.type != "cpu" or platform.machine() != "x86_64" or not torch._C._has_mkldnn:
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
