"""Causal attention within segments, backwards: what `kernels.segments` found gives gradients of queries, keys, values.

A piece of work is one segment and one head of keys, with all heads of queries upon it, so that every sum is made by one
thread, in one order. Where that is too little work for all threads, queries and keys have pieces of their own, and make
scores twice; their sums have the same order and the same bits. Scores are made again by blocks that stay in the nearest
cache. Knows what `kernels.segments` knows.
"""

from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import THREAD, UNIT, Kernel, bits, floats, halves, longs, real, take, words
from outcrop.kernels.numbers import inlined, kept, read
from outcrop.kernels.segments import (
    BEFORE,
    BLOCK,
    FIELDS,
    LAID,
    ROWS,
    SEEN,
    START,
    Cuts,
    across,
    hide,
    lay_out,
    weighed,
)
from outcrop.kernels.strip import HEIGHT, WIDE, added, fresh, paired
from outcrop.kernels.vectors import LANES

PAIRS: Final = BLOCK // 2

TWICE = 1.4
"""What gradients take that make scores twice: seven products for five."""

SEGMENT, KEY_HEAD, HEAD, HEADS, ROW, LAST_ROW, PLACE, LAST_PLACE, COST = range(9)
"""What a piece of work is: a segment, a head of keys, the first of its heads of queries and how many; from which row to
which, and from which of the places that the segment sees to which; LAST_ROW or LAST_PLACE 0: their gradients are made
elsewhere."""


