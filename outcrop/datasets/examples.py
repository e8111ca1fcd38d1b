"""What a line of a dataset becomes: a prompt with its completion, a text, or a conversation.

Plain values. Knows the turn of a conversation as inference knows it, and nothing of JSON, files or models.
"""

from dataclasses import dataclass

from outcrop.records import Turn


@dataclass(frozen=True, slots=True)
class Pair:
    """One example of the prompt/completion format."""

    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Document:
    """One text of continued pre-training."""

    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One conversation of either message format: the user speaks first, roles alternate, the assistant ends it."""

    system: str | None
    turns: tuple[Turn, ...]


Record = Pair | Document | Conversation


def characters(record: Record) -> int:
    """How long all texts of a record are together."""
    match record:
        case Pair():
            return len(record.prompt) + len(record.completion)
        case Document():
            return len(record.text)
        case Conversation():
            return len(record.system or "") + sum(len(turn.text) for turn in record.turns)


def opening(record: Record) -> str:
    """The text by which a record is shown to people: what comes first in it, uncut."""
    match record:
        case Pair():
            return record.prompt
        case Document():
            return record.text
        case Conversation():
            return record.turns[0].text
