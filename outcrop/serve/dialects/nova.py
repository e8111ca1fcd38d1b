"""Amazon Nova: messages-v1 with blocks, inferenceConfig under either of its spellings.

Tools, images and their kin are refused by their names: the weights behind this model read and write text.
"""

from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import Any, Final

from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects.family import (
    ALTERNATE,
    BLOCKS,
    FIRST_IS_USER,
    TURN_REASONS,
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

NAME: Final = "nova"

SPELLINGS: Final = {"max_new_tokens": "maxTokens", "top_p": "topP", "top_k": "topK"}
"""AWS's own notebooks send the one, its guide names the other; the schema refuses both at once."""


def ask(document: Document, terms: Terms) -> Asked:
    """The turns and the system prompt, with Nova's defaults."""
    if document.get("toolConfig"):
        raise ValidationException(
            "toolConfig is not available for this model, which reads and writes text only. Leave toolConfig out."
        )
    sent = {SPELLINGS.get(name, name): value for name, value in document.get("inferenceConfig", {}).items()}
    config = settings(NAME, sent, "inferenceConfig")
    system = document.get("system")
    temperature, top_p = nucleus(config["temperature"], config["topP"])
    prompt = Prompt(
        max_tokens=int(config.get("maxTokens", terms.max_tokens)),
        top_k=int(config["topK"]),
        stop=tuple(config["stopSequences"]),
        turns=_turns(document["messages"]),
        system=_text(system, "#/system") if system else None,
        temperature=temperature,
        top_p=top_p,
    )
    return Asked(prompt)


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    """The messages in Converse's order; what Nova itself says to another one is unverified."""
    if messages[0]["role"] != "user":
        raise ValidationException(FIRST_IS_USER)
    if any(before["role"] == after["role"] for before, after in pairwise(messages)):
        raise ValidationException(ALTERNATE)
    return tuple(
        Turn(each["role"], _text(each["content"], f"#/messages/{number}/content"))
        for number, each in enumerate(messages)
    )


def _text(blocks: Sequence[Mapping[str, Any]], place: str) -> str:
    for number, block in enumerate(blocks):
        for kind in block.keys() - {"text"}:
            raise ValidationException(
                f"{place}/{number}/{kind} is not available for this model, which reads and writes text only"
            )
    return BLOCKS.join(block["text"] for block in blocks)


def answer(_asked: Asked, answers: Sequence[Answer]) -> Document:
    """The whole message."""
    text, last = answers[0].text, answers[0].last
    return {
        "output": {"message": {"content": [{"text": text}] if text else [], "role": "assistant"}},
        "stopReason": TURN_REASONS[last.finish or "stop"],
        "usage": _usage(last),
    }


def _usage(last: Piece) -> Document:
    made, read = last.completion_tokens, last.prompt_tokens
    # Nothing is cached between requests here, so the two counts are true.
    return {
        "inputTokens": read,
        "outputTokens": made,
        "totalTokens": read + made,
        "cacheReadInputTokenCount": 0,
        "cacheWriteInputTokenCount": 0,
    }


def speak(_asked: Asked) -> Speaker:
    """Nova's events: each piece is a block of its own, opened by its delta and closed at once."""
    numbers, blocks = count(), count()

    def say(piece: Piece) -> list[Document]:
        events: list[Document] = [{"messageStart": {"role": "assistant"}}] if next(numbers) == 0 else []
        if piece.text:
            index = next(blocks)
            events.append({"contentBlockDelta": {"delta": {"text": piece.text}, "contentBlockIndex": index}})
            events.append({"contentBlockStop": {"contentBlockIndex": index}})
        if piece.finish is not None:
            events.append({"messageStop": {"stopReason": TURN_REASONS[piece.finish]}})
            events.append({"metadata": {"usage": _usage(piece), "metrics": {}, "trace": {}}})
        return events

    return say


def compose(chat: Chat) -> Document:
    """Converse's body."""
    config = given(maxTokens=chat.max_tokens, temperature=chat.temperature, topP=chat.top_p, stopSequences=chat.stops)
    return {
        "messages": [{"role": turn.role, "content": [{"text": turn.text}]} for turn in chat.turns],
        **given(system=[{"text": chat.system}] if chat.system else None),
        "inferenceConfig": config,
    }


def too_long(_limit: int, _count: str) -> str:
    """As captured."""
    return "Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again."


FAMILY: Final = Family(NAME, ask, answer, speak, compose, too_long, prefill=True)
