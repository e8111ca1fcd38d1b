"""What an engine says, typed: OpenAI's completion and chat answers, whole or an event at a time, and what comes over a
trunk, as our own pieces.

Knows JSON and pieces; nothing of connections.
"""

from typing import Any, Final

from msgspec import Struct
from msgspec.json import Decoder

from outcrop.records import Piece
from outcrop.trunk import Told

FINISHES: Final = {"stop": "stop", "length": "length"}
"""What engines say of an end, in the words of our pieces; any other reason is told as an end of the text."""


class Said(Struct, frozen=True):
    """A chat's message, or what an event adds to it."""

    content: str | None = None


class Usage(Struct, frozen=True):
    """Tokens; engines that count only at the end leave it out before."""

    prompt_tokens: int
    completion_tokens: int


UNTOLD: Final = Usage(0, 0)


class Choice(Struct, frozen=True):
    """One answer of either verb, or what an event adds to it."""

    text: str | None = None
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    """vLLM names a token's number here where a token ended the text; only a text is a stop sequence."""
    logprobs: dict[str, Any] | None = None
    prompt_logprobs: list[dict[str, dict[str, Any]] | None] | None = None

    def said(self) -> str:
        """The text."""
        chat = self.delta or self.message
        return (chat.content if chat else self.text) or ""

    def likelihoods(self) -> tuple[tuple[str, float], ...]:
        """Tokens with the logs of their probabilities, the prompt's first where they were asked for."""
        rows = [each for row in self.prompt_logprobs or () if row for each in row.values()]
        told = self.logprobs or {"tokens": (), "token_logprobs": ()}
        return (
            *((row["decoded_token"], row["logprob"]) for row in rows),
            *zip(told["tokens"], told["token_logprobs"], strict=True),
        )

    def piece(self, usage: Usage | None) -> Piece:
        """A piece in the middle; without counts they are 0."""
        counts = usage or UNTOLD
        return Piece(self.said(), prompt_tokens=counts.prompt_tokens, completion_tokens=counts.completion_tokens)

    def last(self, text: str, usage: Usage) -> Piece:
        """The piece that ends an answer."""
        stopped_by = self.stop_reason if isinstance(self.stop_reason, str) else None
        return Piece(
            text=text,
            finish=FINISHES.get(self.finish_reason or "", "stop") if stopped_by is None else "stop_sequence",
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            stopped_by=stopped_by,
        )


class Answer(Struct, frozen=True):
    """An answer's document, or an event's."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


ANSWERS: Final = Decoder(Answer)


def of_told(told: Told) -> Piece:
    """A piece that came over a trunk."""
    if told.finish is None:
        return Piece(told.text, None, told.prompt_tokens, told.completion_tokens)
    finish = FINISHES.get(told.finish, "stop") if told.stop_reason is None else "stop_sequence"
    return Piece(told.text, finish, told.prompt_tokens, told.completion_tokens, told.stop_reason)
