"""Conversations whose messages are plain strings: Claude's format, of one turn or many, with or without a system text.

Has a quick and a strict reader that agree (see pairs). The rules of turns stand here; the other conversation format
borrows them. Knows nothing of files and limits.
"""

from collections.abc import Sequence
from typing import Final, Literal, cast

import msgspec

from outcrop.datasets.examples import Conversation
from outcrop.datasets.faults import RefusalError
from outcrop.datasets.located import Node
from outcrop.datasets.members import expect, only, required, strings, text
from outcrop.records import Turn

MESSAGES_FORM: Final = (
    '{"system": "<system message>", "messages": [{"role": "user", "content": "<user query>"}, '
    '{"role": "assistant", "content": "<expected generated text>"}]}'
)


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    messages: list[_Message]
    system: str | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(_Line)


def quick(line: bytes) -> Conversation | None:
    """The record of a good line; raises msgspec.DecodeError or answers None for any other."""
    found = _DECODER.decode(line)
    given = isinstance(found.system, str)
    if found.system == "" or strings(line) != 2 * given + 1 + 4 * len(found.messages):
        return None
    turns = [(message.role, message.content) for message in found.messages]
    return conversation(found.system if isinstance(found.system, str) else None, turns)


def conversation(system: str | None, turns: Sequence[tuple[str, str]]) -> Conversation | None:
    """A conversation whose turns keep the rules; None where they do not."""
    if len(turns) < 2 or len(turns) % 2:
        return None
    if any(role != expected_role(place) or not content for place, (role, content) in enumerate(turns)):
        return None
    return Conversation(system, tuple(Turn(expected_role(place), content) for place, (_, content) in enumerate(turns)))


def expected_role(place: int) -> Literal["user", "assistant"]:
    """Who speaks at a place, from 0: the user first, then in turn."""
    return "assistant" if place % 2 else "user"


def strict(node: Node) -> Conversation:
    """The record of a line; raises RefusalError."""
    expect(node, "object", "the line")
    only(node, ("system", "messages"))
    system = text(node, "system") if node.get("system") is not None else None
    messages = required(node, "messages", "array")
    turns = []
    for place, message in enumerate(messages.items):
        where = f"messages[{place}]"
        expect(message, "object", where)
        only(message, ("role", "content"), where + ".")
        role = speaker(message, place)
        turns.append(Turn(role, text(message, "content", where + ".")))
    ended(messages)
    return Conversation(system, tuple(turns))


def speaker(message: Node, place: int) -> Literal["user", "assistant"]:
    """The role of the message at a place (from 0), which must be the one whose turn it is."""
    role = required(message, "role", "string", f"messages[{place}].")
    expected = expected_role(place)
    if role.text == expected:
        return expected
    if role.text == "system":
        reason = "a system text stands in the record's member system, not among its messages"
    elif role.text not in {"user", "assistant"}:
        reason = f"messages[{place}].role must be user or assistant, not {role.text!r}"
    elif place == 0:
        reason = "the first message must be the user's"
    else:
        reason = f"messages[{place}] is the {role.text}'s again; user and assistant take turns"
    raise RefusalError(role.start, reason)


def ended(messages: Node) -> None:
    """There must be two messages at least, and the last one the assistant's; roles were seen to take turns."""
    count = len(messages.items)
    if count < 2:
        held = "one message" if count else "no message"
        raise RefusalError(
            messages.start, f"messages holds {held}; it needs two at least: the user's and the assistant's"
        )
    if count % 2:
        last = messages.items[-1]
        reason = "the last message must be the assistant's, because that is what is learnt"
        raise RefusalError(cast(Node, last.get("role")).start, reason)
