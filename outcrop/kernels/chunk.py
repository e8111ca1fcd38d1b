"""Attention of several rows of one sequence, in bfloat16 by pairs: scores and their sums are float32.

Keys and values are laid out for tiles first, then a few rows of a head at a time meet those that they see, and no
others. Knows one sequence's stretch of a layer's cache.
"""

import math
from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import THREAD, UNIT, Call, Kernel, bits, floats, halves, real, take, words
from outcrop.kernels.numbers import exp, highest, kept, part
from outcrop.kernels.product import supported
from outcrop.kernels.rule import Rule
from outcrop.kernels.tile import MANY, WIDE, exact
from outcrop.kernels.vectors import LANES

BLOCK: Final = 32
"""Rows of a head that a thread takes at a time."""

_NO_BIAS: Final = torch.zeros(WIDE)


def fits(query: Tensor) -> bool:
    """True for queries (rows, heads, d) that this attention takes."""
    return query.dtype == torch.bfloat16 and query.shape[2] % 2 == 0 and supported()


def attend(query: Tensor, layer: tuple[Tensor, Tensor], place: int, before: int, rule: Rule) -> Tensor:
    """query (rows, heads, d) upon the keys and values (kv heads, places, d and e) of one sequence: (rows, heads, e).

    Its stretch begins at `place`; `before` tokens of it precede the rows, whose own follow there. A row sees all up to
    itself, or as many as the rule's window has.
    """
    query = query.contiguous()
    found = query.new_empty(*query.shape[:2], layer[1].shape[2])
    for call in attend_into(found, query, layer, place, before, rule):
        call.run()
    return found


