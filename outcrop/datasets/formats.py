"""What one line of a dataset must be: bytes in, a record or a fault out.

Knows JSON and the documents' formats; nothing of files, limits, tokenizers or models. Strict on purpose: what is
accepted here is trained on, so nothing is repaired, skipped or guessed.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

import msgspec

from outcrop.datasets.examples import Conversation, Document, Pair, Record
from outcrop.records import Turn

__all__ = ["FORMATS", "Conversation", "Document", "Fault", "Pair", "Record", "form", "parse", "snippet"]

FORMATS: Final = ("prompt-completion", "text", "messages", "conversation")

BOM: Final = b"\xef\xbb\xbf"
SNIPPET: Final = 80
"""Characters of the line that a fault shows around its place."""

PAIR_FORM: Final = '{"prompt": "<input text>", "completion": "<output text>"}'
"""As AWS's failure message writes it (facts 5.4)."""

_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"')
_LONE_SURROGATE: Final = re.compile(
    r"\\(?:\\|u(?P<high>[dD][89abAB][0-9a-fA-F]{2})(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u(?P<alone>[dD][c-fC-F]))"
)
_AT_BYTE: Final = re.compile(r" \(byte (\d+)\)$")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line, or the file as a whole, is refused."""

    line: int
    """From 1; 0: the file as a whole."""
    column: int
    """In characters, from 1; 0: the line as a whole."""
    reason: str
    snippet: str
    """The text around the place, at most SNIPPET characters."""
    kind: str = "shape"
    """jsonl (no JSON text), shape (not the format's members), input, output, total (an AWS quota), context (longer than
    the weights take), line (too many bytes to read) or file (size and number of records)."""
    measure: int = 0
    """For input, output and total: the token count as AWS counts it."""


class _Wire(msgspec.Struct, forbid_unknown_fields=True):
    prompt: str
    completion: str


_DECODER: Final = msgspec.json.Decoder(_Wire)


def parse_pair(line: bytes, number: int) -> Pair | Fault:
    """Read one line of a prompt/completion file, without its line feed; `number` counts from 1.

    Tolerated: a byte order mark on the first line, a carriage return at a line's end. Refused, each with its column:
    blank lines, bytes that are not UTF-8, anything but an object with exactly these two members once each, values that
    are not strings, empty strings, escapes of half a surrogate pair.
    """
    if number == 1:
        line = line.removeprefix(BOM)
    line = line.removesuffix(b"\r")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(line, number, error.start)
    if not text.strip():
        return Fault(number, 0, "the line is blank; every line must hold one record", "", "jsonl")
    try:
        wire = _DECODER.decode(line)
    except msgspec.ValidationError as error:
        return _misshapen(line, number, str(error))
    except msgspec.DecodeError as error:
        return _malformed(line, text, number, str(error))
    return _inspect(line, number, wire)


def snippet(text: str, column: int = 1) -> str:
    """At most SNIPPET characters of a line around a column (from 1), with … where something is left out."""
    start = max(0, min(column - 1 - SNIPPET // 4, len(text) - SNIPPET))
    end = start + SNIPPET
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def _inspect(line: bytes, number: int, wire: _Wire) -> Pair | Fault:
    # All values are strings here, so a valid line holds exactly four JSON strings: more means a member came twice, of
    # which the decoder would silently take the last.
    strings = list(_STRING.finditer(line))
    if len(strings) > 4:
        keys: set[object] = set()
        for match in strings[::2]:
            key = msgspec.json.decode(match.group())
            if key in keys:
                return _fault(line, number, match.start(), f"the member {key} stands twice")
            keys.add(key)
    for key, value in (("prompt", wire.prompt), ("completion", wire.completion)):
        if not value:
            return _fault(line, number, _value_start(strings, key), f"{key} is empty")
    return Pair(wire.prompt, wire.completion)


def _value_start(strings: list[re.Match[bytes]], key: str) -> int:
    for name, value in zip(strings[::2], strings[1::2], strict=False):
        if msgspec.json.decode(name.group()) == key:
            return value.start()
    return 0


def _misshapen(line: bytes, number: int, message: str) -> Fault:
    """The line is JSON, but not the object that the format asks for."""
    member = re.search(r"at `\$\.(\w+)`$", message)
    unknown = re.search(r"unknown field `(.*)`$", message)
    missing = re.search(r"required field `(.*)`$", message)
    if member:
        key = member.group(1)
        found = re.search(r"got `(\w+)`", message)
        reason = f"{key} must be a string, not {found.group(1) if found else 'something else'}"
        return _fault(line, number, _after_key(line, key), reason)
    if unknown:
        reason = f"unknown member {unknown.group(1)}; only prompt and completion may stand here"
        return _fault(line, number, _key_start(line, unknown.group(1)), reason)
    if missing:
        return _fault(line, number, 0, f"the member {missing.group(1)} is missing")
    found = re.search(r"got `(\w+)`", message)
    return _fault(line, number, 0, f"the line must be an object, not {found.group(1) if found else 'something else'}")


def _malformed(line: bytes, text: str, number: int, message: str) -> Fault:
    """The line is not JSON at all."""
    lone = next((match for match in _LONE_SURROGATE.finditer(text) if _is_lone(match)), None)
    if lone is not None:
        reason = f"{lone.group()[:6]} is half of a surrogate pair, which is no character"
        if lone.group("alone"):
            reason = f"{text[lone.start() : lone.start() + 6]} is half of a surrogate pair, which is no character"
        return Fault(number, lone.start() + 1, reason, snippet(text, lone.start() + 1), "jsonl")
    place = _AT_BYTE.search(message)
    start = min(int(place.group(1)), len(line)) if place else len(line)
    reason = "the line ends in the middle of a record" if not place else _AT_BYTE.sub("", message)
    if start < len(line) and line[start] < 0x20:
        reason = f"control character U+{line[start]:04X} must be written as an escape"
    return _fault(line, number, start, f"not JSON: {reason.removeprefix('JSON is malformed: ')}", "jsonl")


def _is_lone(match: re.Match[str]) -> bool:
    return bool(match.group("alone")) or bool(match.group("high") and not match.group("low"))


def _not_utf8(line: bytes, number: int, start: int) -> Fault:
    column = len(line[:start].decode("utf-8")) + 1
    reason = f"byte 0x{line[start]:02x} is not UTF-8"
    if number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        reason = "the file is UTF-16; it must be UTF-8"
    return Fault(number, column, reason, snippet(line.decode("utf-8", errors="replace"), column), "jsonl")


def _fault(line: bytes, number: int, start: int, reason: str, kind: str = "shape") -> Fault:
    column = len(line[:start].decode("utf-8", errors="ignore")) + 1
    return Fault(number, column, reason, snippet(line.decode("utf-8"), column), kind)


def _key_start(line: bytes, key: str) -> int:
    """Where a member's name stands, as well as strings alone can tell; 0 where it cannot be seen."""
    for match in _STRING.finditer(line):
        follows = line[match.end() :].lstrip()[:1]
        if follows == b":" and _string(match.group()) == key:
            return match.start()
    return 0


