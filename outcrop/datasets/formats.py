"""What one line of a dataset must be: bytes in, a record or a fault out, for every format by its name.

Knows the formats; nothing of files, limits, tokenizers or models. Strict on purpose: what is accepted here is trained
on, so nothing is repaired or guessed. This file is the definition: quicker ways through a file answer the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from outcrop.datasets import conversations, messages, pairs
from outcrop.datasets.examples import Conversation, Document, Pair, Record
from outcrop.datasets.faults import SNIPPET, Fault, RefusalError, mark, snippet
from outcrop.datasets.located import Node, read

__all__ = ["FORMATS", "SNIPPET", "Conversation", "Document", "Fault", "Pair", "Record", "form", "parse", "snippet"]

BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Format:
    """A format of lines: what AWS calls its shape, and its two readers."""

    form: str
    quick: Callable[[bytes], Record | None]
    """Reads good lines; None or msgspec.DecodeError where it cannot vouch for one."""
    strict: Callable[[Node], tuple[Record, tuple[str, ...]]]
    """Reads any line: its record and the members that it left out, or RefusalError."""


_FORMATS: Final[Mapping[str, Format]] = {
    "prompt-completion": Format(pairs.PAIR_FORM, pairs.quick_pair, lambda node: (pairs.strict_pair(node), ())),
    "text": Format(pairs.DOCUMENT_FORM, pairs.quick_document, lambda node: (pairs.strict_document(node), ())),
    "messages": Format(messages.MESSAGES_FORM, messages.quick, lambda node: (messages.strict(node), ())),
    "conversation": Format(conversations.CONVERSATION_FORM, conversations.quick, conversations.strict),
}

FORMATS: Final = tuple(_FORMATS)


def form(format: str) -> str:
    """The shape of a format's lines as AWS's failure message quotes it."""
    return _FORMATS[format].form


def parse(format: str, line: bytes, number: int) -> Record | Fault:
    """Read one line of a dataset of this format, without its line feed; `number` counts from 1.

    Tolerated: a byte order mark on the first line, a carriage return at a line's end, and in conversations members
    that the format does not know. docs/reference/formats.md lists what is refused.
    """
    found = examine(format, line, number)
    return found if isinstance(found, Fault) else found[0]


def examine(format: str, line: bytes, number: int) -> tuple[Record, tuple[str, ...]] | Fault:
    """As `parse`, with the names of members that are no part of the record."""
    rules = _FORMATS[format]
    line = line.removeprefix(BOM).removesuffix(b"\r") if number == 1 else line.removesuffix(b"\r")
    try:
        record = rules.quick(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        record = None  # the strict reader finds out why, and may yet find the line good
    return strictly(format, line, number) if record is None else (record, ())


def strictly(format: str, line: bytes, number: int) -> tuple[Record, tuple[str, ...]] | Fault:
    """As `examine` without its short way, of a line that has lost its mark and carriage return."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(line, number, error.start)
    if not text.strip():
        return Fault(number, 0, "the line is blank; every line must hold one record: take it out", "", "jsonl")
    try:
        node = read(text)
    except RefusalError as refusal:
        return refusal.fault(text, number)
    try:
        return _FORMATS[format].strict(node)
    except RefusalError as refusal:
        kin = _kin(node)
        if kin is None or kin == format:
            return refusal.fault(text, number)
        reason = f"this line looks like {_called(kin)}; this model takes lines like {form(format)}"
        return RefusalError(node.start, reason).fault(text, number)


def _kin(node: Node) -> str | None:
    """The format that a line's author had in mind, where its members show it."""
    names = {member.name for member in node.members}
    turns = node.get("messages")
    if turns is not None and turns.kind == "array":
        content = turns.items[0].get("content") if turns.items else None
        blocks = content is not None and content.kind == "array"
        return "conversation" if blocks or "schemaVersion" in names else "messages"
    if names & {"image-ref", "caption"}:
        return "image-ref and caption"
    if {"input", "output"} <= names:
        return "input and output"
    return {
        frozenset({"prompt", "completion"}): "prompt-completion",
        frozenset({"input"}): "text",
    }.get(frozenset(names))


def _called(kin: str) -> str:
    match kin:
        case "prompt-completion":
            return "prompt/completion"
        case "text":
            return 'continued pre-training data ({"input": …})'
        case "messages":
            return "messages with plain strings (Claude's format)"
        case "conversation":
            return f"conversations in blocks ({conversations.VERSION})"
        case "input and output":
            return "input/output, the members of the 2023 preview"
        case _:
            return "a record of an image model"


def _not_utf8(line: bytes, number: int, start: int) -> Fault:
    column = len(line[:start].decode("utf-8")) + 1
    reason = f"byte 0x{line[start]:02x} is not UTF-8: save the file as UTF-8"
    if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        reason = "the file is UTF-16; it must be UTF-8"
    shown = line.decode("utf-8", errors="replace")
    return Fault(number, column, reason, snippet(shown, column), "jsonl", mark=mark(shown, column))
