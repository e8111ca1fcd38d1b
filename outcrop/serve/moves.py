"""What the fleet does next, as a pure function of what is wanted and what runs. No process, store or clock in here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

EngineState = Literal["loading", "serving", "down"]


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a model is served: an engine over these weights, and an adapter on it."""

    weights: Path
    """Also the engine's key: one engine serves a base and all its adapters."""
    adapter: str | None = None
    """The adapter's name on the engine; None: the weights as they are."""
    folder: Path | None = None
    """The adapter's files."""


@dataclass(frozen=True, slots=True)
class Want:
    """A model that somebody should be able to ask."""

    target: str
    """What callers name: a throughput's ARN, or a foundation model's long id."""
    status: Literal["Creating", "InService", "Updating", "OnDemand"]
    seats: tuple[Seat, ...]
    """What serves now, then what is to serve; one where both are the same."""
    broken: str | None = None
    """Why the model to serve cannot be found; `seats` then lacks it."""

    @property
    def settling(self) -> bool:
        """Somebody waits to hear whether its last seat works."""
        return self.status in ("Creating", "Updating")


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as the moves see it."""

    weights: Path
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


@dataclass(frozen=True, slots=True)
class Start:
    """Start an engine, or start it again."""

    weights: Path


@dataclass(frozen=True, slots=True)
class Load:
    """Put an adapter on an engine."""

    seat: Seat


@dataclass(frozen=True, slots=True)
class Serve:
    """Prove that the seat answers, then tell the store that the throughput is in service there."""

    target: str
    seat: Seat


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the store that the throughput cannot be served."""

    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unload:
    """Take an adapter away that nobody wants or asks any more."""

    weights: Path
    adapter: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End an engine that nobody wants or asks any more."""

    weights: Path


Move = Start | Load | Serve | Fail | Unload | Stop


def moves(wants: Sequence[Want], engines: Mapping[Path, Engine], clock: float) -> list[Move]:
    """What brings the engines nearer to what is wanted, in the order in which to do it; each move once.

    Nothing is taken away before what replaces it serves, nor while anybody still asks it.
    """
    found: dict[Move, None] = {}
    for want in wants:
        if want.settling and want.broken is not None:
            found[Fail(want.target, want.broken)] = None
        for seat in want.seats:
            for move in _towards(want, seat, engines.get(seat.weights), clock):
                found[move] = None
    kept = {seat for want in wants for seat in want.seats}
    return [*found, *_away(kept, engines)]


def _towards(want: Want, seat: Seat, engine: Engine | None, clock: float) -> Iterator[Move]:
    """The next move towards serving one seat of one want."""
    settles = want.settling and want.broken is None and seat == want.seats[-1]
    if engine is None:
        yield Start(seat.weights)
    elif engine.state == "down":
        if settles and engine.fault is not None:
            yield Fail(want.target, engine.fault)
        elif clock >= engine.retry_at:
            yield Start(seat.weights)
    elif engine.state == "serving":
        if seat.adapter is None or seat.adapter in engine.adapters:
            if settles:
                yield Serve(want.target, seat)
        elif seat.adapter not in engine.refused:
            yield Load(seat)
        elif settles:
            yield Fail(want.target, engine.refused[seat.adapter])


def _away(kept: set[Seat], engines: Mapping[Path, Engine]) -> Iterator[Move]:
    """What nobody wants: whole engines, and adapters of those that stay."""
    weights = {seat.weights for seat in kept}
    adapters = {(seat.weights, seat.adapter) for seat in kept}
    for engine in engines.values():
        if engine.weights not in weights:
            if not engine.leased:
                yield Stop(engine.weights)
        elif engine.state == "serving":
            for name in sorted(engine.adapters):
                if (engine.weights, name) not in adapters and name not in engine.leased:
                    yield Unload(engine.weights, name)
