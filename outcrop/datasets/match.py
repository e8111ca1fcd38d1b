"""Many pieces of a block compared with a few literal byte strings at once. Knows numpy and bytes only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

PAD: Final = b"\0" * 64
"""What must follow a block, so that a piece may be read whole at its very end."""

NONE: Final = 255
"""The code of a piece that is none of the strings."""

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]
Words = NDArray[np.uint64]


def words(data: bytes) -> Words:
    """The eight bytes from each place of a padded block on, as numbers; nothing is copied."""
    return np.ndarray((len(data) - 7,), dtype="<u8", buffer=data, strides=(1,))


def inside(places: Places, starts: Places, stops: Places) -> Places:
    """How many of some places lie in each piece; both ascend, and no two pieces overlap."""
    if not len(starts):
        return np.zeros(0, np.int64)
    piece = np.searchsorted(starts, places, side="right") - 1
    return np.bincount(piece[(piece >= 0) & (places < stops[piece])], minlength=len(starts))


@dataclass(frozen=True, slots=True, eq=False)
class Padded:
    """A block's bytes in the forms in which they are read."""

    data: bytes
    """With PAD."""
    each: Bytes
    words: Words

    @classmethod
    def of(cls, data: bytes) -> "Padded":
        """A block that already has its PAD."""
        return cls(data, np.frombuffer(data, np.uint8), words(data))


@dataclass(frozen=True, slots=True)
class Strings:
    """Literal byte strings in the form in which they are looked for."""

    codes: tuple[tuple[int, int, tuple[tuple[int, int, int], ...]], ...]
    """For each string: its code, its length, and offset, mask and value of the words that it is made of."""

    @classmethod
    def of(cls, strings: Sequence[tuple[bytes, int]]) -> "Strings":
        """From strings with their codes, 0 to 254."""
        return cls(tuple((code, len(string), _parts(string)) for string, code in strings))

    def find(self, block: Words, starts: Places, lengths: Places) -> Bytes:
        """The code of each piece, NONE where it is no string of ours."""
        codes = np.full(len(starts), NONE, np.uint8)
        present = np.bincount(np.minimum(lengths, 127), minlength=128)
        for code, length, parts in self.codes:
            if not present[length]:
                continue
            chosen = None if present[length] == len(starts) else np.flatnonzero(lengths == length)
            same = _same(block, starts if chosen is None else starts[chosen], parts)
            if chosen is None:
                codes[same] = code
            else:
                codes[chosen[same]] = code
        return codes

    def alike(self, block: Words, starts: Places, lengths: Places) -> tuple[int, NDArray[np.bool_]]:
        """The code of the first piece, and which pieces are the same string; for pieces that mostly are."""
        length = int(lengths[0])
        for code, size, parts in self.codes:
            if size == length and _same(block, starts[:1], parts)[0]:
                return code, _same(block, starts, parts) & (lengths == length)
        return NONE, np.zeros(len(starts), bool)


_ALL: Final = 2**64 - 1


def _same(block: Words, starts: Places, parts: tuple[tuple[int, int, int], ...]) -> NDArray[np.bool_]:
    same = np.ones(len(starts), bool)
    for offset, mask, value in parts:
        found = block[starts + offset]
        # Not &=: in place, numpy goes through truth values one by one.
        same = same & ((found if mask == _ALL else found & np.uint64(mask)) == np.uint64(value))
    return same


def _parts(string: bytes) -> tuple[tuple[int, int, int], ...]:
    if len(string) < 8:
        return ((0, 2 ** (8 * len(string)) - 1, int.from_bytes(string, "little")),)
    offsets = [*range(0, len(string) - 8, 8), len(string) - 8]
    return tuple((offset, _ALL, int.from_bytes(string[offset : offset + 8], "little")) for offset in offsets)
