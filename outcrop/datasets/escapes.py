"""JSON's escapes in a whole block at once: found, judged, and brought to one spelling.

That spelling is the standard library's for JSON in UTF-8: two characters for quotation marks, backslashes and the five
named controls, and every other character as it is. Most files are written so, and then nothing needs to be moved.
Knows the bytes of a block and nothing of its lines. Raw UTF-8 must have been checked already.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.match import Bytes, Places

_BACKSLASH: Final = 92
_NAMED: Final = np.zeros(256, bool)
_NAMED[list(b'"\\bfnrt')] = True
"""The letters of escapes that stay as they are."""

_NO_DIGIT: Final = 16
_HEX: Final = np.full(256, _NO_DIGIT, np.int32)
for _digit in b"0123456789abcdefABCDEF":
    _HEX[_digit] = int(chr(_digit), 16)


@dataclass(frozen=True, slots=True, eq=False)
class Escapes:
    """The escapes of a block."""

    at: Places
    """Where each one's backslash stands, ascending."""
    named: Places
    """Those of `at` that stay as they are: two bytes for one character."""
    doubtful: Places
    """Those of `at` that are no escape of JSON, half of a surrogate pair, or another spelling of what has a name."""
    slashes: Places
    """Those of `at` that are written \\/."""
    units: Places
    """Those of `at` that are written \\uXXXX."""
    codes: NDArray[np.int32]
    """The code point of each of `units`; of a pair the first half has that of both, and the second half has -1."""


def find(block: Bytes) -> Escapes:
    """All escapes of a padded block that holds backslashes."""
    at = _starts(np.flatnonzero(block == _BACKSLASH))
    letters = block[at + 1]
    named = _NAMED[letters]
    if named.all():
        none = at[:0]
        return Escapes(at, at, none, none, none, none.astype(np.int32))
    slash, unit = letters == ord("/"), letters == ord("u")
    units = at[unit]
    codes = np.zeros(len(units), np.int32)
    bad = np.zeros(len(units), bool)
    for place in range(2, 6):
        digits = _HEX[block[units + place]]
        bad |= digits == _NO_DIGIT
        codes = (codes << 4) + (digits & 15)
    high = (codes >= 0xD800) & (codes < 0xDC00) & ~bad
    low = (codes >= 0xDC00) & (codes < 0xE000) & ~bad
    paired = np.zeros(len(units), bool)
    paired[:-1] = high[:-1] & low[1:] & (units[1:] == units[:-1] + 6)
    first = np.flatnonzero(paired)
    codes[first] = 0x10000 + ((codes[first] - 0xD800) << 10) + (codes[first + 1] - 0xDC00)
    codes[first + 1] = -1
    bad |= (high & ~paired) | (low & (codes >= 0))
    bad |= (codes >= 0) & ((codes < 0x20) | (codes == ord('"')) | (codes == _BACKSLASH))
    wrong = at[~(named | slash | unit)]
    return Escapes(at, at[named], np.concatenate((wrong, units[bad])), at[slash], units, codes)


def _starts(slashes: Places) -> Places:
    """Of backslashes those that start an escape: the first, third, … of every run."""
    fresh = np.ones(len(slashes), bool)
    fresh[1:] = np.diff(slashes) != 1
    if fresh.all():
        return slashes
    order = np.arange(len(slashes))
    run = np.maximum.accumulate(np.where(fresh, order, 0))
    starts: Places = slashes[(order - run) % 2 == 0]
    return starts


def resolve(block: Bytes, escapes: Escapes) -> tuple[Bytes, NDArray[np.int32]]:
    """The block with characters in place of `slashes` and `units`, and how many bytes are gone before each old place.

    What stands there for a doubtful escape means nothing; its line is not to be taken.
    """
    text = block.copy()
    gone = np.zeros(len(block), bool)
    gone[escapes.slashes] = True
    gone[escapes.units] = True
    _encode(text, gone, escapes.units, escapes.codes)
    before = np.zeros(len(block) + 1, np.int32)
    np.cumsum(gone, out=before[1:])
    return text[~gone], before


def _encode(text: Bytes, gone: NDArray[np.bool_], units: Places, codes: NDArray[np.int32]) -> None:
    """Write characters as UTF-8 behind the backslash of their escapes, which are always longer."""
    sizes = np.select([codes < 0, codes < 0x80, codes < 0x800, codes < 0x10000], [0, 1, 2, 3], 4)
    for size in range(5):
        chosen = sizes == size
        at, code = units[chosen], codes[chosen]
        for place in range(size):
            lead = (0, 0, 0xC0, 0xE0, 0xF0)[size] if place == 0 else 0x80
            text[at + 1 + place] = lead | ((code >> 6 * (size - 1 - place)) & (0x3F if place else 0x7F))
        for place in range(size + 1, 6):
            gone[at + place] = True