def attend_into(
    found: Tensor, query: Tensor, layer: tuple[Tensor, Tensor], place: int, before: int, rule: Rule
) -> tuple[Call, Call]:
    """The same, to be run later, its answer written to `found`: laying out, whose first two numbers say where keys and
    values are, and attention.
    """
    keys, values = layer
    rows, heads, width = query.shape
    kv, places, wide = values.shape
    # What no row sees is not laid out; tiles begin at multiples of their columns.
    first = 0 if rule.window is None else max(0, before + 1 - rule.window) // WIDE * WIDE
    count = -(-(before + rows - first) // WIDE) * WIDE
    columns = -(-wide // WIDE) * WIDE
    laid_keys = query.new_empty(kv * count * width)
    laid_values = query.new_empty(kv * count * columns)
    threads = torch.get_num_threads()
    scratch = torch.empty(threads, MANY * (count + count // 2 + columns))
    laying = (
        keys.data_ptr(),
        values.data_ptr(),
        laid_keys.data_ptr(),
        laid_values.data_ptr(),
        kv,
        places,
        place + first,
        before + rows - first,
        count,
        width,
        wide,
        columns,
    )
    attending = (
        query.data_ptr(),
        laid_keys.data_ptr(),
        laid_values.data_ptr(),
        found.data_ptr(),
        scratch.data_ptr(),
        _NO_BIAS.data_ptr(),
        rows,
        heads,
        kv,
        width,
        wide,
        columns,
        count,
        before - first,
        0 if rule.window is None else rule.window,
        bits(rule.scale),
        bits(rule.cap or 0.0),
    )
    return (
        Call(_layer_out(), min(threads, 2 * kv), laying, (keys, values, laid_keys, laid_values)),
        Call(_kernel(), threads, attending, (query, laid_keys, laid_values, found, scratch)),
    )


@cache
def _layer_out() -> Kernel:
    def lay_out(numbers: Any) -> None:
        kv, places, first, seen = numbers[6], numbers[7], numbers[8], numbers[9]
        count, width, wide, columns = numbers[10], numbers[11], numbers[12], numbers[13]
        # Keys go by pairs, a word each: (kv heads, places / 16, d / 2, 16).
        keys = carray(words(numbers[2]), (kv, places, width // 2))
        by_keys = carray(words(numbers[4]), (kv, count // LANES, width // 2, LANES))
        values = carray(halves(numbers[3]), (kv, places, wide))
        # (kv heads, columns / 16, places / 2, 16, 2)
        by_values = carray(halves(numbers[5]), (kv, columns // LANES, count // 2, LANES, 2))
        unit = take(numbers, UNIT)
        while unit < 2 * kv:
            head = unit // 2
            if unit % 2 == 0:
                for block in range(count // LANES):
                    for lane in range(LANES):
                        place = block * LANES + lane
                        for pair in range(width // 2):
                            by_keys[head, block, pair, lane] = keys[head, first + place, pair] if place < seen else 0
            else:
                for vector in range(columns // LANES):
                    begin = vector * LANES
                    lanes = max(0, min(LANES, wide - begin))
                    for pair in range(count // 2):
                        for side in range(2):
                            place = 2 * pair + side
                            inside = lanes if place < seen else 0
                            for lane in range(inside):
                                by_values[head, vector, pair, lane, side] = values[head, first + place, begin + lane]
                            for lane in range(inside, LANES):
                                by_values[head, vector, pair, lane, side] = 0
            unit = take(numbers, UNIT)

    return Kernel(lay_out)


@cache
def _kernel() -> Kernel:
    def attend(numbers: Any) -> None:
        bias, rows, heads, kv = numbers[7], numbers[8], numbers[9], numbers[10]
        width, wide, columns, count = numbers[11], numbers[12], numbers[13], numbers[14]
        before, window = numbers[15], numbers[16]
        scale, cap = np.float32(real(numbers[17])), np.float32(real(numbers[18]))
        found = carray(halves(numbers[5]), (rows, heads, wide))
        room = MANY * (count + count // 2 + columns) * 4
        at_scores = numbers[6] + take(numbers, THREAD) * room
        at_shares = at_scores + MANY * count * 4
        at_sums = at_shares + MANY * count * 2
        scores, sums = carray(floats(at_scores), (MANY, count)), carray(floats(at_sums), (MANY, columns))
        by_bits = carray(words(at_scores), (MANY, count))
        shares = carray(halves(at_shares), (MANY, count))
        blocks = (rows + BLOCK - 1) // BLOCK
        unit = take(numbers, UNIT)
        while unit < heads * blocks:
            head, block = unit // blocks, unit % blocks
            own = head // (heads // kv)
            keys, values = numbers[3] + own * count * width * 2, numbers[4] + own * count * columns * 2
            for row in range(block * BLOCK, min(rows, (block + 1) * BLOCK), MANY):
                high = min(MANY, rows - row)
                first = np.int64(0)
                if window > 0:
                    first = max(np.int64(0), before + row + 1 - window) // WIDE * WIDE
                # From here on places are counted from the first tile on, and go by whole vectors: what a row does not
                # see weighs nothing.
                seen = before + row + high - first
                upper = (seen + LANES - 1) // LANES * LANES
                asked = numbers[2] + (row * heads + head) * width * 2
                for tile in range(0, seen, WIDE):
                    weight = keys + (first + tile) * width * 2
                    exact(
                        asked, heads * width * 2, high, weight, LANES * width * 2, width // 2, at_scores + tile * 4,
                        count * 4, bias, weight + WIDE * width * 2,
                    )  # fmt: skip
                for member in range(high):
                    _bend(scores[member], upper, before + row + member + 1 - first, window, scale, cap)
                    total = _share(scores[member], by_bits[member], shares[member], upper)
                    scores[member, 0] = np.float32(1.0) / total
                for column in range(0, columns, WIDE):
                    weight = values + (column * count + first * LANES) * 2
                    exact(
                        at_shares, count * 2, high, weight, count * LANES * 2, upper // 2,
                        at_sums + column * 4, columns * 4, bias, weight,
                    )  # fmt: skip
                for member in range(high):
                    for number in range(wide):
                        found[row + member, head, number] = kept(
                            sums[member, number] * scores[member, 0], found[0, 0, 0]
                        )
            unit = take(numbers, UNIT)

    return Kernel(attend)


@part
def _bend(scores: Any, count: Any, end: Any, window: Any, scale: Any, cap: Any) -> None:
    """A row's products become scores, of what it sees: places before `end`, as many as the window has."""
    factor = scale
    if cap > 0:
        factor = cap
        for place in range(count):
            scores[place] = np.float32(math.tanh(scores[place] * scale / cap))
    for place in range(count):
        hidden = place >= end or (window > 0 and place < end - window)
        scores[place] = np.float32(-np.inf) if hidden else scores[place] * factor


@part
def _share(scores: Any, by_bits: Any, shares: Any, count: Any) -> Any:
    """Scores (by_bits: their bits) become shares, which are yet to be divided by their sum: that is returned."""
    height = highest(by_bits, count)
    total = np.float32(0.0)
    for place in range(count):
        weight = exp(scores[place] - height)
        scores[place] = weight
        total += weight
    for place in range(count):
        shares[place] = kept(scores[place], shares[0])
    return total
