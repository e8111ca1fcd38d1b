"""vLLM: how it is started, and asked. The second of the two that stand behind `Kind` and `Manner`.

It is asked in token ids. They are ours: the weights' chat template, the protection of control tokens in what people
wrote, the start of a text and the room for an answer are then, id for id, what they are in training and in our own
engine, whatever vLLM or its tokenizer would make of a conversation.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from outcrop.catalog.engine import words
from outcrop.datasets.reading import PromptTooLong as TooLong
from outcrop.datasets.reading import Reader
from outcrop.datasets.tokens import Encoder
from outcrop.errors import ModelErrorException, OutcropError, ServiceError, ValidationException
from outcrop.records import Prompt
from outcrop.serve.manner import Get, Manner, Post, PromptTooLong, Question, sampling

KEEPER: Final = (sys.executable, "-m", "outcrop.serve.keeper")
"""vLLM knows neither a ready file nor a parent: this stands between."""

FIGURES: Final = {
    "vllm:num_requests_running": "running",
    "vllm:num_requests_waiting": "waiting",
    "vllm:num_preemptions_total": "preempted",
    "vllm:kv_cache_usage_perc": "cache_share_held",
    "vllm:prefix_cache_hits_total": "prefix_tokens",
}
"""Of its /metrics: what is told, by our own engine's words where that has the same figure."""


@dataclass(frozen=True, slots=True)
class VllmEngine:
    """How vLLM is started. line: the column `engine` of a catalogue row."""

    line: str

    def command(self, weights: Path, name: str, ready: Path) -> list[str]:
        """The keeper, and behind -- the row's own words."""
        told = ("--weights", str(weights), "--name", name, "--ready", str(ready))
        return [*KEEPER, *told, "--", *words(self.line)]

    def manner(self, weights: Path) -> Manner:
        """How it is asked in the ids of these weights."""
        return VllmManner(weights)


class _Card(msgspec.Struct, frozen=True):
    """A model of its list; only the base's has the figure."""

    id: str
    max_model_len: int | None = None


class _Cards(msgspec.Struct, frozen=True):
    """Its /v1/models."""

    data: list[_Card]


class VllmManner:
    """How one running vLLM is asked. weights: the folder that it holds, whose tokenizer both read."""

    tokenises: Final = True

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._context: int | None = None
        self._readers: dict[int, Reader] = {}

    def question(self, model: str, prompt: Prompt, get: Get) -> Question:
        """The prompt's ids; no more tokens are asked for than the context leaves, as vLLM would refuse them."""
        context = self._context_told(get)
        with _refusing():
            ids = self._reader(context).fit(prompt)
        body: dict[str, Any] = {
            "model": model,
            "prompt": ids,
            "max_tokens": min(prompt.max_tokens, context - len(ids)),
            "stop_token_ids": sorted(self._encoder.stops),
            **sampling(prompt),
        }
        continued = not prompt.turns or prompt.turns[-1].role == "assistant"
        return Question("/v1/completions", body, "" if continued else self._encoder.chat.lead)

    def count(self, model: str, prompt: Prompt, post: Post) -> int:
        """Tokens, whether it would take so many or not; only what no context of these weights could hold is refused."""
        with _refusing():
            return len(self._reader(self._encoder.context or sys.maxsize).bounded(prompt))

    def figures(self, get: Get) -> Mapping[str, float]:
        """What of its /metrics says how busy it is, summed over its parts, and how many adapters it knows."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(get("/metrics").decode("utf-8")):
            for sample in family.samples:
                if name := FIGURES.get(sample.name):
                    found[name] = found.get(name, 0.0) + sample.value
        cards = _decoded(get("/v1/models")).data
        return {**found, "adapters": sum(card.max_model_len is None for card in cards)}

    @cached_property
    def _encoder(self) -> Encoder:
        try:
            return Encoder.read(self._weights)
        except OutcropError as fault:
            raise ModelErrorException(str(fault), originalStatusCode=500) from fault

    def _reader(self, context: int) -> Reader:
        """One for each of the two contexts: making it goes through the whole vocabulary."""
        if context not in self._readers:
            self._readers[context] = Reader(self._encoder, context)
        return self._readers[context]

    def _context_told(self, get: Get) -> int:
        """Most tokens of a prompt and its answer, which a flag of the row may have made fewer than the weights'."""
        if self._context is None:
            told = [card.max_model_len for card in _decoded(get("/v1/models")).data]
            self._context = next((most for most in told if most is not None), None)
        if self._context is None:
            raise ModelErrorException("vLLM does not tell how many tokens it takes.", originalStatusCode=500)
        return self._context


@contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a prompt is its caller's fault."""
    try:
        yield
    except TooLong as fault:
        raise PromptTooLong(str(fault), fault.limit, fault.tokens, about=fault.about) from fault
    except ServiceError:
        raise
    except OutcropError as fault:
        raise ValidationException(str(fault)) from fault


def _decoded(content: bytes) -> _Cards:
    try:
        return msgspec.json.decode(content, type=_Cards)
    except msgspec.DecodeError as fault:
        raise ModelErrorException(f"vLLM's list of models cannot be read: {fault}", originalStatusCode=500) from fault
