"""What a layer does to each row by itself, between its products: norm, rotation, gate.

A Llama-like layer's small change, a call each. Sums are float32; what is stored is rounded once.
Knows rows of numbers; nothing of sequences.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import UNIT, Call, Kernel, bits, floats, longs, real, take
from outcrop.kernels.numbers import inlined, kept, nought, read, sigmoid, stored

WORTH: Final = 1 << 15
"""Numbers under which waking a second thread takes longer than doing it alone."""

Both = tuple[Tensor, Tensor]
"""Cosines and sines, or keys and values."""


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A root-mean-square norm."""

    weight: Tensor
    """(numbers,), or (heads, numbers) where each head has its own."""
    eps: float


def _threads(rows: int, numbers: int) -> int:
    return min(torch.get_num_threads(), rows, 1 + rows * numbers // WORTH)


def norm(hidden: Tensor, added: Tensor | None, by: Norm) -> Tensor:
    """hidden (rows, numbers) += added, in place; returns its norm."""
    found = torch.empty_like(hidden)
    norm_into(found, hidden, added, by).run()
    return found


def norm_into(found: Tensor, hidden: Tensor, added: Tensor | None, by: Norm) -> Call:
    """The same, to be run later, its answer written to `found`."""
    rows, width = hidden.shape
    return Call(
        _norm(hidden.dtype == torch.bfloat16),
        _threads(rows, width),
        (
            hidden.data_ptr(),
            0 if added is None else added.data_ptr(),
            by.weight.data_ptr(),
            found.data_ptr(),
            rows,
            width,
            bits(by.eps),
        ),
        (hidden, added, by.weight, found),
        rows_at=4,
    )


@cache
def _norm(half: bool) -> Kernel:
    like = nought(half)

    def norm(numbers: Any) -> None:
        rows, width, eps = numbers[6], numbers[7], np.float32(real(numbers[8]))
        hidden, added = stored(numbers[2], (rows, width), like), stored(numbers[3], (rows, width), like)
        weight, found = stored(numbers[4], (width,), like), stored(numbers[5], (rows, width), like)
        row = take(numbers, UNIT)
        while row < rows:
            if numbers[3] != 0:
                for place in range(width):
                    hidden[row, place] = kept(read(hidden[row, place]) + read(added[row, place]), like)
            share = _share(hidden[row], width, eps)
            for place in range(width):
                found[row, place] = kept(read(hidden[row, place]) * share * read(weight[place]), like)
            row = take(numbers, UNIT)

    return Kernel(norm)


def gate(both: Tensor) -> Tensor:
    """(rows, gate's numbers and as many of up's) to silu(gate) * up."""
    found = both.new_empty(both.shape[0], both.shape[1] // 2)
    gate_into(found, both).run()
    return found


def gate_into(found: Tensor, both: Tensor) -> Call:
    """The same, to be run later, its answer written to `found`."""
    rows, width = found.shape
    return Call(
        _gate(both.dtype == torch.bfloat16),
        _threads(rows, 2 * width),
        (both.data_ptr(), found.data_ptr(), rows, width),
        (both, found),
        rows_at=2,
    )


@cache
def _gate(half: bool) -> Kernel:
    like = nought(half)

    def gate(numbers: Any) -> None:
        rows, width = numbers[4], numbers[5]
        both, found = stored(numbers[2], (rows, 2, width), like), stored(numbers[3], (rows, width), like)
        row = take(numbers, UNIT)
        while row < rows:
            for place in range(width):
                number = read(both[row, 0, place])
                found[row, place] = kept(number * sigmoid(number) * read(both[row, 1, place]), like)
            row = take(numbers, UNIT)

    return Kernel(gate)


def turn(made: Tensor, turns: Both, layer: Both, places: Tensor, heads: Norm | None) -> Tensor:
    """Queries turned by their places, (rows, heads, d); keys, turned as well, and values go to their places in a cache.

    made (rows, numbers): queries, keys and values; turns: cosines and signed sines (rows, d), float32; layer: keys and
    values (kv heads, places, d); heads: the norm of queries and keys before they turn, each with its own weights.
    """
    kv, _, width = layer[0].shape
    rows = made.shape[0]
    found = made.new_empty(rows, made.shape[1] // width - 2 * kv, width)
    turn_into(found, made, turns, layer, places, heads).run()
    return found


def turn_into(found: Tensor, made: Tensor, turns: Both, layer: Both, places: Tensor, heads: Norm | None) -> Call:
    """The same, to be run later, its answer written to `found`."""
    keys, values = layer
    kv, size, _ = keys.shape
    rows, queries, width = found.shape
    cos, sin = turns
    weights = None if heads is None else heads.weight
    return Call(
        _turn(width, made.dtype == torch.bfloat16),
        _threads(rows, made.shape[1]),
        (
            made.data_ptr(),
            cos.data_ptr(),
            sin.data_ptr(),
            0 if weights is None else weights.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            places.data_ptr(),
            found.data_ptr(),
            rows,
            queries,
            kv,
            size,
            bits(1.0 if heads is None else heads.eps),
        ),
        (made, cos, sin, weights, keys, values, places, found),
        rows_at=8,
    )


@cache
def _turn(width: int, half: bool) -> Kernel:
    like = nought(half)

    def turn(numbers: Any) -> None:
        rows, queries, kv, size = numbers[10], numbers[11], numbers[12], numbers[13]
        eps = np.float32(real(numbers[14]))
        turning = queries + kv
        cos, sin = carray(floats(numbers[3]), (rows, width)), carray(floats(numbers[4]), (rows, width))
        places = carray(longs(numbers[8]), (rows,))
        made = stored(numbers[2], (rows, turning + kv, width), like)
        weights = stored(numbers[5], (turning, width), like)
        keys, values = stored(numbers[6], (kv, size, width), like), stored(numbers[7], (kv, size, width), like)
        found = stored(numbers[9], (rows, queries, width), like)
        row = take(numbers, UNIT)
        while row < rows:
            at = places[row]
            for head in range(turning):
                share = np.float32(1.0)
                if numbers[5] != 0:
                    share = _share(made[row, head], width, eps)
                # Views of single heads: which of them it is, is asked once and not for each number.
                there = found[row, head] if head < queries else keys[head - queries, at]
                if numbers[5] != 0:
                    _turned(there, made[row, head], weights[head], share, cos[row], sin[row])
                else:
                    _turned_plainly(there, made[row, head], cos[row], sin[row])
            for head in range(kv):
                for number in range(width):
                    values[head, at, number] = made[row, turning + head, number]
            row = take(numbers, UNIT)

    return Kernel(turn)


@inlined
def _share(row: Any, width: Any, eps: Any) -> Any:
    """One over a row's root mean square."""
    total = np.float32(0.0)
    for place in range(width):
        total += read(row[place]) * read(row[place])
    return np.float32(1.0) / np.float32(math.sqrt(total / np.float32(width) + eps))


@inlined
def _turned(there: Any, made: Any, weights: Any, share: Any, cos: Any, sin: Any) -> None:
    """One head, its numbers brought to measure before."""
    side = len(made) // 2
    for number in range(side):
        left = read(made[number]) * share * read(weights[number])
        right = read(made[number + side]) * share * read(weights[number + side])
        there[number] = kept(left * cos[number] + right * sin[number], there[0])
        there[number + side] = kept(right * cos[number + side] + left * sin[number + side], there[0])


@inlined
def _turned_plainly(there: Any, made: Any, cos: Any, sin: Any) -> None:
    """One head as it is."""
    side = len(made) // 2
    for number in range(side):
        left, right = read(made[number]), read(made[number + side])
        there[number] = kept(left * cos[number] + right * sin[number], there[0])
        there[number + side] = kept(right * cos[number + side] + left * sin[number + side], there[0])
