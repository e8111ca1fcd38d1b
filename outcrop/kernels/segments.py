"""Causal attention within segments of one row, for training: forwards, and how what both ways read is laid out.

Nothing of a segment's scores is kept but the logarithm of each row's sum. Products are bfloat16 by strips, scores, sums
and statistics float32. Knows segments by a table of theirs (`Cuts`); the way back is `kernels.segments_back`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import THREAD, UNIT, Kernel, bits, floats, halves, longs, real, take, words
from outcrop.kernels.numbers import exp, highest, inlined, kept, part
from outcrop.kernels.strip import HEIGHT, WIDE, crossed, fresh, paired
from outcrop.kernels.vectors import LANES

BLOCK: Final = 64
"""Rows of a segment that are taken together, and keys."""

START, BEFORE, ROWS, LAID, SEEN = range(5)
"""What `Cuts.table` says of a segment: its first row, how many rows of what is shared it goes on from, its own rows,
where what it sees is laid out, and over how many places."""
FIELDS: Final = 5


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Segments of a row that go on from the first `shared` places."""

    table: Tensor
    """(segments, FIELDS) int64; what is shared is the first of them."""
    blocks: Tensor
    """(blocks, 2) int64: a segment and the first of some of its rows; those that see most come first."""
    chunks: Tensor
    """(chunks, 2) int64: a segment and the first of some of the places that it sees."""
    rows: int
    laid: int
    """Places that are laid out, in all."""
    longest: int
    """Of one segment."""
    shared: int


