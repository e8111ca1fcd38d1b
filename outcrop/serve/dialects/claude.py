"""Anthropic Claude's Messages API as Bedrock carries it: messages, system, sampling settings.

The schema knows shapes; what must hold between messages is said here in Anthropic's words. Tools and images are refused
by their names: the weights behind this model read and write text.
"""

import re
import secrets
import string
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from typing import Any, Final

from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects.family import (
    BLOCKS,
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

NAME: Final = "claude-messages"
VERSION: Final = "bedrock-2023-05-31"

_ALPHABET: Final = string.ascii_letters + string.digits


def ask(document: Document, terms: Terms) -> Asked:
    """The turns and the system prompt, with Claude's defaults."""
    model = _name(terms.model)
    for name in ("tools", "tool_choice", "anthropic_beta"):
        if document.get(name):
            raise ValidationException(
                f"{name}: not available for this model, which reads and writes text only. Leave {name} out."
            )
    config = settings(NAME, document)
    if config["max_tokens"] > terms.max_tokens:
        raise ValidationException(
            f"max_tokens: {config['max_tokens']} > {terms.max_tokens}, which is the maximum allowed number of output "
            f"tokens for {model}"
        )
    temperature, top_p = nucleus(config["temperature"], config["top_p"])
    prompt = Prompt(
        max_tokens=int(config["max_tokens"]),
        top_k=int(config["top_k"]),
        stop=tuple(config["stop_sequences"]),
        turns=_turns(document["messages"]),
        system=_text(document["system"], "system") if document.get("system") else None,
        temperature=temperature,
        top_p=top_p,
    )
    return Asked(prompt, model=model)


def _name(model_id: str) -> str:
    """What Anthropic calls the model of Bedrock's id: without provider and version; an id of nobody's but the user's
    names itself.
    """
    return re.sub(r"^anthropic\.(.+?)(-v\d+(:\d+)*)?$", r"\1", model_id)


def _turns(messages: Sequence[Mapping[str, Any]]) -> tuple[Turn, ...]:
    if not messages:
        raise ValidationException("messages: at least one message is required")
    if messages[0]["role"] != "user":
        raise ValidationException('messages: first message must use the "user" role')
    for before, after in pairwise(messages):
        if before["role"] == after["role"]:
            raise ValidationException(
                'messages: roles must alternate between "user" and "assistant", but found multiple '
                f'"{after["role"]}" roles in a row'
            )
    turns = tuple(
        Turn(each["role"], _text(each["content"], f"messages.{number}")) for number, each in enumerate(messages)
    )
    if turns[-1].role == "assistant" and turns[-1].text != turns[-1].text.rstrip():
        raise ValidationException("messages: final assistant content cannot end with trailing whitespace")
    return turns


def _text(content: str | Sequence[Mapping[str, Any]], place: str) -> str:
    """The text of a message or of the system prompt, which both may be a string or blocks."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    noun = place.partition(".")[0]
    for number, block in enumerate(blocks):
        if block["type"] != "text":
            raise ValidationException(
                f"{place}.content.{number}: {block['type']} blocks are not available for this model, which reads text "
                "only"
            )
        if not block["text"]:
            raise ValidationException(f"{noun}: text content blocks must be non-empty")
        if not block["text"].strip():
            raise ValidationException(f"{noun}: text content blocks must contain non-whitespace text")
    if not blocks:
        raise ValidationException(f"{place}: all messages must have non-empty content")
    return BLOCKS.join(block["text"] for block in blocks)


def answer(asked: Asked, answers: Sequence[Answer]) -> Document:
    """The whole message."""
    text, last = answers[0].text, answers[0].last
    content = [{"type": "text", "text": text}] if text else []
    return _message(asked.model, content, last, last.completion_tokens)


def _message(model: str, content: list[Document], last: Piece, made: int) -> Document:
    return {
        "id": "msg_bdrk_" + "".join(secrets.choice(_ALPHABET) for _ in range(24)),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": TURN_REASONS[last.finish] if last.finish else None,
        "stop_sequence": last.stopped_by,
        "usage": {"input_tokens": last.prompt_tokens, "output_tokens": made},
    }


def speak(asked: Asked) -> Speaker:
    """Anthropic's events: the message and its one block begin with the first piece and end with the last."""
    numbers = count()

    def say(piece: Piece) -> list[Document]:
        events: list[Document] = []
        if next(numbers) == 0:
            opening = Piece("", prompt_tokens=piece.prompt_tokens)
            message = _message(asked.model, [], opening, piece.completion_tokens)
            block = {"type": "text", "text": ""}
            events.append({"type": "message_start", "message": message})
            events.append({"type": "content_block_start", "index": 0, "content_block": block})
        if piece.text:
            delta = {"type": "text_delta", "text": piece.text}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        if piece.finish is not None:
            end = {"stop_reason": TURN_REASONS[piece.finish], "stop_sequence": piece.stopped_by}
            usage = {"output_tokens": piece.completion_tokens}
            events.append({"type": "content_block_stop", "index": 0})
            events.append({"type": "message_delta", "delta": end, "usage": usage})
            events.append({"type": "message_stop"})
        return events

    return say


def compose(chat: Chat) -> Document:
    """Converse's body."""
    return {
        "anthropic_version": VERSION,
        "messages": [{"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in chat.turns],
        **given(
            max_tokens=chat.max_tokens,
            system=chat.system,
            temperature=chat.temperature,
            top_p=chat.top_p,
            stop_sequences=chat.stops,
        ),
    }


def too_long(_limit: int, _count: str) -> str:
    """As Bedrock says it for Claude."""
    return "Input is too long for requested model."


FAMILY: Final = Family(NAME, ask, answer, speak, compose, too_long, prefill=True, told_blank=True)
