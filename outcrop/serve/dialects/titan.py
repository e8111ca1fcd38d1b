"""Amazon Titan Text: inputText and textGenerationConfig."""

from collections.abc import Sequence
from typing import Final

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

NAME: Final = "titan-text"

REASONS: Final = {"stop": "FINISH", "length": "LENGTH", "stop_sequence": "STOP_CRITERIA_MET"}


def ask(document: Document, _terms: Terms) -> Asked:
    """The prompt as it stands, with Titan's defaults."""
    config = settings(NAME, document.get("textGenerationConfig", {}), "textGenerationConfig")
    temperature, top_p = nucleus(config["temperature"], config["topP"])
    prompt = Prompt(
        text=document["inputText"],
        max_tokens=int(config["maxTokenCount"]),
        stop=tuple(config["stopSequences"]),
        temperature=temperature,
        top_p=top_p,
    )
    return Asked(prompt)


def answer(_asked: Asked, answers: Sequence[Answer]) -> Document:
    """The whole answer."""
    text, last = answers[0].text, answers[0].last
    result = {
        "tokenCount": last.completion_tokens,
        "outputText": text,
        "completionReason": REASONS[last.finish or "stop"],
    }
    return {"inputTextTokenCount": last.prompt_tokens, "results": [result]}


def speak(_asked: Asked) -> Speaker:
    """Counts and reason are null until the last chunk."""
    return lambda piece: [_chunk(piece)]


def _chunk(piece: Piece) -> Document:
    done = piece.finish is not None
    return {
        "outputText": piece.text,
        "index": 0,
        "totalOutputTextTokenCount": piece.completion_tokens if done else None,
        "completionReason": REASONS[str(piece.finish)] if done else None,
        "inputTextTokenCount": piece.prompt_tokens if done else None,
    }


def compose(chat: Chat) -> Document:
    """Converse's body."""
    config = given(
        temperature=chat.temperature, topP=chat.top_p, maxTokenCount=chat.max_tokens, stopSequences=chat.stops
    )  # fmt: skip
    return {"inputText": chat.text, "textGenerationConfig": config}


def too_long(limit: int, count: str) -> str:
    """As Titan's embeddings say it (facts 7.1)."""
    return f"Too many input tokens. Max input tokens: {limit}, request input token count: {count}"


FAMILY: Final = Family(NAME, ask, answer, speak, compose, too_long, counted=True)