def _string(quoted: bytes) -> str | None:
    """The value of a JSON string; None where it is broken, which may be so behind the first fault of a line."""
    try:
        return msgspec.json.decode(quoted, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _after_key(line: bytes, key: str) -> int:
    start = _key_start(line, key)
    match = _STRING.match(line, start)
    if match is None:
        return start
    colon = line.index(b":", match.end()) + 1
    return colon + len(line[colon:]) - len(line[colon:].lstrip())


def form(format: str) -> str:
    """The shape of a format's lines as AWS's failure message quotes it."""
    return _FORMS[format]


_FORMS: Final = {
    "prompt-completion": PAIR_FORM,
    "text": '{"input": "<input text>"}',
    "messages": '{"system": "<system message>", "messages": [{"role": "user", "content": "<user query>"}, '
    '{"role": "assistant", "content": "<expected generated text>"}]}',
    "conversation": '{"schemaVersion": "bedrock-conversation-2024", "system": [{"text": "<system message>"}], '
    '"messages": [{"role": "user", "content": [{"text": "<user query>"}]}, '
    '{"role": "assistant", "content": [{"text": "<expected generated text>"}]}]}',
}


def parse(format: str, line: bytes, number: int) -> Record | Fault:
    """Read one line of a dataset of this format, without its line feed; `number` counts from 1."""
    if format == "prompt-completion":
        return parse_pair(line, number)
    try:
        found = json.loads(line.decode("utf-8"))
        if format == "text":
            return Document(found["input"])
        turns = [(turn["role"], turn["content"]) for turn in found["messages"]]
        if format == "conversation":
            turns = [(role, "".join(part["text"] for part in content)) for role, content in turns]
            system = "".join(part["text"] for part in found["system"]) if "system" in found else None
        else:
            system = found.get("system")
        return Conversation(system, tuple(Turn(role, text) for role, text in turns))
    except (ValueError, KeyError, TypeError) as error:
        return Fault(number, 0, str(error), snippet(line.decode("utf-8", errors="replace")), "shape")
