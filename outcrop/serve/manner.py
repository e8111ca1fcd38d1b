"""What differs between one engine and another: how it is started, how it is put a question, what it tells of itself.

Everything else an engine says is the same for all: OpenAI's answers and streams, vLLM's verbs for adapters.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from outcrop.errors import ValidationException
from outcrop.records import Prompt

Get = Callable[[str], bytes]
"""The body of an answer to GET; raises as every verb of a line does."""
Post = Callable[[str, Mapping[str, Any]], bytes]
"""As Get, of a document that is posted."""


class PromptTooLong(ValidationException):
    """The prompt leaves no room for an answer; each family says it in its own words.

    limit: the most tokens that a prompt may have; count: this one's; about: whether that is not exact, as for a prompt
    of which nobody wants to wait until all of it is tokens.
    """

    def __init__(self, message: str, limit: int, count: int, *, about: bool = False) -> None:
        super().__init__(message, code=ValidationException.__name__)
        self.limit, self.count, self.about = limit, count, about

    @property
    def told(self) -> str:
        """The count as a message says it."""
        return f"about {self.count}" if self.about else str(self.count)


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as one engine is asked it."""

    verb: str
    """The path that it is posted to."""
    body: Mapping[str, Any]
    lead: str = ""
    """White space before the answer that is no part of it, where the engine does not take it off itself."""


class Manner(Protocol):
    """How one running engine is asked."""

    @property
    def tokenises(self) -> bool:
        """Whether a question takes milliseconds to put, or an answer of the engine: not on an event loop then."""
        ...

    def question(self, model: str, prompt: Prompt, get: Get) -> Question:
        """The prompt for the model of this name; raises PromptTooLong, ValidationException and what `get` raises."""
        ...

    def count(self, model: str, prompt: Prompt, post: Post) -> int:
        """How many tokens the prompt is; raises as question()."""
        ...

    def figures(self, get: Get) -> Mapping[str, float]:
        """What the engine tells of itself in numbers; raises ValueError for what cannot be read, and as `get`."""
        ...


class Kind(Protocol):
    """How engines of one kind are started, and asked."""

    def command(self, weights: Path, name: str, ready: Path) -> list[str]:
        """What starts one: a process that writes JSON {"port"} or {"socket"} to `ready` once it serves the weights
        under this name, asks everybody for the key in OUTCROP_ENGINE_KEY, and ends when its standard input does."""
        ...

    def manner(self, weights: Path) -> Manner:
        """How an engine over these weights is asked."""
        ...


def sampling(prompt: Prompt) -> dict[str, Any]:
    """How an answer is drawn and what is told of it; top_k and prompt_logprobs are vLLM's additions to OpenAI's."""
    asked: dict[str, Any] = {
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k,
        "stop": list(prompt.stop),
        "seed": prompt.seed,
    }
    if prompt.likelihoods is not None:
        asked |= {"logprobs": 0, **({"prompt_logprobs": 0} if prompt.likelihoods == "ALL" else {})}
    return asked
