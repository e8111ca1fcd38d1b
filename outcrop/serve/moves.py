"""What the fleet does next, as a pure function of what is wanted and what runs. No process, store or clock in here."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outcrop.serve.room import NoRoom, Room
from outcrop.serve.wants import Engine, Place, Seat, Want


@dataclass(frozen=True, slots=True)
class Start:
    """Start an engine, or start it again."""

    place: Place


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

    place: Place


@dataclass(frozen=True, slots=True)
class Unload:
    """Take an adapter away that nobody wants or asks any more."""

    place: Place
    adapter: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End an engine that nobody wants or asks any more."""

    place: Place


Move = Start | Load | Serve | Fail | Refuse | Evict | Unload | Stop


def moves(
    wants: Sequence[Want],
    engines: Mapping[Place, Engine],
    clock: float,
    *,
    budget: int | None = None,
    needs: Mapping[Place, int] | None = None,
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
            for move in _towards(want, seat, engines.get(seat.place), clock, room):
                found[move] = None
    kept = {seat for want in wants for seat in want.seats}
    evicted = {move.place for move in found if isinstance(move, Evict)}
    staying = {place: engine for place, engine in engines.items() if place not in evicted}
    return [*found, *_away(kept, staying)]


def sparing(found: Iterable[Move], seats: Collection[Seat]) -> Iterator[Move]:
    """The moves but those that take away what one of the seats needs: they are being proven, and may be wanted soon."""
    engines = {seat.place for seat in seats}
    adapters = {(seat.place, seat.adapter) for seat in seats}
    for move in found:
        match move:
            case Stop(place) | Evict(place) if place in engines:
                continue
            case Unload(place, adapter) if (place, adapter) in adapters:
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
        ended = room.claim(want, seat.place)
    except NoRoom as fault:
        yield Fail(want.target, str(fault)) if settles else Refuse(want.target, str(fault))
        return
    if ended:
        yield from (Evict(place) for place in ended)
    elif ended is not None:
        yield Start(seat.place)


def _away(kept: set[Seat], engines: Mapping[Place, Engine]) -> Iterator[Move]:
    """What nobody wants: whole engines, and adapters of those that stay."""
    places = {seat.place for seat in kept}
    adapters = {(seat.place, seat.adapter) for seat in kept}
    for engine in engines.values():
        if engine.place not in places:
            if not engine.leased:
                yield Stop(engine.place)
        elif engine.state == "serving":
            for name in sorted(engine.adapters):
                if (engine.place, name) not in adapters and name not in engine.leased:
                    yield Unload(engine.place, name)
