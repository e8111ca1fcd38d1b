"""What the tests of the dialects share: a request read as a model would, and what a refusal says between its frame."""

import json
from typing import Any

import pytest

from outcrop.errors import ValidationException
from outcrop.records import Piece
from outcrop.serve.dialects.families import family
from outcrop.serve.dialects.family import Asked, Chat, Document, Terms, read, understand

FRAME, END = "Malformed input request", ", please reformat your input and try again."
PIECES = [Piece("he", None, 7, 1), Piece("llo", None, 7, 2), Piece("", "stop", 7, 3)]


def ask(name: str, document: Any, *, largest: int = 4096, model: str = "", strict: bool = False) -> Asked:
    """What a body asks for, in one family."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read(family(name), body, Terms(largest, model, strict))


def refusal(name: str, document: Any, **options: Any) -> str:
    """What a refused body is told."""
    with pytest.raises(ValidationException) as caught:
        ask(name, document, **options)
    return caught.value.message


def malformed(name: str, document: Any, **options: Any) -> str:
    """What a body that breaks the schema is told, without the frame around it."""
    message = refusal(name, document, **options)
    assert message.startswith(FRAME)
    assert message.endswith(END)
    return message.removeprefix(FRAME).removesuffix(END).removeprefix(": ")


def spoken(name: str, asked: Asked, pieces: list[Piece]) -> list[Document]:
    """All chunks of a stream."""
    speak = family(name).speak(asked)
    return [chunk for piece in pieces for chunk in speak(piece)]


def composed(name: str, chat: Chat, **options: Any) -> Asked:
    """What Converse's body for a conversation asks for: it must keep the family's own schema."""
    return understand(family(name), family(name).compose(chat), Terms(options.get("largest", 4096)))
