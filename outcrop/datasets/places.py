"""Where a word of a record's texts stands in the line that it was read from, however escapes spell it there.

For lines that are known to be good JSON; slow, as only faults ask. Knows JSON's strings; nothing of formats or quotas.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

_STRING: Final = re.compile(r'("(?:[^"\\]++|\\.)*+")(\s*:)?')
"""A string, and the colon that makes it a member's name."""
_ESCAPE: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u....|\\.")
"""An escape, or the two of a surrogate pair: each is one character of the text."""


@dataclass(frozen=True, slots=True)
class _Value:
    """A string of the line."""

    start: int
    """Where its first character stands, behind the quotation mark."""
    written: str
    text: str

    def column(self, at: int) -> int:
        """The column, from 1, of the character at a place of the text."""
        gone = 0
        for escape in _ESCAPE.finditer(self.written):
            if escape.start() - gone >= at:
                break
            gone += len(escape.group()) - 1
        return self.start + at + gone + 1


def column(line: str, word: str, texts: Sequence[str]) -> int:
    """The column, from 1, at which a word of these texts first stands in their line; 0 where it cannot be found.

    A text may be written in several strings, one after the other; then the word may begin in one and end in another.
    """
    values = _values(line)
    whole = set(texts)
    # A string that is a text goes before one that may be a part of one, or none. Looked up, not searched for: a line
    # may hold a hundred thousand of either.
    for value in sorted(values, key=lambda value: value.text not in whole):
        at = value.text.find(word)
        if at >= 0:
            return value.column(at)
    at = "".join(value.text for value in values).find(word)
    starts = [0, *accumulate(len(value.text) for value in values)]
    found = [value.column(at - start) for value, start in zip(values, starts, strict=False) if start <= at]
    return found[-1] if found else 0


def _values(line: str) -> list[_Value]:
    return [
        _Value(found.start() + 1, found[1][1:-1], json.loads(found[1]))
        for found in _STRING.finditer(line)
        if not found[2]
    ]
