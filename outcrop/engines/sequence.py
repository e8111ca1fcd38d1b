"""A request on its way through the engine: what it asked, how far it is, what it is told, and why it may be refused.

Knows no model and no scheduling.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from outcrop.engines.batch import Past
from outcrop.engines.cache import Holding
from outcrop.engines.detokenize import TextStream
from outcrop.engines.likelihood import Likelihoods
from outcrop.engines.loaded import Loaded
from outcrop.engines.sampling import Sampler
from outcrop.errors import OutcropError


class Overloaded(OutcropError):
    """More requests wait than the engine keeps."""


class UnknownModel(OutcropError):
    """No base and no adapter of that name."""


Likelihood = tuple[int, str, float]
"""A token, its text, and the natural log of its probability."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a step gives to one request: text, and at the end why it ended."""

    text: str
    finish: str | None = None
    """None while more comes; then stop, length or error."""
    stop_reason: str | None = None
    """The stop string that ended it; None at the end of the text."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str | None = None
    """For error: what a person should know."""
    prompt_likelihoods: tuple[Likelihood, ...] = ()
    likelihoods: tuple[Likelihood, ...] = ()
    """Of the last output, where they were asked for."""


@dataclass(slots=True, eq=False)
class Sequence:
    """One request on its way: what it asked, and how far it is."""

    model: str | None
    """The adapter's name; None for the base alone."""
    prompt: list[int]
    max_tokens: int
    sampler: Sampler
    text: TextStream
    emit: Callable[[Output], None]
    likelihoods: Likelihoods | None = None
    adapter: Loaded | None = None
    """What `model` names, from when it first runs."""
    ids: list[int] = field(default_factory=list)
    """Its prompt, and every token made so far."""
    holding: Holding | None = None
    """Its stretch of the cache, while it runs."""
    arrived: int = 0
    """In which step of the engine; earlier ones for who was made to wait again."""
    past: Past = field(default_factory=Past)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.ids = list(self.prompt)

    @property
    def made(self) -> int:
        """Tokens of the answer so far."""
        return len(self.ids) - len(self.prompt)

    @property
    def looks_at_prompt(self) -> bool:
        """True while likelihoods of the prompt's own tokens are wanted and not all there."""
        found = self.likelihoods
        return found is not None and found.of_prompt and len(found.prompt) < len(self.prompt) - 1

    def cancel(self) -> None:
        """Ask for its end; its slot is free within one step and nothing more is emitted."""
        self.cancelled.set()
