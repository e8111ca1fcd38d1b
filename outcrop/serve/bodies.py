"""Each model family's request and response JSON, to Prompt and from Piece.

A custom model speaks its base model's dialect, so the family is a column of the catalogue. What a family takes is data
(schemas/<family>.json: types, ranges, defaults); what is written here is only what its members mean. Knows nothing of
engines, leases or the wire.
"""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from jsonschema import Draft202012Validator

from outcrop.errors import InternalServerException
from outcrop.records import Piece, Prompt
from outcrop.serve.malformed import check, read_json

SCHEMAS: Final = Path(__file__).with_name("schemas")

TITAN_STOP: Final = r"^(\|+|User:)$"
"""All that AWS takes as a stop sequence of Titan Text."""

TITAN_REASONS: Final = {"stop": "FINISH", "length": "LENGTH", "stop_sequence": "STOP_CRITERIA_MET"}


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a stream's last chunk says of the whole: milliseconds."""

    latency: int
    first_byte: int

    def document(self, last: Piece) -> dict[str, int]:
        """The value of amazon-bedrock-invocationMetrics."""
        return {
            "inputTokenCount": last.prompt_tokens,
            "outputTokenCount": last.completion_tokens,
            "invocationLatency": self.latency,
            "firstByteLatency": self.first_byte,
        }


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of models spells a question and its answer."""

    read: Callable[[bytes, int, bool], Prompt]
    """(body, the model's largest max tokens, strict as AWS) to a prompt; raises ValidationException."""
    answer: Callable[[str, Piece], dict[str, Any]]
    """The whole text and the last piece to the answer's document."""
    chunk: Callable[[Piece, int], dict[str, Any]]
    """A piece and the counts of tokens so far to one chunk's document."""


def family(name: str) -> Family:
    """The family of a catalogue row's `body`."""
    found = FAMILIES.get(name)
    if found is None:
        raise InternalServerException(f"the catalogue names the body family {name!r}, which nobody wrote")
    return found


def encode(document: Mapping[str, Any]) -> bytes:
    """A document as a model sends it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def with_metrics(document: Mapping[str, Any], last: Piece, metrics: Metrics) -> dict[str, Any]:
    """A last chunk with what every family's last chunk says."""
    return {**document, "amazon-bedrock-invocationMetrics": metrics.document(last)}


@cache
def schema(name: str) -> Mapping[str, Any]:
    """A family's schema as its file has it."""
    document: Mapping[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return document


@cache
def _titan_validator(largest: int, strict: bool) -> Draft202012Validator:
    document = copy.deepcopy(dict(schema("titan-text")))
    settings = document["properties"]["textGenerationConfig"]["properties"]
    settings["maxTokenCount"]["maximum"] = largest
    if strict:
        settings["stopSequences"]["items"]["pattern"] = TITAN_STOP
    return Draft202012Validator(document)


def read_titan(body: bytes, largest: int, strict: bool) -> Prompt:
    """Titan Text's request; `strict` takes only the stop sequences that AWS takes."""
    document = read_json(body)
    check(_titan_validator(largest, strict), document)
    known = schema("titan-text")["properties"]["textGenerationConfig"]["properties"]
    given = document.get("textGenerationConfig", {})
    settings = {name: given.get(name, rule["default"]) for name, rule in known.items()}
    return Prompt(
        text=document["inputText"],
        max_tokens=int(settings["maxTokenCount"]),
        temperature=float(settings["temperature"]),
        top_p=float(settings["topP"]),
        stop=tuple(settings["stopSequences"]),
    )


def answer_titan(text: str, last: Piece) -> dict[str, Any]:
    """Titan Text's whole answer."""
    result = {
        "tokenCount": last.completion_tokens,
        "outputText": text,
        "completionReason": TITAN_REASONS[last.finish or "stop"],
    }
    return {"inputTextTokenCount": last.prompt_tokens, "results": [result]}


def chunk_titan(piece: Piece, _made: int) -> dict[str, Any]:
    """One chunk of Titan Text's stream: counts and reason are null until the last."""
    done = piece.finish is not None
    return {
        "outputText": piece.text,
        "index": 0,
        "totalOutputTextTokenCount": piece.completion_tokens if done else None,
        "completionReason": TITAN_REASONS[str(piece.finish)] if done else None,
        "inputTextTokenCount": piece.prompt_tokens if done else None,
    }


FAMILIES: Final[Mapping[str, Family]] = {
    "titan-text": Family(read=read_titan, answer=answer_titan, chunk=chunk_titan),
}
