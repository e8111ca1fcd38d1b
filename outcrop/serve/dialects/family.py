"""The nouns that every dialect shares: what a model allows, what is asked, what is answered, and how a family is told.

A custom model speaks its base model's dialect, so the family is a column of the catalogue. What a family takes is data
(schemas/<family>.json: types, ranges, defaults); a family's file says only what its members mean. Knows nothing of
engines, leases or the wire.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from jsonschema.protocols import Validator

from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.malformed import Strict, check, read_json

SCHEMAS: Final = Path(__file__).parent.with_name("schemas")

BLOCKS: Final = ""
"""Between the text blocks of one message, or of the system prompt."""

TURN_REASONS: Final = {"stop": "end_turn", "length": "max_tokens", "stop_sequence": "stop_sequence"}
"""Why an answer ended, as Anthropic, Nova and Converse say it."""

FIRST_IS_USER: Final = (
    "A conversation must start with a user message. Try again with a conversation that starts with a user message."
)
ALTERNATE: Final = (
    "A conversation must alternate between user and assistant roles. Make sure the conversation alternates between "
    "user and assistant roles and try again."
)
"""Converse's sentences on the order of turns; Nova's own are not known, so that it says them too."""

Document = dict[str, Any]
Speaker = Callable[[Piece], list[Document]]
"""Takes the pieces of one stream in their order and gives the chunks that each becomes."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What differs between the models of one family."""

    max_tokens: int
    """The most that a request may ask for."""
    model: str = ""
    """The id that is invoked on demand: some answers name it."""
    strict: bool = False
    """Only the stop sequences that AWS takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was understood."""

    prompt: Prompt
    model: str = ""
    generations: int = 1
    streamed: bool = True
    """False: a stream's caller wants the whole answer in one chunk."""
    text: str = ""
    """The prompt as its caller sent it, where the answer repeats it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer: its text, and the last piece with `finish` and the counts."""

    text: str
    last: Piece


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation as Converse tells it; None: the family's own default."""

    turns: tuple[Turn, ...]
    system: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] | None = None

    @property
    def stops(self) -> list[str] | None:
        """The stop sequences as a body has them."""
        return None if self.stop is None else list(self.stop)

    @property
    def text(self) -> str:
        """All that was said, for families that take one text; the engine writes the turns with its own template."""
        said = [f"{'User' if turn.role == 'user' else 'Bot'}: {turn.text}" for turn in self.turns]
        return "\n".join([*said, "Bot:"])


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a stream's last chunk says of the whole: milliseconds."""

    latency: int
    first_byte: int

    def document(self, prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
        """The value of amazon-bedrock-invocationMetrics."""
        return {
            "inputTokenCount": prompt_tokens,
            "outputTokenCount": completion_tokens,
            "invocationLatency": self.latency,
            "firstByteLatency": self.first_byte,
        }


@dataclass(frozen=True, slots=True)
class Family:
    """One family's dialect."""

    schema: str
    """Name of its file under schemas/."""
    ask: Callable[[Document, Terms], Asked]
    """A document that keeps the schema to a request; raises ValidationException."""
    answer: Callable[[Asked, Sequence[Answer]], Document]
    """The whole answers, one a generation, to the answer's document."""
    speak: Callable[[Asked], Speaker]
    """A stream's speaker; it tells generations apart by their last pieces."""
    compose: Callable[[Chat], Document]
    """The body that Converse makes of a conversation."""
    too_long: Callable[[int, str], str]
    """(largest number of input tokens, the request's as it is told) to what the family says of it."""
    counted: bool = False
    """Whether several faults of a body are counted and not told."""
    prefill: bool = False
    """Whether a conversation may end with the beginning of the model's answer."""
    told_blank: bool = False
    """Whether the family itself says what is wrong with a blank text; else Converse does."""


def read(family: Family, body: bytes, terms: Terms) -> Asked:
    """What an InvokeModel body asks for; raises ValidationException in AWS's words."""
    return understand(family, read_json(body), terms)


def understand(family: Family, document: Any, terms: Terms) -> Asked:
    """What a body's document asks for; raises ValidationException in AWS's words."""
    check(_validator(family.schema, terms.max_tokens, terms.strict), document, counted=family.counted)
    return family.ask(document, terms)


def encode(document: Mapping[str, Any]) -> bytes:
    """A document as a model sends it."""
    return msgspec.json.encode(document)


def settings(name: str, given: Mapping[str, Any], *path: str) -> dict[str, Any]:
    """The members of the schema's object under a path, as given or by their defaults; those without both are absent."""
    known = schema(name)["properties"]
    for part in path:
        known = known[part]["properties"]
    return {
        key: given.get(key, rule.get("default")) for key, rule in known.items() if key in given or "default" in rule
    }


def given(**members: Any) -> Document:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def nucleus(temperature: float, top_p: float) -> tuple[float, float]:
    """Temperature and top_p of a prompt: a top_p of 0 leaves the likeliest token alone, which is a temperature of 0."""
    return (float(temperature), float(top_p)) if top_p else (0.0, 1.0)


@cache
def schema(name: str) -> Document:
    """A family's schema as its file has it."""
    document: Document = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return document


@cache
def _validator(name: str, largest: int, strict: bool) -> Validator:
    document = copy.deepcopy(schema(name))
    _bind(document, largest, strict)
    return Strict(document)


def _bind(node: Any, largest: int, strict: bool) -> None:
    """Put the model's own bounds where the schema names them: maximumOf, and strictPattern for the strict."""
    if isinstance(node, dict):
        if node.pop("maximumOf", None):
            node["maximum"] = largest
        pattern = node.pop("strictPattern", None)
        if pattern and strict:
            node["pattern"] = pattern
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _bind(each, largest, strict)
