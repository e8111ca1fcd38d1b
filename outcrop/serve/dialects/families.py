"""Every family that a catalogue row's `body` may name."""

from collections.abc import Mapping
from typing import Final

from outcrop.errors import InternalServerException
from outcrop.serve.dialects import claude, cohere, llama, nova, titan
from outcrop.serve.dialects.family import Family

FAMILIES: Final[Mapping[str, Family]] = {
    titan.NAME: titan.FAMILY,
    cohere.NAME: cohere.FAMILY,
    llama.NAME: llama.FAMILY,
    claude.NAME: claude.FAMILY,
    nova.NAME: nova.FAMILY,
}


def family(name: str) -> Family:
    """The family of a catalogue row's `body`."""
    found = FAMILIES.get(name)
    if found is None:
        raise InternalServerException(f"the catalogue names the body family {name!r}, which nobody wrote")
    return found
