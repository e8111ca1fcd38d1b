"""The format bedrock-conversation-2024: conversations whose texts stand in blocks, as Converse writes them.

Nova and Llama 3.2 and 3.3 take it. Has a quick and a strict reader that agree (see pairs). Blocks of anything but text
are refused by their names: no row of the catalogue that takes this format sees pictures. Members that the format does
not know are left out of the record, as AWS's own validator does it (facts 3.2), and reported.
"""

from typing import Final

import msgspec

from outcrop.datasets.examples import Conversation
from outcrop.datasets.faults import RefusalError
from outcrop.datasets.located import Node
from outcrop.datasets.members import expect, others, required, strings, text
from outcrop.datasets.messages import conversation, ended, speaker
from outcrop.records import Turn

VERSION: Final = "bedrock-conversation-2024"
MISPRINT: Final = "bedrock-conversion-2024"
"""What one page of AWS's guide writes (facts 3.2)."""

CONVERSATION_FORM: Final = (
    f'{{"schemaVersion": "{VERSION}", "system": [{{"text": "<system message>"}}], '
    '"messages": [{"role": "user", "content": [{"text": "<user query>"}]}, '
    '{"role": "assistant", "content": [{"text": "<expected generated text>"}]}]}'
)


class _Text(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Message(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: list[_Text]


class _Line(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    schemaVersion: str  # noqa: N815 - AWS's name
    messages: list[_Message]
    system: list[_Text] | msgspec.UnsetType = msgspec.UNSET


_DECODER: Final = msgspec.json.Decoder(_Line)


def quick(line: bytes) -> Conversation | None:
    """The record of a good line of known members; raises msgspec.DecodeError or answers None for any other."""
    found = _DECODER.decode(line)
    if found.schemaVersion != VERSION:
        return None
    expected, system = 3, None
    if isinstance(found.system, list):
        if len(found.system) != 1 or not found.system[0].text:
            return None
        expected, system = 6, found.system[0].text
    if any(not block.text for message in found.messages for block in message.content):
        return None
    expected += sum(4 + 2 * len(message.content) - 1 for message in found.messages)
    if strings(line) != expected:
        return None
    return conversation(
        system, [(message.role, "".join(block.text for block in message.content)) for message in found.messages]
    )


def strict(node: Node) -> tuple[Conversation, tuple[str, ...]]:
    """The record of a line, and the names of members that are no part of it; raises RefusalError."""
    expect(node, "object", "the line")
    extra = list(others(node, ("schemaVersion", "system", "messages")))
    _version(required(node, "schemaVersion", "string"))
    system = _system(node)
    messages = required(node, "messages", "array")
    turns = []
    for place, message in enumerate(messages.items):
        where = f"messages[{place}]"
        expect(message, "object", where)
        extra += others(message, ("role", "content"), where + ".")
        role = speaker(message, place)
        blocks = required(message, "content", "array", where + ".")
        if not blocks.items:
            raise RefusalError(blocks.start, f"{where}.content is empty: it needs one block of text at least")
        turns.append(
            Turn(role, "".join(_text(block, f"{where}.content[{at}]") for at, block in enumerate(blocks.items)))
        )
    ended(messages)
    return Conversation(system, tuple(turns)), tuple(dict.fromkeys(member.name for member in extra))


def _version(node: Node) -> None:
    if node.text == VERSION:
        return
    hint = " (one page of AWS's guide misprints it this way)" if node.text == MISPRINT else ""
    raise RefusalError(node.start, f"schemaVersion must be {VERSION}, not {node.text!r}{hint}")


def _system(node: Node) -> str | None:
    found = node.get("system")
    if found is None:
        return None
    if found.kind == "string":
        raise RefusalError(found.start, 'system must be an array of one block, as in [{"text": "…"}], not a string')
    blocks = expect(found, "array", "system").items
    if len(blocks) != 1:
        raise RefusalError(
            found.start,
            f"system must hold exactly one block of text, not {len(blocks)}; without a system text, leave it out",
        )
    return _text(blocks[0], "system[0]")


def _text(block: Node, where: str) -> str:
    expect(block, "object", where)
    for member in block.members:
        if member.name in {"image", "video", "document", "audio"}:
            raise RefusalError(member.start, f"{where} holds {_article(member.name)}; this model takes text only")
        if member.name != "text":
            raise RefusalError(member.start, f"unknown member {where}.{member.name}; a block of text holds text alone")
    return text(block, "text", where + ".")


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
