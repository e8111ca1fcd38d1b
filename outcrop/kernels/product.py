"""Products with a frozen bfloat16 weight, for one row as for hundreds: what a decoding step spends most of its time on.

oneDNN, which torch asks, reads a weight and computes with it one after the other; here the next columns of the weight
are brought near while these are multiplied, so a step of few rows takes little more than reading the weights does.
Knows a weight, its layout and rows; what a tile does is `kernels.tile`'s.
"""

from functools import cache
from typing import Any, Final

import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import THREAD, UNIT, Kernel, halves, processor, take
from outcrop.kernels.tile import FEW, LANES, MANY, VECTORS, few, many

WIDE: Final = LANES * VECTORS
"""Columns of a tile."""

HIGH: Final = 128
"""Rows that one thread takes at a time: a narrow product of many rows has work for all."""


@cache
def supported() -> bool:
    """True on processors that multiply pairs of bfloat16 numbers, 16 at once."""
    # Not what the machine has, but what numba may use of it: LLVM ends the process over an instruction it may not.
    return "+avx512bf16" in processor()[2].split(",")


@cache
def pays() -> bool:
    """True where PairedWeight is the fastest product: not on processors with whole tiles (AMX), which oneDNN uses."""
    return supported() and "+amx-bf16" not in processor()[2].split(",")


class PairedWeight:
    """A weight (outputs, inputs), inputs even, laid out for tiles: (columns / 16, inputs / 2, 16, 2)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._outputs, self._inputs = weight.shape
        columns = -(-self._outputs // WIDE) * WIDE
        # torch aligns what it allocates by a line, so that no vector lies on two of them.
        self._laid = torch.zeros(columns // LANES, self._inputs // 2, LANES, 2, dtype=torch.bfloat16)
        whole = self._outputs // LANES
        apart = weight[: whole * LANES].reshape(whole, LANES, self._inputs // 2, 2)
        self._laid[:whole] = apart.transpose(1, 2)
        rest = weight[whole * LANES :].reshape(-1, self._inputs // 2, 2)
        if len(rest):
            self._laid[whole, :, : len(rest)] = rest.transpose(0, 1)
        self._bias = torch.zeros(columns)
        if bias is not None:
            self._bias[: self._outputs] = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, inputs) bfloat16 to (rows, outputs); raises RuntimeError for other tensors, as torch does."""
        rows, inputs = x.shape
        if inputs != self._inputs or x.dtype != torch.bfloat16:
            raise RuntimeError(f"{tuple(x.shape)} numbers in {x.dtype} do not meet {self._inputs} in bfloat16")
        x = x.contiguous()
        found = x.new_empty(rows, self._outputs)
        threads = torch.get_num_threads()
        spare = torch.empty(threads, MANY, WIDE, dtype=torch.bfloat16)
        _kernel(rows > FEW)(
            threads,
            x.data_ptr(),
            self._laid.data_ptr(),
            found.data_ptr(),
            spare.data_ptr(),
            self._bias.data_ptr(),
            rows,
            self._inputs,
            self._outputs,
        )
        return found


@cache
def _kernel(several: bool) -> Kernel:
    high = MANY if several else FEW

    def product(numbers: Any) -> None:
        rows, inputs, outputs = numbers[7], numbers[8], numbers[9]
        found = carray(halves(numbers[4]), (rows, outputs))
        thread = take(numbers, THREAD)
        spare = numbers[5] + thread * MANY * WIDE * 2
        held = carray(halves(spare), (MANY, WIDE))
        block = inputs * LANES * 2
        parts = (rows + HIGH - 1) // HIGH
        units = parts * ((outputs + WIDE - 1) // WIDE)
        unit = take(numbers, UNIT)
        while unit < units:
            tile, part = unit // parts, unit % parts
            weight, bias = numbers[3] + tile * VECTORS * block, numbers[6] + tile * WIDE * 4
            columns = min(WIDE, outputs - tile * WIDE)
            for first in range(part * HIGH, min(rows, (part + 1) * HIGH), high):
                left = min(high, rows - first)
                # The next tile's weights, a vector's worth with each few rows of this one's.
                ahead = weight + (VECTORS + (first // high) % VECTORS) * block
                x = numbers[2] + first * inputs * 2
                there, step = numbers[4] + (first * outputs + tile * WIDE) * 2, outputs * 2
                if columns < WIDE:
                    there, step = spare, WIDE * 2
                if several:
                    many(x, inputs * 2, left, weight, block, inputs // 2, there, step, bias, ahead)
                else:
                    few(x, inputs * 2, left, weight, block, inputs // 2, there, step, bias, ahead)
                if columns < WIDE:
                    for row in range(left):
                        for column in range(columns):
                            found[first + row, tile * WIDE + column] = held[row, column]
            unit = take(numbers, UNIT)

    return Kernel(product)
