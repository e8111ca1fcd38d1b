"""Texts of nothing but white space: allowed, as AWS says nothing of them, but hardly ever meant.

White space is what Python's str.isspace takes for it: ideographic and no-break spaces too, escaped or not. Nearly all
texts are ruled out together by their first two characters. Knows bytes, and what members are called; nothing of files.
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.match import Bytes, Places

SHOWN: Final = 10
"""Blank texts that are told with their places."""

WIDE: Final = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""White space beyond ASCII."""

_SPACES: Final = [each.encode() for each in WIDE]
_ESCAPES: Final = rb" |\\[nrtf]|\\u00(?:0b|1[c-f])"
_BLANK: Final = re.compile(b"(?:%b|%b)++" % (_ESCAPES, b"|".join(_SPACES)))
_CODES: Final = [[int.from_bytes(each) for each in _SPACES if len(each) == size] for size in (1, 2, 3)]
"""The wide ones by their size."""

_SPACE, _BACKSLASH, _UNIT = b" \\u"
_LEAST: Final = np.uint8(min(each[0] for each in _SPACES))
_SPAN: Final = np.uint8(max(each[0] for each in _SPACES) - int(_LEAST))
_SIZES: Final = np.full(256, 3, np.int64)
_SIZES[[_SPACE, _BACKSLASH, 0xC2]] = 1, 2, 2
"""Bytes of a white character by its first one, unless it is written as \\uXXXX."""


@dataclass(frozen=True, slots=True)
class Blank:
    """A text of nothing but white space."""

    line: int
    part: str
    """As the line's members name it: completion, messages[1].content."""


def blanks(data: bytes, starts: Places, lengths: Places) -> Places:
    """Which texts are blank; they stand in `data` as JSON writes them, each of a byte at least, PAD behind (texts)."""
    block = np.frombuffer(data, np.uint8)
    found = _begun(block, starts)
    if len(found):
        heads, left = starts[found], lengths[found]
        sizes = _SIZES[block[heads]]
        sizes[block[heads + 1] == _UNIT] = 6
        short = left <= sizes
        going = np.zeros(len(found), bool)
        going[_begun(block, heads + np.where(short, 0, sizes))] = True
        found = found[going]
    sure = [text for text in found.tolist() if _BLANK.fullmatch(data, starts[text], starts[text] + lengths[text])]
    return np.array(sure, np.int64)


def part(format: str, slot: int) -> str:
    """What a format's lines call the text of a slot (see texts)."""
    match format:
        case "prompt-completion":
            return "prompt" if slot == 1 else "completion"
        case "text":
            return "input"
        case _:
            return f"messages[{slot - 1}].content" if slot else "system"


def _begun(block: Bytes, places: Places) -> Places:
    """Those of the places where a white character, or an escape, stands."""
    first = block.take(places)
    found: Places = np.flatnonzero((first == _SPACE) | (first == _BACKSLASH) | (first - _LEAST <= _SPAN))
    if not len(found):
        return found
    heads = places[found]
    first = first[found]
    white: NDArray[np.bool_] = (first == _SPACE) | (first == _BACKSLASH)
    wide = np.flatnonzero(~white)
    if len(wide):
        code = np.zeros(len(wide), np.int32)
        for place in range(3):
            code = code << 8 | block.take(heads[wide] + place)
            for known in _CODES[place]:
                white[wide[code == known]] = True
    return found[white]
