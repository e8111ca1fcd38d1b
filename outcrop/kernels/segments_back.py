"""Causal attention within segments, backwards: what `kernels.segments` found gives gradients of queries, keys, values.

A piece of work is one segment and one head of keys, with all heads of queries upon it, so that every sum is made by one
thread, in one order. Where that is too little work for all threads, queries and keys have pieces of their own, and make
scores twice; their sums have the same order and the same bits. Scores are made again by blocks that stay in the nearest
cache. Knows what `kernels.segments` knows.
"""

from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import THREAD, UNIT, Kernel, bits, floats, halves, longs, real, take, words
from outcrop.kernels.numbers import inlined, kept, part, read
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


class _Own(NamedTuple):
    """Where a thread's own tables lie."""

    keys: int
    """Gradients of the keys that a piece of work sees, and of the values: (places, width) float32."""
    values: int
    rows: int
    """Gradients of some queries, (BLOCK, width) float32."""
    scores: int
    """Of a strip of them, (HEIGHT, BLOCK) float32, and products of what comes from above with values."""
    inner: int
    deltas: int
    """(BLOCK,) float32: products of rows' answers with what comes from above."""
    shares: int
    """(PAIRS, BLOCK) pairs of rows' shares, and of their scores' gradients; those as rows, (BLOCK, BLOCK) bfloat16."""
    slopes: int
    lines: int
    queries: int
    """Queries as right operands of products over rows, and what comes from above."""
    above: int


class _Laid(NamedTuple):
    """Where a segment's keys lie for products over their numbers, and over places; where its values do."""

    keys: int
    pairs: int
    values: int
    places: int