def descend(
    above: Tensor, query: Tensor, key: Tensor, value: Tensor, found: Tensor, sums: Tensor, cut: Cuts, scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of query, key and value, (heads, T, d) with heads within rows, from that of attend()'s answers.

    above, found: (T, heads, d), and sums (heads, T), as attend() gave them.
    """
    heads, rows, width = query.shape
    kv, segments = len(key), len(cut.table)
    keys, pairs = lay_out(key, cut, turned=True, paired=True)
    (values,) = lay_out(value, cut, turned=True, paired=False)
    to_query, to_key, to_value = (query.new_empty(rows, len(one), width) for one in (query, key, value))
    # Of what is shared: from each segment, as it is a sum of them all.
    parts = torch.empty(segments, 2, cut.shared, kv, width) if cut.shared else None
    at_parts = 0 if parts is None else parts.data_ptr()
    pieces = work(cut, heads, kv, torch.get_num_threads())
    threads = min(torch.get_num_threads(), len(pieces))
    room = 2 * cut.longest * width + 2 * BLOCK * width + 2 * HEIGHT * BLOCK + BLOCK + 3 * PAIRS * BLOCK
    scratch = torch.empty(threads, room)
    above = above.transpose(0, 1)
    _kernel()(
        threads, query.data_ptr(), keys.data_ptr(), pairs.data_ptr(), values.data_ptr(), above.data_ptr(),
        found.data_ptr(), sums.data_ptr(), to_query.data_ptr(), to_key.data_ptr(), to_value.data_ptr(),
        at_parts, cut.table.data_ptr(), pieces.data_ptr(), scratch.data_ptr(), room, heads, kv, rows, width,
        len(pieces), cut.laid, cut.longest, cut.shared, window, bits(scale), *across(query), *across(above),
    )  # fmt: skip
    if parts is not None:
        for one in parts[1:]:
            parts[0].add_(one)
        to_key[: cut.shared], to_value[: cut.shared] = parts[0]
    return to_query.transpose(0, 1), to_key.transpose(0, 1), to_value.transpose(0, 1)


@lru_cache(maxsize=64)
def work(cut: Cuts, heads: int, kv: int, threads: int) -> Tensor:
    """The pieces of work, (pieces, COST + 1), what takes longest first."""
    whole: list[tuple[int, ...]] = []
    for segment, (_, before, rows, _, seen) in enumerate(cut.table.tolist()):
        for own in range(kv):
            first, group = own * (heads // kv), heads // kv
            cost = group * rows * (2 * before + rows)
            whole.append((segment, own, first, group, 0, rows, 0, seen, cost))
    costs = [one[COST] for one in whole]
    if max(costs) * threads > TWICE * sum(costs):
        whole = [one for piece in whole for one in _apart(piece, int(cut.table[piece[SEGMENT], BEFORE]))]
    return torch.tensor(sorted(whole, key=lambda one: -one[COST]), dtype=torch.int64)


def _apart(piece: tuple[int, ...], before: int) -> list[tuple[int, ...]]:
    """A segment's work by blocks of queries of one head, and by blocks of keys."""
    segment, own, first, group, _, rows, _, seen, _ = piece
    found: list[tuple[int, ...]] = []
    for row in range(0, rows, BLOCK):
        last = min(row + BLOCK, rows)
        cost = 3 * BLOCK * (before + last)
        found += [(segment, own, head, 1, row, last, 0, 0, cost) for head in range(first, first + group)]
    for place in range(0, seen, BLOCK):
        last = min(place + BLOCK, seen)
        found.append((segment, own, first, group, 0, 0, place, last, 4 * BLOCK * group * (before + rows - place)))
    return found


@inlined
def _pair_up(x: Any, step: Any, high: Any, tall: Any, width: Any, found: Any) -> Any:
    """Rows as right operands of products over rows; the last one again where they are not so many."""
    for row in range(0, tall, 2):
        one, other = x + min(row, high - 1) * step, x + min(row + 1, high - 1) * step
        for number in range(0, width, LANES):
            paired(one + 2 * number, other + 2 * number, found + number * BLOCK * 2 + row * LANES * 2)


@inlined
def _low(number: Any) -> Any:
    """A float32 rounded to bfloat16, as the first of a pair."""
    return np.uint32(kept(number, np.uint16(0)))


@inlined
def _slopes(
    scores: Any, inner: Any, scale: Any, log: Any, second_log: Any, delta: Any, second_delta: Any, shares: Any,
    slopes: Any, lines: Any, columns: Any,
) -> Any:  # fmt: skip
    """Of two rows' scores: shares and the gradients of scores as pairs, and those as rows; tables lie at addresses."""
    first, other = carray(floats(scores), (columns,)), carray(floats(scores + BLOCK * 4), (columns,))
    towards, other_towards = carray(floats(inner), (columns,)), carray(floats(inner + BLOCK * 4), (columns,))
    line, other_line = carray(halves(lines), (columns,)), carray(halves(lines + BLOCK * 2), (columns,))
    by_shares, by_slopes = carray(words(shares), (columns,)), carray(words(slopes), (columns,))
    for place in range(columns):
        share = weighed(first[place] * scale - log)
        second = weighed(other[place] * scale - second_log)
        slope = _low(share * (towards[place] - delta))
        second_slope = _low(second * (other_towards[place] - second_delta))
        by_shares[place] = np.int32(_low(share) | np.uint32(_low(second) << np.uint32(16)))
        by_slopes[place] = np.int32(slope | np.uint32(second_slope << np.uint32(16)))
        line[place] = np.uint16(slope)
        other_line[place] = np.uint16(second_slope)


@cache
def _kernel() -> Kernel:
    def descend(numbers: Any) -> None:
        heads, kv, total, width, count = numbers[17], numbers[18], numbers[19], numbers[20], numbers[21]
        laid, longest, shared, window = numbers[22], numbers[23], numbers[24], numbers[25]
        scale = np.float32(real(numbers[26]))
        query_head, query_step, above_head, above_step = numbers[27], numbers[28], numbers[29], numbers[30]
        logs = carray(floats(numbers[8]), (heads, total))
        to_query = carray(halves(numbers[9]), (total, heads, width))
        to_key = carray(halves(numbers[10]), (total, kv, width))
        to_value = carray(halves(numbers[11]), (total, kv, width))
        parts = carray(floats(numbers[12]), (1, 2, shared, kv, width))
        table, pieces = carray(longs(numbers[13]), (1, FIELDS)), carray(longs(numbers[14]), (count, COST + 1))
        # A thread's own, one behind the other.
        at_keys = numbers[15] + take(numbers, THREAD) * numbers[16] * 4
        at_values = at_keys + longest * width * 4
        at_rows = at_values + longest * width * 4
        at_scores = at_rows + BLOCK * width * 4
        at_inner = at_scores + HEIGHT * BLOCK * 4
        at_deltas = at_inner + HEIGHT * BLOCK * 4
        at_shares = at_deltas + BLOCK * 4
        at_slopes = at_shares + PAIRS * BLOCK * 4
        at_lines = at_slopes + PAIRS * BLOCK * 4
        at_queries = at_lines + BLOCK * BLOCK * 2
        at_above = at_queries + BLOCK * width * 2
        by_keys, by_values = carray(floats(at_keys), (longest, width)), carray(floats(at_values), (longest, width))
        by_rows, deltas = carray(floats(at_rows), (BLOCK, width)), carray(floats(at_deltas), (BLOCK,))
        scores = carray(floats(at_scores), (HEIGHT, BLOCK))
        unit = take(numbers, UNIT)
        while unit < count:
            piece = pieces[unit]
            segment, own = piece[SEGMENT], piece[KEY_HEAD]
            start, before, rows = table[segment, START], table[segment, BEFORE], table[segment, ROWS]
            places = table[segment, SEEN]
            there = (own * laid + table[segment, LAID]) * width * 2
            keys, pairs, values = numbers[3] + there, numbers[4] + there, numbers[5] + there
            by_row, by_place = piece[LAST_ROW] > 0, piece[LAST_PLACE] > 0
            last_row = piece[LAST_ROW] if by_row else rows
            last_place = piece[LAST_PLACE] if by_place else places
            for place in range(piece[PLACE], last_place if by_place else 0):
                for number in range(width):
                    by_keys[place, number] = np.float32(0.0)
                    by_values[place, number] = np.float32(0.0)
            for head in range(piece[HEAD], piece[HEAD] + piece[HEADS]):
                # Rows before a place see nothing of it.
                lowest = max(piece[ROW], (piece[PLACE] - before) // BLOCK * BLOCK)
                for begin in range(lowest, last_row, BLOCK):
                    high = min(BLOCK, rows - begin)
                    tall = (high + HEIGHT - 1) // HEIGHT * HEIGHT
                    asked = numbers[2] + head * query_head + (start + begin) * query_step
                    along = numbers[6] + head * above_head + (start + begin) * above_step
                    if by_place:
                        _pair_up(asked, query_step, high, tall, width, at_queries)
                        _pair_up(along, above_step, high, tall, width, at_above)
                    for row in range(high):
                        gone = carray(halves(along + row * above_step), (width,))
                        came = carray(halves(numbers[7] + ((start + begin + row) * heads + head) * width * 2), (width,))
                        delta = np.float32(0.0)
                        for number in range(width):
                            delta += read(gone[number]) * read(came[number])
                        deltas[row] = delta
                    for row in range(tall):
                        for number in range(width):
                            by_rows[row, number] = np.float32(0.0)
                    last = min(last_place, before + begin + high)
                    opening = piece[PLACE]
                    if window > 0:
                        opening = max(opening, (before + begin + 1 - window) // BLOCK * BLOCK)
                    for chunk in range(opening, last, BLOCK):
                        # Rows from here on see something of these places.
                        for row in range(max(np.int64(0), chunk - before - begin) // HEIGHT * HEIGHT, tall, HEIGHT):
                            left = min(HEIGHT, high - row)
                            seen = before + begin + row + left - chunk
                            columns = min(np.int64(BLOCK), (seen + WIDE - 1) // WIDE * WIDE)
                            for place in range(0, columns, WIDE):
                                fresh(
                                    asked + row * query_step, query_step, 4, left,
                                    keys + (chunk + place) * width * 2, width * LANES * 2, width // 2,
                                    at_scores + place * 4, BLOCK * 4,
                                )  # fmt: skip
                                fresh(
                                    along + row * above_step, above_step, 4, left,
                                    values + (chunk + place) * width * 2, width * LANES * 2, width // 2,
                                    at_inner + place * 4, BLOCK * 4,
                                )  # fmt: skip
                            for member in range(HEIGHT):
                                end = max(np.int64(0), seen - left + member + 1) if member < left else np.int64(0)
                                gone = min(columns, end - window) if window > 0 else np.int64(0)
                                hide(scores[member], gone, end, columns)
                            for member in range(0, HEIGHT, 2):
                                one, other = min(row + member, high - 1), min(row + member + 1, high - 1)
                                pair, two = (row + member) // 2, member * BLOCK * 4
                                _slopes(
                                    at_scores + two, at_inner + two, scale, logs[head, start + begin + one],
                                    logs[head, start + begin + other], deltas[one], deltas[other],
                                    at_shares + pair * BLOCK * 4, at_slopes + pair * BLOCK * 4,
                                    at_lines + (row + member) * BLOCK * 2, columns,
                                )  # fmt: skip
                            if by_row:
                                for number in range(0, width, WIDE):
                                    added(
                                        at_lines + row * BLOCK * 2, BLOCK * 2, 4, HEIGHT,
                                        pairs + number * places * 2 + chunk * LANES * 2, places * LANES * 2,
                                        (min(np.int64(BLOCK), seen) + 1) // 2, at_rows + (row * width + number) * 4,
                                        width * 4,
                                    )  # fmt: skip
                        if by_place:
                            for place in range(0, min(np.int64(BLOCK), last - chunk), HEIGHT):
                                lead = max(np.int64(0), chunk + place - before - begin) // HEIGHT * HEIGHT
                                for number in range(0, width, WIDE):
                                    target = ((chunk + place) * width + number) * 4
                                    added(
                                        at_shares + (lead // 2 * BLOCK + place) * 4, 4, BLOCK * 4, HEIGHT,
                                        at_above + number * BLOCK * 2 + lead * LANES * 2, BLOCK * LANES * 2,
                                        (tall - lead) // 2, at_values + target, width * 4,
                                    )  # fmt: skip
                                    added(
                                        at_slopes + (lead // 2 * BLOCK + place) * 4, 4, BLOCK * 4, HEIGHT,
                                        at_queries + number * BLOCK * 2 + lead * LANES * 2, BLOCK * LANES * 2,
                                        (tall - lead) // 2, at_keys + target, width * 4,
                                    )  # fmt: skip
                    if by_row:
                        for row in range(high):
                            for number in range(width):
                                to_query[start + begin + row, head, number] = kept(
                                    by_rows[row, number] * scale, to_query[0, 0, 0]
                                )
            if by_place:
                for place in range(piece[PLACE], min(last_place, before + rows)):
                    at = start + place - before
                    # What is shared is the first segment, by itself.
                    if place < before or at < shared:
                        for number in range(width):
                            parts[segment, 0, place, own, number] = by_keys[place, number] * scale
                            parts[segment, 1, place, own, number] = by_values[place, number]
                    else:
                        for number in range(width):
                            to_key[at, own, number] = kept(by_keys[place, number] * scale, to_key[0, 0, 0])
                            to_value[at, own, number] = kept(by_values[place, number], to_key[0, 0, 0])
            unit = take(numbers, UNIT)

    return Kernel(descend)
