"""Records that stand more than once, in one file or in two: found by their numbers, in memory that does not grow.

The numbers of a file's records (see texts) go to a Trail in the order of its lines: to memory while they are few, to a
nameless temporary file from then on. They are counted part by part. Knows numbers; nothing of records.
"""

import os
import tempfile
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.match import Words

HELD: Final = 2**20
"""Numbers that a trail keeps in memory; also how many are read back at once."""

PART: Final = 2**22
"""About as many numbers are sorted together: 32 MB."""

SHOWN: Final = 10
"""Repeats that are told with their lines."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A record that was there before."""

    line: int
    of: int
    """The line of the first one like it: of the same file, or of the training file."""


class Trail:
    """One number a line of a file, in order; 0 for a line that holds no record."""

    def __init__(self) -> None:
        self._held: list[Words] = []
        self._count = self._spilled = 0
        self._file: int | None = None

    def __len__(self) -> int:
        return self._count

    def add(self, numbers: Words) -> None:
        """Append the numbers of the next lines."""
        self._held.append(numbers)
        self._count += len(numbers)
        if self._count - self._spilled >= HELD:
            self._spill()

    def chunks(self) -> Iterator[Words]:
        """All numbers in order, some at a time."""
        for start in range(0, self._spilled, HELD):
            assert self._file is not None
            size = min(HELD, self._spilled - start) * 8
            yield np.frombuffer(os.pread(self._file, size, start * 8), np.uint64)
        yield from self._held

    def part(self, index: int, parts: int) -> Words:
        """The numbers of one of so many parts of all possible numbers, in order, less those without a record."""
        found = [chunk[within(chunk, index, parts)] for chunk in self.chunks()]
        return np.concatenate(found) if found else np.empty(0, np.uint64)

    def places(self, wanted: Words) -> dict[int, int]:
        """The first line of each of a few numbers, by number."""
        found: dict[int, int] = {}
        start = 1
        for chunk in self.chunks():
            for place in np.flatnonzero(np.isin(chunk, wanted)).tolist():
                found.setdefault(int(chunk[place]), start + place)
            start += len(chunk)
        return found

    def _spill(self) -> None:
        if self._file is None:
            # Unlinked at once: whatever ends this process, nothing stays behind.
            self._file, name = tempfile.mkstemp(prefix="outcrop-")
            os.unlink(name)  # noqa: PTH108 - a name that is needed no longer than this
            weakref.finalize(self, os.close, self._file)
        data = memoryview(np.concatenate(self._held).tobytes())
        while data:
            data = data[os.write(self._file, data) :]
        self._held, self._spilled = [], self._count


def parts_of(count: int) -> int:
    """In how many parts so many numbers are counted."""
    return -(-count // PART) or 1


def within(numbers: Words, index: int, parts: int) -> NDArray[np.bool_]:
    """Which numbers lie in a part; 0 lies in none."""
    if parts == 1:
        present: NDArray[np.bool_] = numbers != 0
        return present
    upper = numbers >> np.uint64(32)
    chosen: NDArray[np.bool_] = ((upper * np.uint64(parts)) >> np.uint64(32) == np.uint64(index)) & (numbers != 0)
    return chosen


def distinct(trail: Trail) -> int:
    """How many different records there are."""
    parts = parts_of(len(trail))
    total = 0
    for index in range(parts):
        numbers = trail.part(index, parts)
        numbers.sort()
        total += int(np.count_nonzero(numbers[1:] != numbers[:-1])) + bool(len(numbers))
    return total


def first_repeats(trail: Trail) -> tuple[Repeat, ...]:
    """The first SHOWN records that were there before, if they stand among the first million lines."""
    if not len(trail):
        return ()
    numbers = next(trail.chunks()) if len(trail) > HELD else np.concatenate(list(trail.chunks()))
    lines = _again(numbers[: HELD // 16])
    if len(lines) < SHOWN:
        lines = _again(numbers)
    firsts = trail.places(numbers[lines])
    return tuple(Repeat(int(line) + 1, firsts[int(numbers[line])]) for line in lines)


def _again(numbers: Words) -> NDArray[np.int64]:
    """The first SHOWN places at which a number stands that stood before."""
    order = np.argsort(numbers, kind="stable")
    again = np.flatnonzero((numbers[order[1:]] == numbers[order[:-1]]) & (numbers[order[1:]] != 0))
    lines: NDArray[np.int64] = np.sort(order[again + 1])[:SHOWN]
    return lines


def shared(training: Trail, other: Trail) -> tuple[int, tuple[Repeat, ...]]:
    """How many records of the other file also stand in the training file, and the first SHOWN of them."""
    parts = parts_of(max(len(training), len(other)))
    count = 0
    lines: list[int] = []
    for index in range(parts):
        known = training.part(index, parts)
        known.sort()
        start = 1
        for chunk in other.chunks():
            chosen = np.flatnonzero(within(chunk, index, parts))
            numbers = chunk[chosen]
            at = np.minimum(np.searchsorted(known, numbers), max(len(known) - 1, 0))
            hit = chosen[known[at] == numbers] if len(known) else chosen[:0]
            count += len(hit)
            lines = sorted([*lines, *(hit[:SHOWN] + start).tolist()])[:SHOWN]
            start += len(chunk)
    return count, _pairs(training, other, lines)


def _pairs(training: Trail, other: Trail, lines: list[int]) -> tuple[Repeat, ...]:
    numbers: dict[int, int] = {}
    start = 1
    for chunk in other.chunks():
        numbers.update({line: int(chunk[line - start]) for line in lines if start <= line < start + len(chunk)})
        start += len(chunk)
    firsts = training.places(np.array(list(numbers.values()), np.uint64))
    return tuple(Repeat(line, firsts[numbers[line]]) for line in lines)
