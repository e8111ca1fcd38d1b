"""Parts of kernels that read rows one at a time: a row's product with numbers, and what rows weigh added to sums.

Rows lie as bfloat16 or float32, everything else is float32. Knows rows of numbers.
"""

from typing import Any

import numpy as np

from outcrop.kernels.numbers import part, read


@part
def product(numbers: Any, row: Any, width: Any) -> Any:
    """Of so many numbers with a row's."""
    total = np.float32(0.0)
    for place in range(width):
        total += numbers[place] * read(row[place])
    return total


@part
def add_four(sums: Any, weights: Any, rows: Any, width: Any) -> None:
    """Four rows, each times its weight: the sums are read and written a quarter as often."""
    one, two, three, four = weights[0], weights[1], weights[2], weights[3]
    for place in range(width):
        sums[place] += (
            one * read(rows[0, place])
            + two * read(rows[1, place])
            + three * read(rows[2, place])
            + four * read(rows[3, place])
        )


@part
def add_one(sums: Any, weight: Any, row: Any, width: Any) -> None:
    """One row times its weight."""
    for place in range(width):
        sums[place] += weight * read(row[place])
