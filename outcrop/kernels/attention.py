"""Attention of single rows, each over its own stretch of the cache: all of them in one call.

Knows a layer's two tensors and where each row's keys lie in them.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import LINE, THREAD, UNIT, Call, Kernel, bits, fetch, floats, longs, real, take
from outcrop.kernels.numbers import exp, kept, nought, part, read, stored
from outcrop.kernels.rule import Rule
from outcrop.kernels.sums import add_four, add_one, product


def attend(query: Tensor, layer: tuple[Tensor, Tensor], where: Tensor, longest: int, rule: Rule) -> Tensor:
    """query (rows, heads, d) over keys (kv heads, places, d) and values (kv heads, places, e): (rows, heads, e).

    where (rows, 2), int64: the first place that a row sees, and how many; none sees more than `longest`. All tensors
    are of one dtype, float32 or bfloat16, and lie as written; sums are float32. The rule's window is not asked: it is
    what `where` says.
    """
    query = query.contiguous()
    found = query.new_empty(*query.shape[:2], layer[1].shape[2])
    attend_into(found, query, layer, where, longest, rule).run()
    return found


def attend_into(
    found: Tensor,
    query: Tensor,
    layer: tuple[Tensor, Tensor],
    where: Tensor,
    longest: int,
    rule: Rule,
    scratch: Tensor | None = None,
) -> Call:
    """The same, to be run later, its answer written to `found`; scratch: as `scratch_for` makes it, to be shared."""
    keys, values = layer
    rows, heads, width = query.shape
    kv, places, wide = values.shape
    threads, group = torch.get_num_threads(), heads // kv
    if scratch is None:
        scratch = scratch_for(threads, heads, layer, longest)
    return Call(
        _kernel(width, wide, group, query.dtype == torch.bfloat16),
        min(threads, rows * kv),
        (
            query.data_ptr(),
            keys.data_ptr(),
            values.data_ptr(),
            found.data_ptr(),
            where.data_ptr(),
            scratch.data_ptr(),
            rows,
            kv,
            places,
            longest,
            bits(rule.scale),
            bits(rule.cap or 0.0),
        ),
        (query, keys, values, found, where, scratch),
        rows_at=6,
    )


def scratch_for(threads: int, heads: int, layer: tuple[Tensor, Tensor], longest: int) -> Tensor:
    """Where so many threads keep the scores and sums of a row's heads."""
    keys, values = layer
    group = heads // keys.shape[0]
    return torch.empty(threads, group * (keys.shape[2] + longest + values.shape[2]), dtype=torch.float32)


@cache
def _kernel(width: int, wide: int, group: int, half: bool) -> Kernel:
    """For heads of `width` numbers (values: `wide`), `group` of which share their keys, in bfloat16 or float32."""
    # Plain numbers, so that what was compiled is found again by them.
    size, like = 2 if half else 4, nought(half)

    def attend(numbers: Any) -> None:
        rows, kv, places, longest = numbers[8], numbers[9], numbers[10], numbers[11]
        scale, cap = np.float32(real(numbers[12])), np.float32(real(numbers[13]))
        query = stored(numbers[2], (rows, kv, group, width), like)
        keys = stored(numbers[3], (kv, places, width), like)
        values = stored(numbers[4], (kv, places, wide), like)
        found = stored(numbers[5], (rows, kv, group, wide), like)
        where = carray(longs(numbers[6]), (rows, 2))
        room = group * (width + longest + wide)
        thread = take(numbers, THREAD)
        own = carray(floats(numbers[7]), ((thread + 1) * room,))[thread * room :]
        asked = own[: group * width].reshape((group, width))
        scores = own[group * width : group * (width + longest)].reshape((group, longest))
        sums = own[group * (width + longest) :].reshape((group, wide))
        unit = take(numbers, UNIT)
        while unit < rows * kv:
            row, head = unit // kv, unit % kv
            first, count = where[row, 0], where[row, 1]
            for member in range(group):
                for number in range(width):
                    asked[member, number] = read(query[row, head, member, number]) * scale
                for number in range(wide):
                    sums[member, number] = np.float32(0.0)
            beside = numbers[4] + (head * places + first) * wide * size
            for place in range(count):
                _near(beside + place * wide * size, wide * size)
                for member in range(group):
                    scores[member, place] = product(asked[member], keys[head, first + place], width)
            for member in range(group):
                _share(scores[member], count, cap)
            following = take(numbers, UNIT)
            ahead, room = numbers[3], np.int64(0)
            if following < rows * kv:
                ahead += (following % kv * places + where[following // kv, 0]) * width * size
                room = where[following // kv, 1]
            fours = count - count % 4
            for place in range(0, fours, 4):
                if place < room:
                    _near(ahead + place * width * size, 4 * width * size)
                seen = values[head, first + place : first + place + 4]
                for member in range(group):
                    add_four(sums[member], scores[member, place : place + 4], seen, wide)
            for place in range(fours, count):
                for member in range(group):
                    add_one(sums[member], scores[member, place], values[head, first + place], wide)
            for member in range(group):
                for number in range(wide):
                    found[row, head, member, number] = kept(sums[member, number], like)
            unit = following

    return Kernel(attend)


@part
def _near(address: Any, size: Any) -> None:
    """Have so many bytes brought near."""
    for line in range(0, size, LINE):
        fetch(address + line)


@part
def _share(scores: Any, count: Any, cap: Any) -> None:
    """Scores of so many places become shares."""
    if cap > 0:
        for place in range(count):
            scores[place] = cap * np.float32(math.tanh(scores[place] / cap))
    height = np.float32(-np.inf)
    for place in range(count):
        height = max(height, scores[place])
    total = np.float32(0.0)
    for place in range(count):
        weight = exp(scores[place] - height)
        scores[place] = weight
        total += weight
    share = np.float32(1.0) / total
    for place in range(count):
        scores[place] *= share
