"""The two flat formats: a prompt with its completion, and a text of continued pre-training.

Each has two readers that agree: a quick one that answers None where it cannot vouch for a line, and a strict one over
located JSON that either has a record or says what is wrong. Knows nothing of files and limits.
"""

from typing import Final

import msgspec

from outcrop.datasets.examples import Document, Pair
from outcrop.datasets.located import Node
from outcrop.datasets.members import expect, only, strings, text

PAIR_FORM: Final = '{"prompt": "<input text>", "completion": "<output text>"}'
"""As AWS's failure message writes it (facts 5.4)."""

DOCUMENT_FORM: Final = '{"input": "<input text>"}'


class _Pair(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    prompt: str
    completion: str


class _Document(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input: str


_PAIR: Final = msgspec.json.Decoder(_Pair)
_DOCUMENT: Final = msgspec.json.Decoder(_Document)


def quick_pair(line: bytes) -> Pair | None:
    """The record of a good line; raises msgspec.DecodeError or answers None for any other."""
    found = _PAIR.decode(line)
    if not (found.prompt and found.completion) or strings(line) != 4:
        return None
    return Pair(found.prompt, found.completion)


def strict_pair(node: Node) -> Pair:
    """The record of a line; raises RefusalError."""
    expect(node, "object", "the line")
    only(node, ("prompt", "completion"))
    return Pair(text(node, "prompt"), text(node, "completion"))


def quick_document(line: bytes) -> Document | None:
    """The record of a good line; raises msgspec.DecodeError or answers None for any other."""
    found = _DOCUMENT.decode(line)
    return Document(found.input) if found.input and strings(line) == 2 else None


def strict_document(node: Node) -> Document:
    """The record of a line; raises RefusalError."""
    expect(node, "object", "the line")
    only(node, ("input",))
    return Document(text(node, "input"))
