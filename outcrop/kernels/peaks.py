"""The largest number of each row, and where it stands: what greedy choice reads.

Numbers are compared by their bits, as integers in the same order, over which a loop can be made wide. Knows rows only.
"""

from functools import cache
from typing import Any, Final

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import UNIT, Kernel, longs, shorts, take, words

BLOCK: Final = 512
"""Numbers of which the largest is found before any of them is looked at."""


def peaks(rows: Tensor) -> tuple[Tensor, list[int]]:
    """The largest number of each row (rows, numbers), and the first place where it stands.

    Where a row holds what is no number, that is what is told of it, and some place.
    """
    count, width = rows.shape
    rows = rows.contiguous()
    places = torch.empty(count, dtype=torch.int64)
    _kernel(rows.dtype == torch.bfloat16)(
        min(torch.get_num_threads(), count), rows.data_ptr(), places.data_ptr(), count, width
    )
    return rows.gather(1, places[:, None])[:, 0], places.tolist()


@cache
def _kernel(half: bool) -> Kernel:
    # The sign is the highest bit; of negative numbers all others are turned over, so that larger ones come later.
    sign, rest, infinite = (15, 0x7FFF, 0x7F80) if half else (31, 0x7FFFFFFF, 0x7F800000)

    def peaks(numbers: Any) -> None:
        count, width = numbers[4], numbers[5]
        rows = carray(shorts(numbers[2]), (count, width)) if half else carray(words(numbers[2]), (count, width))
        places = carray(longs(numbers[3]), (count,))
        row = take(numbers, UNIT)
        while row < count:
            best, where, found = np.int32(-(1 << 31)), 0, -1
            for first in range(0, width, BLOCK):
                # A view from 0 on: numba asks of other places whether they count from the end.
                block = rows[row, first : min(first + BLOCK, width)]
                highest, size = np.int32(-(1 << 31)), np.int32(0)
                for place in range(len(block)):
                    told = np.int32(block[place])
                    highest = max(highest, np.int32(told ^ np.int32(np.int32(told >> np.int32(sign)) & np.int32(rest))))
                    size = max(size, np.int32(told & np.int32(rest)))
                if size > np.int32(infinite) and found < 0:
                    for place in range(len(block)):
                        if np.int32(np.int32(block[place]) & np.int32(rest)) > np.int32(infinite):
                            found = first + place
                if highest > best:
                    best, where = highest, first
            if found < 0:
                found = where
                while True:
                    told = np.int32(rows[row, found])
                    if (told ^ ((told >> np.int32(sign)) & np.int32(rest))) == best:
                        break
                    found += 1
            places[row] = found
            row = take(numbers, UNIT)

    return Kernel(peaks)