@lru_cache(maxsize=64)
def cuts(runs: tuple[tuple[int, int], ...], shared: int) -> Cuts:
    """Of the lengths and counts of segments that lie end to end behind what they share."""
    table, start, laid = [], 0, 0
    lengths = [(0, shared)] * bool(shared) + [(shared, length) for length, count in runs for _ in range(count)]
    for before, length in lengths:
        places = -(-(before + length) // WIDE) * WIDE
        table.append((start, before, length, laid, places))
        start += length
        laid += places
    blocks = [(number, row) for number, one in enumerate(table) for row in range(0, one[ROWS], BLOCK)]
    blocks.sort(key=lambda one: -(table[one[0]][BEFORE] + one[1]))
    chunks = [(number, place) for number, one in enumerate(table) for place in range(0, one[SEEN], BLOCK)]
    longest = max(one[SEEN] for one in table)
    return Cuts(_whole(table), _whole(blocks), _whole(chunks), start, laid, longest, shared)


def _whole(numbers: Sequence[Any]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


def across(rows: Tensor) -> tuple[int, int]:
    """Bytes from a head of (heads, T, d) to the next, and from a row to the next."""
    return 2 * rows.stride(0), 2 * rows.stride(1)


def lay_out(rows: Tensor, cut: Cuts, *, turned: bool, paired: bool) -> list[Tensor]:
    """What segments see of (kv heads, T, d), each for itself, as right operands: those that are asked for.

    turned: for products over d; paired: for products over places.
    """
    kv, _, width = rows.shape
    found = [rows.new_empty(kv * cut.laid * width) for one in (turned, paired) if one]
    threads = min(torch.get_num_threads(), kv * len(cut.chunks))
    spare = rows.new_empty(threads, LANES, width)
    _layer_out()(
        threads, rows.data_ptr(), found[0].data_ptr() if turned else 0, found[-1].data_ptr() if paired else 0,
        cut.table.data_ptr(), cut.chunks.data_ptr(), spare.data_ptr(), kv, width, len(cut.chunks), cut.laid,
        *across(rows),
    )  # fmt: skip
    return found


def attend(query: Tensor, key: Tensor, value: Tensor, cut: Cuts, scale: float, window: int) -> tuple[Tensor, Tensor]:
    """(heads, T, d) upon (kv heads, T, d): (T, heads, d), and (heads, T) logarithms of rows' sums of weights."""
    heads, rows, width = query.shape
    if cut.rows != rows or key.shape != value.shape or key.shape[1:] != (rows, width) or heads % len(key):
        given = [tuple(one.shape) for one in (query, key, value)]
        # Past them lies anything.
        raise RuntimeError(f"queries, keys and values {given} do not meet, or not in segments of {cut.rows} rows")
    (keys,) = lay_out(key, cut, turned=True, paired=False)
    (values,) = lay_out(value, cut, turned=False, paired=True)
    found = query.new_empty(rows, heads, width)
    sums = torch.empty(heads, rows)
    threads = min(torch.get_num_threads(), heads * len(cut.blocks))
    # Rows of scores do not begin at the same lines of the nearest cache.
    room = cut.longest + LANES
    scratch = torch.empty(threads, HEIGHT * (room + room // 2 + width))
    _forward()(
        threads, query.data_ptr(), keys.data_ptr(), values.data_ptr(), found.data_ptr(), sums.data_ptr(),
        cut.table.data_ptr(), cut.blocks.data_ptr(), scratch.data_ptr(), heads, len(key), rows, width,
        len(cut.blocks), cut.laid, room, window, bits(scale), *across(query),
    )  # fmt: skip
    return found, sums


@part
def hide(scores: Any, gone: Any, end: Any, count: Any) -> None:
    """Of so many places a row sees none that its window has left, nor any from `end` on."""
    for place in range(gone):
        scores[place] = np.float32(-np.inf)
    for place in range(end, count):
        scores[place] = np.float32(-np.inf)


@inlined
def weighed(number: Any) -> Any:
    """`exp`, which of what is no number makes none either."""
    raised = exp(number)
    return raised if number <= np.float32(88.0) else number


@cache
def _layer_out() -> Kernel:
    def lay_out(numbers: Any) -> None:
        turned, pairs, spare = numbers[3], numbers[4], numbers[7]
        kv, width, count, laid = numbers[8], numbers[9], numbers[10], numbers[11]
        head_step, step = numbers[12], numbers[13]
        table, chunks = carray(longs(numbers[5]), (1, FIELDS)), carray(longs(numbers[6]), (count, 2))
        spare += take(numbers, THREAD) * LANES * width * 2
        unit = take(numbers, UNIT)
        while unit < kv * count:
            chunk, head = unit // kv, unit % kv
            segment, first = chunks[chunk, 0], chunks[chunk, 1]
            start, before, rows = table[segment, START], table[segment, BEFORE], table[segment, ROWS]
            places, seen = table[segment, SEEN], before + rows
            x = numbers[2] + head * head_step
            there = (head * laid + table[segment, LAID]) * width * 2
            for place in range(first, min(places, first + BLOCK), LANES):
                # A whole vector of places may lie behind the last one.
                at = min(place, seen - 1)
                left = min(LANES, seen - at)
                source, apart = x + (at if at < before else start + at - before) * step, step
                if at < before < at + left:
                    copied = carray(words(spare), (LANES, width // 2))
                    for row in range(left):
                        one = at + row
                        line = x + (one if one < before else start + one - before) * step
                        read = carray(words(line), (width // 2,))
                        for number in range(width // 2):
                            copied[row, number] = read[number]
                    source, apart = spare, width * 2
                if turned != 0:
                    target = turned + there + place * width * 2
                    for number in range(0, width, 2 * LANES):
                        crossed(source + 2 * number, apart, left, target + 2 * number * LANES)
                if pairs != 0:
                    for row in range(0, LANES, 2):
                        one, other = source + min(row, left - 1) * apart, source + min(row + 1, left - 1) * apart
                        target = pairs + there + (place + row) * LANES * 2
                        for number in range(0, width, LANES):
                            paired(one + 2 * number, other + 2 * number, target + number * places * 2)
            unit = take(numbers, UNIT)

    return Kernel(lay_out)


@cache
def _forward() -> Kernel:
    def attend(numbers: Any) -> None:
        heads, kv, total, width, count = numbers[10], numbers[11], numbers[12], numbers[13], numbers[14]
        laid, room, window, scale = numbers[15], numbers[16], numbers[17], np.float32(real(numbers[18]))
        head_step, step = numbers[19], numbers[20]
        found = carray(halves(numbers[5]), (total, heads, width))
        logs = carray(floats(numbers[6]), (heads, total))
        table, blocks = carray(longs(numbers[7]), (1, FIELDS)), carray(longs(numbers[8]), (count, 2))
        at_scores = numbers[9] + take(numbers, THREAD) * HEIGHT * (room + room // 2 + width) * 4
        at_shares = at_scores + HEIGHT * room * 4
        at_sums = at_shares + HEIGHT * room * 2
        scores, sums = carray(floats(at_scores), (HEIGHT, room)), carray(floats(at_sums), (HEIGHT, width))
        by_bits, shares = carray(words(at_scores), (HEIGHT, room)), carray(halves(at_shares), (HEIGHT, room))
        unit = take(numbers, UNIT)
        while unit < heads * count:
            block, head = unit // heads, unit % heads
            segment, begin = blocks[block, 0], blocks[block, 1]
            start, before, rows = table[segment, START], table[segment, BEFORE], table[segment, ROWS]
            places = table[segment, SEEN]
            there = (head // (heads // kv) * laid + table[segment, LAID]) * width * 2
            for row in range(begin, min(rows, begin + BLOCK), HEIGHT):
                high = min(HEIGHT, rows - row)
                first = np.int64(0)
                if window > 0:
                    first = max(np.int64(0), before + row + 1 - window) // WIDE * WIDE
                upper = (before + row + high - first + WIDE - 1) // WIDE * WIDE
                asked = numbers[2] + head * head_step + (start + row) * step
                for place in range(0, upper, WIDE):
                    fresh(
                        asked, step, 4, high, numbers[3] + there + (first + place) * width * 2, width * LANES * 2,
                        width // 2, at_scores + place * 4, room * 4,
                    )  # fmt: skip
                for member in range(HEIGHT):
                    end = before + row + min(member, high - 1) + 1 - first
                    hide(scores[member], end - window if window > 0 else 0, end, upper)
                    height = highest(by_bits[member], upper) * scale
                    weight = _share(scores[member], shares[member], upper, scale, height)
                    scores[member, 0] = np.float32(1.0) / weight
                    scores[member, 1] = height + np.float32(math.log(weight))
                for number in range(0, width, WIDE):
                    fresh(
                        at_shares, room * 2, 4, HEIGHT, numbers[4] + there + number * places * 2 + first * LANES * 2,
                        places * LANES * 2, upper // 2, at_sums + number * 4, width * 4,
                    )  # fmt: skip
                for member in range(high):
                    share = scores[member, 0]
                    logs[head, start + row + member] = scores[member, 1]
                    for number in range(width):
                        found[start + row + member, head, number] = kept(sums[member, number] * share, found[0, 0, 0])
            unit = take(numbers, UNIT)

    return Kernel(attend)


@part
def _share(scores: Any, shares: Any, count: Any, scale: Any, height: Any) -> Any:
    """Shares of so many scores, which are yet to be divided by their sum: that is returned."""
    total = np.float32(0.0)
    for place in range(count):
        weight = weighed(scores[place] * scale - height)
        total += weight
        shares[place] = kept(weight, shares[0])
    return total
