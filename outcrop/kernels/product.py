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

from outcrop.kernels.native import LINE, THREAD, UNIT, Call, Kernel, halves, processor, take
from outcrop.kernels.tile import Kind, whole
from outcrop.kernels.vectors import LANES

BESIDE: Final = 2
"""Vectors of a tile, whose numbers lie beside each other: eight rows of two keep all registers at work."""

WIDE: Final = LANES * BESIDE
"""Columns of a tile."""

HEIGHTS: Final = (8, 4, 1)
"""Rows of a tile, by how many there are."""

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
    """A weight (outputs, inputs), inputs even, laid out for tiles: (columns / 32, inputs / 2, 2, 16, 2)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.outputs, self.inputs = weight.shape
        tiles = -(-self.outputs // WIDE)
        # torch aligns what it allocates by a line, so that no vector lies on two of them.
        self._laid = torch.zeros(tiles, self.inputs // 2, WIDE, 2, dtype=torch.bfloat16)
        whole = self.outputs // WIDE
        apart = weight[: whole * WIDE].reshape(whole, WIDE, self.inputs // 2, 2)
        self._laid[:whole] = apart.transpose(1, 2)
        rest = weight[whole * WIDE :].reshape(-1, self.inputs // 2, 2)
        if len(rest):
            self._laid[whole, :, : len(rest)] = rest.transpose(0, 1)
        self._bias = torch.zeros(tiles * WIDE)
        if bias is not None:
            self._bias[: self.outputs] = bias

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, inputs) bfloat16 to (rows, outputs); raises RuntimeError for other tensors, as torch does."""
        rows, inputs = x.shape
        if inputs != self.inputs or x.dtype != torch.bfloat16:
            raise RuntimeError(f"{tuple(x.shape)} numbers in {x.dtype} do not meet {self.inputs} in bfloat16")
        x = x.contiguous()
        found = x.new_empty(rows, self.outputs)
        self.into(found, x).run()
        return found

    def into(self, found: Tensor, x: Tensor, *, adds: bool = False) -> Call:
        """The same of x (rows, inputs), end to end, to be run later and written to `found`; adds: added to it."""
        threads = torch.get_num_threads()
        spare = torch.empty(threads, HEIGHTS[0], self.inputs + WIDE, dtype=torch.bfloat16)
        rows = x.shape[0]
        return Call(
            _kernel(self.inputs, adds),
            threads,
            (
                x.data_ptr(),
                self._laid.data_ptr(),
                found.data_ptr(),
                spare.data_ptr(),
                self._bias.data_ptr(),
                rows,
                self.outputs,
            ),
            (x, self._laid, found, spare, self._bias),
            rows_at=5,
        )


# Of the module, not of a kernel: a kernel is found again on disk by what its function closes over.
eight, four, one = (whole(Kind(height, rounds=True, vectors=BESIDE, beside=BESIDE)) for height in HEIGHTS)


@cache
def _kernel(inputs: int, adds: bool) -> Kernel:
    """For rows of so many numbers: where one begins behind the other is part of the instructions."""
    high, low = HEIGHTS[:2]
    pairs, step = inputs // 2, inputs * 2

    def product(numbers: Any) -> None:
        rows, outputs = numbers[7], numbers[8]
        x, found = carray(halves(numbers[2]), (rows, inputs)), carray(halves(numbers[4]), (rows, outputs))
        thread = take(numbers, THREAD)
        spare = numbers[5] + thread * high * (inputs + WIDE) * 2
        # Rows that are no whole tile are brought to where there is room for one.
        rest = carray(halves(spare), (high, inputs))
        held = carray(halves(spare + high * step), (high, WIDE))
        ragged = rows // high * high
        # The next tile's weights: with each few rows of this one's half of them, or all with the only ones.
        pace = LINE if rows > high else 2 * LINE
        for row in range(rows - ragged):
            for number in range(inputs):
                rest[row, number] = x[ragged + row, number]
        parts = (rows + HIGH - 1) // HIGH
        units = parts * ((outputs + WIDE - 1) // WIDE)
        unit = take(numbers, UNIT)
        while unit < units:
            following = take(numbers, UNIT)
            column, part = unit // parts, unit % parts
            weight, bias = numbers[3] + column * pairs * WIDE * 4, numbers[6] + column * WIDE * 4
            ahead = numbers[3] + following // parts * pairs * WIDE * 4
            columns = min(WIDE, outputs - column * WIDE)
            for first in range(part * HIGH, min(rows, (part + 1) * HIGH), high):
                left = min(high, rows - first)
                read, near = numbers[2] + first * step, ahead + (first // high) % 2 * pairs * LINE
                there, apart = numbers[4] + (first * outputs + column * WIDE) * 2, outputs * 2
                if 1 < left < high:
                    read = spare
                if 1 < left < high or columns < WIDE:
                    there, apart = spare + high * step, WIDE * 2
                    if adds:
                        for row in range(left):
                            for place in range(columns):
                                held[row, place] = found[first + row, column * WIDE + place]
                if left > low:
                    eight(adds, read, step, weight, pairs, there, apart, bias, near, pace)
                elif left > 1:
                    four(adds, read, step, weight, pairs, there, apart, bias, near, pace)
                else:
                    one(adds, read, step, weight, pairs, there, apart, bias, near, pace)
                if 1 < left < high or columns < WIDE:
                    for row in range(left):
                        for place in range(columns):
                            found[first + row, column * WIDE + place] = held[row, place]
            unit = following

    return Kernel(product)
