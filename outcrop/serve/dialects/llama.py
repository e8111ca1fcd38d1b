"""Meta Llama: prompt (the caller applies the chat template), temperature, top_p, max_gen_len."""

from collections.abc import Sequence
from itertools import count
from typing import Final

from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt
from outcrop.serve.dialects.family import (
    Answer,
    Asked,
    Chat,
    Document,
    Family,
    Speaker,
    Terms,
    given,
    nucleus,
    settings,
)

NAME: Final = "llama"

REASONS: Final = {"stop": "stop", "length": "length", "stop_sequence": "stop"}


def ask(document: Document, _terms: Terms) -> Asked:
    """The prompt as it stands, with Llama's defaults."""
    if document.get("images"):
        raise ValidationException("images are not available: this model reads text only. Leave images out.")
    config = settings(NAME, document)
    temperature, top_p = nucleus(config["temperature"], config["top_p"])
    prompt = Prompt(
        text=document["prompt"],
        max_tokens=int(config["max_gen_len"]),
        temperature=temperature,
        top_p=top_p,
    )
    return Asked(prompt)


def answer(_asked: Asked, answers: Sequence[Answer]) -> Document:
    """The whole answer."""
    text, last = answers[0].text, answers[0].last
    return {
        "generation": text,
        "prompt_token_count": last.prompt_tokens,
        "generation_token_count": last.completion_tokens,
        "stop_reason": REASONS[last.finish or "stop"],
    }


def speak(_asked: Asked) -> Speaker:
    """The prompt's count stands in the first chunk alone; the generation's grows; the reason is null until the last."""
    numbers = count()

    def say(piece: Piece) -> list[Document]:
        first = next(numbers) == 0
        return [
            {
                "generation": piece.text,
                "prompt_token_count": piece.prompt_tokens if first else None,
                "generation_token_count": piece.completion_tokens,
                "stop_reason": REASONS[piece.finish] if piece.finish is not None else None,
            }
        ]

    return say


def compose(chat: Chat) -> Document:
    """Converse's body; Llama's own has no stop sequences, Converse's go to the engine beside it."""
    return {
        "prompt": chat.text,
        **given(max_gen_len=chat.max_tokens, temperature=chat.temperature, top_p=chat.top_p),
    }


def too_long(limit: int, _count: str) -> str:
    """As captured: the limit is that of the context, one token of answer included."""
    return f"This model's maximum context length is {limit + 1} tokens. Please reduce the length of the prompt"


FAMILY: Final = Family(NAME, ask, answer, speak, compose, too_long)
