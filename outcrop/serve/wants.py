"""What the fleet is asked for and what it sees: plain values that its decisions are made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EngineState = Literal["loading", "serving", "down"]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One engine: the weights that it holds, and what runs them. It serves a base and all its adapters."""

    weights: Path
    command: str = ""
    """What starts another engine than ours, as the catalogue's row has it."""

    def __str__(self) -> str:
        return f"{self.weights}, {self.command}" if self.command else str(self.weights)


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a model is served: an engine, and an adapter on it."""

    place: Place
    adapter: str | None = None
    """The adapter's name on the engine; None: the weights as they are."""
    folder: Path | None = None
    """The adapter's files."""


@dataclass(frozen=True, slots=True)
class Want:
    """A model that somebody should be able to ask."""

    target: str
    """What callers name: a throughput's ARN, a deployment's, or a foundation model's long id."""
    status: Literal["Creating", "InService", "Updating", "OnDemand"]
    seats: tuple[Seat, ...]
    """What serves now, then what is to serve; one where both are the same."""
    broken: str | None = None
    """Why the model to serve cannot be found; `seats` then lacks it."""
    provisioned: bool = False
    """Its engine is promised: it is never ended for another's sake."""
    last_asked: float = 0.0
    """Of what is served on demand, on the fleet's clock."""
    waited: bool = False
    """A call waits for it now."""

    @property
    def settling(self) -> bool:
        """Somebody waits to hear whether its last seat works."""
        return self.status in ("Creating", "Updating")

    @property
    def pressing(self) -> bool:
        """Somebody waits for it, or was promised it: what nobody uses may be ended for it."""
        return self.provisioned or self.settling or self.waited


@dataclass(frozen=True, slots=True)
class Traffic:
    """An engine's callers: how many there are, and how many there have ever been."""

    now: int
    ever: int


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as the moves see it."""

    place: Place
    state: EngineState
    adapters: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Adapters that it would not load, and why."""
    leased: frozenset[str | None] = frozenset()
    """Adapters (None: the base) that are being asked now."""
    fault: str | None = None
    """Of an engine that is down: why its last start failed; None when it had served."""
    retry_at: float = 0.0
    """Of an engine that is down: not to be started before."""
    bytes: int = 0
    """Memory that it holds; of an engine that loads, what it will hold."""
