"""How long things are: exact counts of lengths in little memory, and the figures and the histogram made of them."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SHORT: Final = 65_536
"""Lengths below this are counted in an array; each longer one by itself: few of those go into any file."""


@dataclass(frozen=True, slots=True)
class Bar:
    """How many lengths lie from `low` to `high`, both included."""

    low: int
    high: int
    count: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long one part of the records is, in characters or tokens."""

    total: int
    minimum: int
    median: int
    percentile95: int
    maximum: int
    histogram: tuple[Bar, ...] = ()
    """In powers of two, from the shortest to the longest; every length is in one bar."""


class Counts:
    """How often each length was seen."""

    def __init__(self) -> None:
        self._short = np.zeros(0, np.int64)
        self._long: Counter[int] = Counter()

    def add(self, lengths: NDArray[np.int64]) -> None:
        """Count some lengths, none of them below 0."""
        if len(lengths) and lengths.max() >= SHORT:
            self._long.update(lengths[lengths >= SHORT].tolist())
            lengths = lengths[lengths < SHORT]
        found = np.bincount(lengths)
        if len(found) > len(self._short):
            self._short = np.concatenate((self._short, np.zeros(len(found) - len(self._short), np.int64)))
        self._short[: len(found)] += found

    def lengths(self) -> Lengths | None:
        """The figures; None where nothing was counted."""
        seen = np.flatnonzero(self._short)
        long = sorted(self._long)
        values = np.concatenate((seen, np.array(long, np.int64)))
        counts = np.concatenate((self._short[seen], np.array([self._long[value] for value in long], np.int64)))
        if not len(values):
            return None
        upto = np.cumsum(counts)
        median, high = (int(values[np.searchsorted(upto, -(-upto[-1] * share // 100))]) for share in (50, 95))
        return Lengths(
            total=int((values * counts).sum()),
            minimum=int(values[0]),
            median=median,
            percentile95=high,
            maximum=int(values[-1]),
            histogram=_bars(values, counts),
        )


def lengths_of(values: NDArray[np.int64]) -> Lengths | None:
    """The figures of lengths that are at hand, say of examples in a model's tokens."""
    counts = Counts()
    counts.add(values)
    return counts.lengths()


def _bars(values: NDArray[np.int64], counts: NDArray[np.int64]) -> tuple[Bar, ...]:
    bars: list[Bar] = []
    low, high = 0, 0
    while low <= values[-1]:
        first, last = np.searchsorted(values, (low, high + 1))
        count = int(counts[first:last].sum())
        if bars or count:
            bars.append(Bar(low, high, count))
        low, high = high + 1, 2 * high + 1
    return tuple(bars)
