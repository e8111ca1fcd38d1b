"""What an object of a dataset's line must hold, told with the place of what is wrong. Knows located JSON, no format."""

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from outcrop.datasets.faults import RefusalError
from outcrop.datasets.located import Member, Node

STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_KINDS: Final = {
    "string": "a string",
    "object": "an object",
    "array": "an array",
    "number": "a number",
    "boolean": "a boolean",
    "null": "null",
}


def strings(line: bytes) -> int:
    """How many JSON strings a line holds; it must be JSON.

    A decoder that knows the members takes the last one where a member stands twice. Counting all strings shows that
    nothing but the expected ones was there.
    """
    return len(STRING.findall(line)) if b"\\" in line else line.count(b'"') // 2


def expect(node: Node, kind: str, what: str) -> Node:
    """The node, if it is of this kind; `what` is how messages call it."""
    if node.kind != kind:
        raise RefusalError(node.start, f"{what} must be {_KINDS[kind]}, not {_KINDS[node.kind]}")
    return node


def required(node: Node, name: str, kind: str, where: str = "") -> Node:
    """A member that must be there; `where` is the way to its object, with its dot."""
    found = node.get(name)
    if found is None:
        raise RefusalError(node.start, f"the member {where}{name} is missing")
    return expect(found, kind, where + name)


def text(node: Node, name: str, where: str = "") -> str:
    """A member that must be there and be a string of at least one character."""
    found = required(node, name, "string", where)
    if not found.text:
        raise RefusalError(found.start, f"{where}{name} is empty: write its text, or leave the record out")
    return found.text


def only(node: Node, allowed: tuple[str, ...], where: str = "") -> None:
    """No other members than these."""
    for member in node.members:
        if member.name not in allowed:
            listed = " and ".join(allowed)
            raise RefusalError(
                member.start,
                f"unknown member {where}{member.name}{_meant(member.name, allowed)}; only {listed} may stand here",
            )


def others(node: Node, known: tuple[str, ...], where: str = "") -> tuple[Member, ...]:
    """Members beside the known ones, for formats that allow them; a misspelling of a known one is none of them."""
    found = tuple(member for member in node.members if member.name not in known)
    for member in found:
        hint = _meant(member.name, known)
        if hint:
            raise RefusalError(member.start, f"unknown member {where}{member.name}{hint}")
    return found


@lru_cache(maxsize=256)  # in a file of another format every line asks the same
def _meant(name: str, known: tuple[str, ...]) -> str:
    lower = {each.lower(): each for each in known}
    close = get_close_matches(name.lower(), lower, n=1, cutoff=0.8)
    return f" (is {lower[close[0]]} meant?)" if close else ""
