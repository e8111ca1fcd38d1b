"""Cohere Command and Command Light: prompt, sampling settings, one to five generations.

What cannot be done (logit_bias, likelihoods while streaming) is refused by its name and never ignored.
"""

import uuid
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt
from outcrop.serve.dialects.family import Answer, Asked, Chat, Document, Family, Speaker, Terms, given, settings

NAME: Final = "cohere-command"

REASONS: Final = {"stop": "COMPLETE", "length": "MAX_TOKENS", "stop_sequence": "COMPLETE"}


def ask(document: Document, _terms: Terms) -> Asked:
    """The prompt as it stands, with Cohere's defaults."""
    config = settings(NAME, document)
    truncate, likelihoods = config["truncate"], config["return_likelihoods"]
    if config["logit_bias"]:
        raise ValidationException(
            "logit_bias is not available: it names tokens of Cohere's tokenizer, which is not that of these weights. "
            "Leave logit_bias out."
        )
    prompt = Prompt(
        text=document["prompt"],
        max_tokens=int(config["max_tokens"]),
        temperature=float(config["temperature"]),
        # 0 and 1 both mean that every token may be chosen, unlike in the other families.
        top_p=float(config["p"]) or 1.0,
        top_k=int(config["k"]),
        stop=tuple(config["stop_sequences"]),
        truncate=None if truncate == "NONE" else truncate,
        likelihoods=None if likelihoods == "NONE" else likelihoods,
    )
    return Asked(prompt, generations=int(config["num_generations"]), streamed=config["stream"], text=document["prompt"])


def answer(asked: Asked, answers: Sequence[Answer]) -> Document:
    """The whole answer, with the prompt in it."""
    generations = [
        {
            "finish_reason": REASONS[each.last.finish or "stop"],
            "id": str(uuid.uuid4()),
            **(_likelihoods(each.last) if asked.prompt.likelihoods else {}),
            "text": each.text,
        }
        for each in answers
    ]
    return {"generations": generations, "id": str(uuid.uuid4()), "prompt": asked.text}


def _likelihoods(last: Piece) -> Document:
    """Logs of probabilities: each token's, and their mean."""
    tokens = [{"token": text, "likelihood": log} for text, log in last.likelihoods]
    mean = {"likelihood": fmean(log for _, log in last.likelihoods)} if tokens else {}
    return {**mean, "token_likelihoods": tokens}


def speak(asked: Asked) -> Speaker:
    """One chunk a piece where the request says "stream": true, else the whole answer at the end."""
    if asked.prompt.likelihoods is not None:
        raise ValidationException(
            "return_likelihoods is not available while streaming. Call InvokeModel or leave return_likelihoods out."
        )
    return _pieces(asked) if asked.streamed else _whole(asked)


def _pieces(asked: Asked) -> Speaker:
    done = 0

    def say(piece: Piece) -> list[Document]:
        nonlocal done
        which: Document = {"index": done} if asked.generations > 1 else {}
        chunks: list[Document] = [{"text": piece.text, "is_finished": False, **which}] if piece.text else []
        if piece.finish is not None:
            chunks.append({"finish_reason": REASONS[piece.finish], "is_finished": True, **which})
            done += 1
        return chunks

    return say


def _whole(asked: Asked) -> Speaker:
    texts: list[str] = []
    answers: list[Answer] = []

    def say(piece: Piece) -> list[Document]:
        texts.append(piece.text)
        if piece.finish is None:
            return []
        answers.append(Answer("".join(texts), piece))
        texts.clear()
        return [answer(asked, answers)] if len(answers) == asked.generations else []

    return say


def compose(chat: Chat) -> Document:
    """Converse's body."""
    return {
        "prompt": chat.text,
        **given(max_tokens=chat.max_tokens, temperature=chat.temperature, p=chat.top_p, stop_sequences=chat.stops),
    }


def too_long(limit: int, count: str) -> str:
    """As Cohere's own API says it; that Bedrock passes it on so is unverified."""
    return (
        f"too many tokens: total number of tokens in the prompt cannot exceed {limit} - received {count}. Try using a "
        "shorter prompt, or enable prompt truncating."
    )


FAMILY: Final = Family(NAME, ask, answer, speak, compose, too_long)
