"""Texts that are not ours, as a terminal may have them: records, names and messages can hold what would steer it.

Knows characters; nothing of screens or of where a text came from.
"""

import re
from typing import Final

STEERING: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls but the newline, marks that turn the direction of writing, other ends of lines, and halves of characters."""


def harmless(text: str) -> str:
    """The text with a dot in place of each character that would steer a terminal; newlines stay."""
    return STEERING.sub("·", text)


def harmless_json(document: str) -> str:
    """A JSON document with each such character escaped: the same values, on any terminal."""
    return STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", document)
