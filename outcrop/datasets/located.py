"""JSON read with the place of everything in it: slow, strict, and good at saying what is wrong.

For lines that a quicker reader could not vouch for. Accepts exactly RFC 8259's texts, less those that say one thing
twice or nothing at all: a member that stands twice in its object, half a surrogate pair, nesting without end. Knows no
format of datasets.
"""

import re
from dataclasses import dataclass
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Final

from outcrop.datasets.faults import RefusalError

DEPTH: Final = 100
"""Arrays and objects within one another; no format needs ten."""

_SPACE: Final = re.compile(r"[ \t\r\n]*+")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_WORD: Final = re.compile(r"[A-Za-z_]++")
_LITERALS: Final = {"true": "boolean", "false": "boolean", "null": "null"}
_FOREIGN: Final = {"True": "true", "False": "false", "None": "null"}
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Node:
    """One JSON value and where its text starts, in characters from 0."""

    kind: str
    """As JSON calls it: object, array, string, number, boolean or null."""
    start: int
    text: str = ""
    """Of a string: its value."""
    members: "tuple[Member, ...]" = ()
    """Of an object."""
    items: "tuple[Node, ...]" = ()
    """Of an array."""

    def get(self, name: str) -> "Node | None":
        """The value of an object's member."""
        return next((member.value for member in self.members if member.name == name), None)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an object: its name, where that starts, and the value."""

    name: str
    start: int
    value: Node


def read(text: str) -> Node:
    """The one JSON value of a line; raises RefusalError of the kind jsonl for anything else.

    A member that stands twice is of the kind shape: the line is JSON, but nobody can say what it means.
    """
    node, end = _value(text, _skip(text, 0), 0)
    end = _skip(text, end)
    if end < len(text):
        raise _wrong(end, _after(text, end, node))
    return node


def _after(text: str, at: int, node: Node) -> str:
    if text[at] == ",":
        return "a comma stands after the record; a JSON Lines file has none between its lines: take it out"
    if node.kind == "object" and text[at] == "{":
        return "a second record begins here; every record needs a line of its own"
    return "trailing characters after the record; a line holds one JSON object and nothing else"


def _value(text: str, at: int, depth: int) -> tuple[Node, int]:
    """The value that starts at a character that is no space, and where it ends."""
    if depth > DEPTH:
        raise _wrong(at, f"values are nested more than {DEPTH} deep")
    mark = text[at : at + 1]
    if mark == '"':
        value, end = _string(text, at)
        return Node("string", at, value), end
    if mark == "{":
        return _object(text, at, depth)
    if mark == "[":
        return _array(text, at, depth)
    number = _NUMBER.match(text, at)
    if number is not None:
        return Node("number", at), number.end()
    word = _WORD.match(text, at)
    if word is not None and word.group() in _LITERALS:
        return Node(_LITERALS[word.group()], at), word.end()
    raise _wrong(at, _no_value(text, at, word.group() if word else ""))


def _no_value(text: str, at: int, word: str) -> str:
    if at >= len(text):
        return _cut(text)
    if word in _FOREIGN:
        return f"{word} is Python's spelling; JSON writes {_FOREIGN[word]}"
    if word in {"NaN", "Infinity"} or text.startswith("-Infinity", at):
        return f"invalid character: {word or '-Infinity'} is no JSON value"
    if text[at] in "'‘’“”":
        return f"strings stand in straight double quotes in JSON, not in {text[at]}"
    if text[at] in ",]}":
        return f"a value is missing before the {text[at]}"
    if text[at] == "\ufeff":
        return "a byte order mark may stand at the start of the file only"
    return f"invalid character {text[at]!r} where a value should start"


def _object(text: str, start: int, depth: int) -> tuple[Node, int]:
    members: list[Member] = []
    seen: set[str] = set()
    at = _skip(text, start + 1)
    while text[at : at + 1] != "}" or members:
        if text[at : at + 1] != '"':
            raise _wrong(at, _no_name(text, at, bool(members)))
        name, end = _string(text, at)
        if name in seen:
            raise RefusalError(at, f"the member {name} stands twice in one object; leave one")
        seen.add(name)
        colon = _skip(text, end)
        if text[colon : colon + 1] != ":":
            raise _wrong(colon, _cut(text) if colon >= len(text) else "expected ':' after the member's name")
        value, end = _value(text, _skip(text, colon + 1), depth + 1)
        members.append(Member(name, at, value))
        at, more = _more(text, end, "}")
        if not more:
            break
    return Node("object", start, members=tuple(members)), at + 1


def _no_name(text: str, at: int, later: bool) -> str:
    if at >= len(text):
        return _cut(text)
    if text[at] == "}" and later:
        return "a comma stands before the }, and JSON allows none there: take it out"
    if text[at] in "'‘’“”":
        return f"names stand in straight double quotes in JSON, not in {text[at]}"
    return "expected a member's name in double quotes"


def _array(text: str, start: int, depth: int) -> tuple[Node, int]:
    items: list[Node] = []
    at = _skip(text, start + 1)
    while text[at : at + 1] != "]" or items:
        if items and text[at : at + 1] == "]":
            raise _wrong(
                at,
                "a comma stands before the ], and JSON allows none there: take it out "
                "(the multi-turn sample in AWS's own guide has this comma)",
            )
        value, end = _value(text, at, depth + 1)
        items.append(value)
        at, more = _more(text, end, "]")
        if not more:
            break
    return Node("array", start, items=tuple(items)), at + 1


def _more(text: str, end: int, closing: str) -> tuple[int, bool]:
    """Behind a comma: the start of what follows, and true; at the closing mark: its place, and false."""
    at = _skip(text, end)
    mark = text[at : at + 1]
    if mark == ",":
        return _skip(text, at + 1), True
    if mark == closing:
        return at, False
    raise _wrong(at, f"expected ',' or '{closing}'" if mark else _cut(text))


def _string(text: str, start: int) -> tuple[str, int]:
    try:
        value, end = scanstring(text, start + 1, True)
    except JSONDecodeError as error:
        raise _wrong(*_broken_string(text, error)) from None
    if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        at = _lone(text, start, end)
        reason = f"{text[at : at + 6]} is half of a surrogate pair, which is no character"
        raise _wrong(at, f"{reason}: write the whole pair, or the character itself")
    return value, end


def _broken_string(text: str, error: JSONDecodeError) -> tuple[int, str]:
    at = error.pos
    if error.msg.startswith("Unterminated"):
        return len(text), f"{_cut(text)}: the string that starts at column {at + 1} has no end"
    if error.msg.startswith("Invalid control character"):
        return at, f"control character U+{ord(text[at]):04X} must be written as an escape"
    # The standard library has two scanners that point at different characters of a bad escape.
    at = text.rfind("\\", 0, at + 1)
    if text[at : at + 2] == "\\u":
        return at, "behind \\u stand four hexadecimal digits, as in \\u00e9; a backslash itself is written \\\\"
    return at, f"{text[at : at + 2]} is no escape of JSON; a backslash itself is written \\\\"


def _lone(text: str, start: int, end: int) -> int:
    """The first escape in a string that is half of a surrogate pair."""
    high: int | None = None
    behind = 0
    for match in _ESCAPE.finditer(text, start, end):
        code = int(match.group(1) or "0", 16)
        if high is not None and not (match.start() == behind and 0xDC00 <= code <= 0xDFFF):
            return high
        if high is None and 0xDC00 <= code <= 0xDFFF:
            return match.start()
        high = match.start() if 0xD800 <= code <= 0xDBFF else None
        behind = match.end()
    assert high is not None
    return high


def _cut(text: str) -> str:
    if text.strip() in {"[", "]", "{", "}"}:
        return "the line ends in the middle of a record; the file looks like one JSON value over many lines"
    if text.lstrip().startswith("["):
        return (
            "the line ends in the middle of an array; the file looks like one JSON array: a JSON Lines file has a "
            "record on each line, without brackets around them and commas between"
        )
    return "the line ends in the middle of a record; a record stands on one line, its line feeds written as \\n"


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _wrong(at: int, reason: str) -> RefusalError:
    return RefusalError(at, f"not JSON: {reason}", "jsonl")
