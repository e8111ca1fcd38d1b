"""What the fleet does next, as a pure function of what is wanted and what runs. No process, store or clock in here."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from outcrop.serve.room import NoRoom, Room
from outcrop.serve.wants import Engine, Seat, Want


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
    """Prove that the seat answers, then tell the store that the throughput or deployment is served there."""

    target: str
    seat: Seat


@dataclass(frozen=True, slots=True)
class Fail:
    """Tell the store that the throughput or deployment cannot be served."""

    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell callers why there is no room for a model that nobody waits to hear of otherwise."""

    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evict:
    """End an engine that nobody asks now, for the sake of one that somebody waits for."""

    weights: Path


@dataclass(frozen=True, slots=True)
class Unload:
    """Take an adapter away that nobody wants or asks any more."""

    weights: Path
    adapter: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End an engine that nobody wants or asks any more."""

    weights: Path


Move = Start | Load | Serve | Fail | Refuse | Evict | Unload | Stop


def moves(
    wants: Sequence[Want],
    engines: Mapping[Path, Engine],
    clock: float,
    *,
    budget: int | None = None,
    needs: Mapping[Path, int] | None = None,
) -> list[Move]:
    """What brings the engines nearer to what is wanted, in the order in which to do it; each move once.

    Nothing is taken away before what replaces it serves, nor while anybody still asks it. budget: bytes that all
    engines may hold together, None: no bound; needs: bytes of engines that may have to be started.
    """
    found: dict[Move, None] = {}
    room = Room(budget, needs or {}, wants, engines)
    for want in wants:
        if want.settling and want.broken is not None:
            found[Fail(want.target, want.broken)] = None
        for seat in want.seats:
            for move in _towards(want, seat, engines.get(seat.weights), clock, room):
                found[move] = None
    kept = {seat for want in wants for seat in want.seats}
    evicted = {move.weights for move in found if isinstance(move, Evict)}
    staying = {weights: engine for weights, engine in engines.items() if weights not in evicted}
    return [*found, *_away(kept, staying)]


def sparing(found: Iterable[Move], seats: Collection[Seat]) -> Iterator[Move]:
    """The moves but those that take away what one of the seats needs: they are being proven, and may be wanted soon."""
    engines = {seat.weights for seat in seats}
    adapters = {(seat.weights, seat.adapter) for seat in seats}
    for move in found:
        match move:
            case Stop(weights) | Evict(weights) if weights in engines:
                continue
            case Unload(weights, adapter) if (weights, adapter) in adapters:
                continue
            case _:
                yield move


def _towards(want: Want, seat: Seat, engine: Engine | None, clock: float, room: Room) -> Iterator[Move]:
    """The next move towards serving one seat of one want."""
    settles = want.settling and want.broken is None and seat == want.seats[-1]
    if engine is None:
        yield from _start(want, seat, room, settles=settles)
    elif engine.state == "down":
        if settles and engine.fault is not None:
            yield Fail(want.target, engine.fault)
        elif clock >= engine.retry_at:
            yield from _start(want, seat, room, settles=settles)
    elif engine.state == "serving":
        if seat.adapter is None or seat.adapter in engine.adapters:
            if settles:
                yield Serve(want.target, seat)
        elif seat.adapter not in engine.refused:
            yield Load(seat)
        elif settles:
            yield Fail(want.target, engine.refused[seat.adapter])


def _start(want: Want, seat: Seat, room: Room, *, settles: bool) -> Iterator[Move]:
    """Start an engine if there is room, or make room, or say why there is none."""
    try:
        ended = room.claim(want, seat.weights)
    except NoRoom as fault:
        yield Fail(want.target, str(fault)) if settles else Refuse(want.target, str(fault))
        return
    if ended:
        yield from (Evict(weights) for weights in ended)
    elif ended is not None:
        yield Start(seat.weights)


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