class _Rows(NamedTuple):
    """Some rows of a head: where queries and what comes from above lie, and bytes from one to the next."""

    asked: int
    asked_step: int
    along: int
    along_step: int
    high: int
    """How many they are, and how many whole strips hold."""
    tall: int


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
        own = _own(numbers[15] + take(numbers, THREAD) * numbers[16] * 4, longest, width)
        by_keys, by_values = carray(floats(own.keys), (longest, width)), carray(floats(own.values), (longest, width))
        by_rows = carray(floats(own.rows), (BLOCK, width))
        unit = take(numbers, UNIT)
        while unit < count:
            piece = pieces[unit]
            segment, key_head = piece[SEGMENT], piece[KEY_HEAD]
            start, before, rows = table[segment, START], table[segment, BEFORE], table[segment, ROWS]
            there = (key_head * laid + table[segment, LAID]) * width * 2
            seen = _Laid(numbers[3] + there, numbers[4] + there, numbers[5] + there, table[segment, SEEN])
            by_row, by_place = piece[LAST_ROW] > 0, piece[LAST_PLACE] > 0
            last_row = piece[LAST_ROW] if by_row else rows
            last_place = piece[LAST_PLACE] if by_place else seen.places
            if by_place:
                _clear(by_keys, piece[PLACE], last_place, width)
                _clear(by_values, piece[PLACE], last_place, width)
            for head in range(piece[HEAD], piece[HEAD] + piece[HEADS]):
                # Rows before a place see nothing of it.
                lowest = max(piece[ROW], (piece[PLACE] - before) // BLOCK * BLOCK)
                for begin in range(lowest, last_row, BLOCK):
                    first, high = start + begin, min(BLOCK, rows - begin)
                    asked = numbers[2] + head * query_head + first * query_step
                    along = numbers[6] + head * above_head + first * above_step
                    some = _Rows(asked, query_step, along, above_step, high, (high + HEIGHT - 1) // HEIGHT * HEIGHT)
                    found = numbers[7] + (first * heads + head) * width * 2
                    _begin(own, some, found, heads * width * 2, by_place, width)
                    last = min(last_place, before + begin + high)
                    for chunk in _chunks(piece[PLACE], last, before + begin, window):
                        behind = before + begin - chunk
                        _slope(own, some, seen, chunk, behind, logs[head, first:], scale, window, width)
                        if by_row:
                            _to_rows(own, some, seen, chunk, behind, width)
                        if by_place:
                            _to_places(own, some.tall, chunk, behind, min(np.int64(BLOCK), last - chunk), width)
                    for row in range(high if by_row else 0):
                        _give(to_query[first + row, head], by_rows[row], scale, width)
            for place in range(piece[PLACE], min(last_place, before + rows) if by_place else 0):
                at = start + place - before
                # What is shared is the first segment, by itself.
                if place < before or at < shared:
                    _give(parts[segment, 0, place, key_head], by_keys[place], scale, width)
                    _give(parts[segment, 1, place, key_head], by_values[place], np.float32(1.0), width)
                else:
                    _give(to_key[at, key_head], by_keys[place], scale, width)
                    _give(to_value[at, key_head], by_values[place], np.float32(1.0), width)
            unit = take(numbers, UNIT)

    return Kernel(descend)


@part
def _own(at: Any, longest: Any, width: Any) -> Any:
    """One table behind the other."""
    keys, values = at, at + longest * width * 4
    rows = values + longest * width * 4
    scores = rows + BLOCK * width * 4
    inner = scores + HEIGHT * BLOCK * 4
    deltas = inner + HEIGHT * BLOCK * 4
    shares = deltas + BLOCK * 4
    slopes = shares + PAIRS * BLOCK * 4
    lines = slopes + PAIRS * BLOCK * 4
    queries = lines + BLOCK * BLOCK * 2
    return _Own(keys, values, rows, scores, inner, deltas, shares, slopes, lines, queries, queries + BLOCK * width * 2)


@part
def _clear(table: Any, first: Any, last: Any, width: Any) -> None:
    """Some of its rows."""
    for row in range(first, last):
        for number in range(width):
            table[row, number] = np.float32(0.0)


@part
def _begin(own: Any, some: Any, found: Any, step: Any, by_place: Any, width: Any) -> None:
    """Of some rows, whose answers lie at `found`: deltas, and gradients of which nothing is known yet."""
    if by_place:
        _pair_up(some.asked, some.asked_step, some.high, some.tall, width, own.queries)
        _pair_up(some.along, some.along_step, some.high, some.tall, width, own.above)
    deltas = carray(floats(own.deltas), (BLOCK,))
    for row in range(some.high):
        gone = carray(halves(some.along + row * some.along_step), (width,))
        came = carray(halves(found + row * step), (width,))
        delta = np.float32(0.0)
        for number in range(width):
            delta += read(gone[number]) * read(came[number])
        deltas[row] = delta
    _clear(carray(floats(own.rows), (BLOCK, width)), 0, some.tall, width)


@part
def _chunks(first: Any, last: Any, row: Any, window: Any) -> Any:
    """First places of chunks between two places of which rows from one on see something."""
    if window > 0:
        first = max(first, (row + 1 - window) // BLOCK * BLOCK)
    return range(first, last, BLOCK)


@part
def _strips(some: Any, behind: Any) -> Any:
    """First rows of strips of which some see a chunk's places; `behind` of these come before the first row's own."""
    return range(max(np.int64(0), -behind) // HEIGHT * HEIGHT, some.tall, HEIGHT)


@part
def _slope(
    own: Any, some: Any, seen: Any, chunk: Any, behind: Any, sums: Any, scale: Any, window: Any, width: Any
) -> None:
    """Shares of rows and gradients of their scores, of the places from `chunk` on."""
    scores, deltas = carray(floats(own.scores), (HEIGHT, BLOCK)), carray(floats(own.deltas), (BLOCK,))
    for row in _strips(some, behind):
        left = min(HEIGHT, some.high - row)
        until = behind + row + left
        columns = min(np.int64(BLOCK), (until + WIDE - 1) // WIDE * WIDE)
        _score(own, some, seen, row, left, chunk, columns, width)
        for member in range(HEIGHT):
            end = max(np.int64(0), behind + row + member + 1) if member < left else np.int64(0)
            gone = min(columns, end - window) if window > 0 else np.int64(0)
            hide(scores[member], gone, end, columns)
        for member in range(0, HEIGHT, 2):
            one, other = min(row + member, some.high - 1), min(row + member + 1, some.high - 1)
            pair, two = (row + member) // 2 * BLOCK * 4, member * BLOCK * 4
            _slopes(
                own.scores + two, own.inner + two, scale, sums[one], sums[other], deltas[one], deltas[other],
                own.shares + pair, own.slopes + pair, own.lines + (row + member) * BLOCK * 2, columns,
            )  # fmt: skip


@part
def _to_rows(own: Any, some: Any, seen: Any, chunk: Any, behind: Any, width: Any) -> None:
    """What places give to the gradients of rows."""
    for row in _strips(some, behind):
        pairs = (min(np.int64(BLOCK), behind + row + min(HEIGHT, some.high - row)) + 1) // 2
        for number in range(0, width, WIDE):
            added(
                own.lines + row * BLOCK * 2, BLOCK * 2, 4, HEIGHT,
                seen.pairs + number * seen.places * 2 + chunk * LANES * 2, seen.places * LANES * 2, pairs,
                own.rows + (row * width + number) * 4, width * 4,
            )  # fmt: skip


@part
def _score(own: Any, some: Any, seen: Any, row: Any, left: Any, chunk: Any, columns: Any, width: Any) -> None:
    """Products of a strip of rows with keys, and of what comes from above with values."""
    for place in range(0, columns, WIDE):
        at = (chunk + place) * width * 2
        fresh(
            some.asked + row * some.asked_step, some.asked_step, 4, left, seen.keys + at, width * LANES * 2,
            width // 2, own.scores + place * 4, BLOCK * 4,
        )  # fmt: skip
        fresh(
            some.along + row * some.along_step, some.along_step, 4, left, seen.values + at, width * LANES * 2,
            width // 2, own.inner + place * 4, BLOCK * 4,
        )  # fmt: skip


@part
def _to_places(own: Any, tall: Any, chunk: Any, behind: Any, count: Any, width: Any) -> None:
    """What rows give to the gradients of a chunk's keys and values."""
    for place in range(0, count, HEIGHT):
        lead = max(np.int64(0), place - behind) // HEIGHT * HEIGHT
        pairs, rows = (lead // 2 * BLOCK + place) * 4, (tall - lead) // 2
        for number in range(0, width, WIDE):
            at, target = number * BLOCK * 2 + lead * LANES * 2, ((chunk + place) * width + number) * 4
            added(
                own.shares + pairs, 4, BLOCK * 4, HEIGHT, own.above + at, BLOCK * LANES * 2, rows,
                own.values + target, width * 4,
            )  # fmt: skip
            added(
                own.slopes + pairs, 4, BLOCK * 4, HEIGHT, own.queries + at, BLOCK * LANES * 2, rows,
                own.keys + target, width * 4,
            )  # fmt: skip


@part
def _give(target: Any, sums: Any, scale: Any, width: Any) -> None:
    """A row of gradients."""
    for number in range(width):
        target[number] = kept(sums[number] * scale, target[0])


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
