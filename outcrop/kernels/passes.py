"""What training does to each bfloat16 row between its products, forwards and backwards, in one pass each.

Numbers are float32 until they are stored. A row's result is its own, whoever makes it. Knows rows of numbers; nothing
of layers. Serving has its own (`kernels.rows`), which also writes caches.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import UNIT, Kernel, floats, halves, take
from outcrop.kernels.numbers import kept, read, sigmoid

ROWS: Final = 16
"""Rows that a thread takes at a time."""


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, of (rows, numbers)."""
    gate, up = gate.contiguous(), up.contiguous()
    found = torch.empty_like(gate)
    _run(_gated(), gate.shape, (gate, up, found))
    return found


def gated_back(above: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up, from that of gated()."""
    above, gate, up = above.contiguous(), gate.contiguous(), up.contiguous()
    to_gate, to_up = torch.empty_like(gate), torch.empty_like(up)
    _run(_gated_back(), gate.shape, (above, gate, up, to_gate, to_up))
    return to_gate, to_up


def normed_back(above: Tensor, x: Tensor, scale: Tensor, weight: Tensor, beside: Tensor) -> Tensor:
    """The gradient of (rows, numbers) from that of their norm, and `beside`, what comes to them around it.

    scale: what each row was scaled by, (rows, 1) in float32; weight: (numbers,).
    """
    above, x, beside = above.contiguous(), x.contiguous(), beside.contiguous()
    found = torch.empty_like(x)
    _run(_normed_back(), x.shape, (above, x, scale, weight, beside, found))
    return found


def turned(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool) -> Tensor:
    """(rows, heads, width) turned by the angles of (rows, width), whose halves are alike; back: the other way."""
    x, cos, sin = x.contiguous(), cos.contiguous(), sin.contiguous()
    found = torch.empty_like(x)
    rows, heads, width = x.shape
    _run(_turned(), (rows, heads * width), (x, cos, sin, found), width, int(back))
    return found


def _run(kernel: Kernel, shape: Sequence[int], tensors: Sequence[Tensor], *numbers: int) -> None:
    """On as many threads as have rows; a kernel is told how many, numbers of each, addresses, and whatever else."""
    count, width = shape
    kernel(
        min(torch.get_num_threads(), -(-count // ROWS)), count, width, *(one.data_ptr() for one in tensors), *numbers
    )


@cache
def _gated() -> Kernel:
    def gated(numbers: Any) -> None:
        rows, width = numbers[2], numbers[3]
        unit = take(numbers, UNIT)
        while unit * ROWS < rows:
            first, count = unit * ROWS * width * 2, min(ROWS, rows - unit * ROWS) * width
            gate, up = carray(halves(numbers[4] + first), (count,)), carray(halves(numbers[5] + first), (count,))
            found = carray(halves(numbers[6] + first), (count,))
            for place in range(count):
                number = read(gate[place])
                found[place] = kept(number * sigmoid(number) * read(up[place]), found[0])
            unit = take(numbers, UNIT)

    return Kernel(gated)


@cache
def _gated_back() -> Kernel:
    def gated_back(numbers: Any) -> None:
        rows, width = numbers[2], numbers[3]
        unit = take(numbers, UNIT)
        while unit * ROWS < rows:
            first, count = unit * ROWS * width * 2, min(ROWS, rows - unit * ROWS) * width
            above = carray(halves(numbers[4] + first), (count,))
            gate, up = carray(halves(numbers[5] + first), (count,)), carray(halves(numbers[6] + first), (count,))
            to_gate, to_up = carray(halves(numbers[7] + first), (count,)), carray(halves(numbers[8] + first), (count,))
            for place in range(count):
                number, came = read(gate[place]), read(above[place])
                share = sigmoid(number)
                slope = share * (np.float32(1.0) + number * (np.float32(1.0) - share))
                to_gate[place] = kept(came * read(up[place]) * slope, to_gate[0])
                to_up[place] = kept(came * number * share, to_up[0])
            unit = take(numbers, UNIT)

    return Kernel(gated_back)


@cache
def _normed_back() -> Kernel:
    def normed_back(numbers: Any) -> None:
        rows, width = numbers[2], numbers[3]
        scales, weight = carray(floats(numbers[6]), (rows,)), carray(halves(numbers[7]), (width,))
        unit = take(numbers, UNIT)
        while unit * ROWS < rows:
            for row in range(unit * ROWS, min(rows, unit * ROWS + ROWS)):
                there = row * width * 2
                above, x = carray(halves(numbers[4] + there), (width,)), carray(halves(numbers[5] + there), (width,))
                beside = carray(halves(numbers[8] + there), (width,))
                found = carray(halves(numbers[9] + there), (width,))
                scale, pull = scales[row], np.float32(0.0)
                for place in range(width):
                    pull += read(above[place]) * read(weight[place]) * read(x[place])
                pull *= scale * scale / np.float32(width)
                for place in range(width):
                    along = read(above[place]) * read(weight[place]) - read(x[place]) * pull
                    found[place] = kept(along * scale + read(beside[place]), found[0])
            unit = take(numbers, UNIT)

    return Kernel(normed_back)


@cache
def _turned() -> Kernel:
    def turned(numbers: Any) -> None:
        rows, wide, width = numbers[2], numbers[3], numbers[8]
        half, heads = width // 2, wide // width
        way = np.float32(-1.0) if numbers[9] != 0 else np.float32(1.0)
        unit = take(numbers, UNIT)
        while unit * ROWS < rows:
            for row in range(unit * ROWS, min(rows, unit * ROWS + ROWS)):
                cos = carray(halves(numbers[5] + row * width * 2), (half,))
                sin = carray(halves(numbers[6] + row * width * 2), (half,))
                for head in range(heads):
                    there = (row * heads + head) * width * 2
                    left = carray(halves(numbers[4] + there), (half,))
                    right = carray(halves(numbers[4] + there + width), (half,))
                    one = carray(halves(numbers[7] + there), (half,))
                    other = carray(halves(numbers[7] + there + width), (half,))
                    for place in range(half):
                        along, across = read(cos[place]), way * read(sin[place])
                        first, second = read(left[place]), read(right[place])
                        one[place] = kept(first * along - second * across, one[0])
                        other[place] = kept(second * along + first * across, one[0])
            unit = take(numbers, UNIT)

    return Kernel(turned)
