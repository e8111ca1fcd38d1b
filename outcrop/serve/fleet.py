"""The second loop: wanted models become engine processes, and a caller gets a lease on one of them.

One thread looks at the store, asks `moves` what to do and does it; what an engine must answer to is done beside it.
`lease()` may be called from any thread. Knows the store's throughputs, deployments and models, the catalogue's weights
and engine processes; nothing of requests or their dialects.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from outcrop.catalog.catalog import Catalog
from outcrop.errors import ModelErrorException, ModelNotReadyException, MustWait, ThrottlingException
from outcrop.records import Throughput
from outcrop.serve.capacity import Capacities
from outcrop.serve.demand import Demand
from outcrop.serve.errands import Errands
from outcrop.serve.figures import Snapshot
from outcrop.serve.hands import BASE, Hands
from outcrop.serve.lease import Account, Lease
from outcrop.serve.line import Line
from outcrop.serve.manner import Kind
from outcrop.serve.meter import Meter
from outcrop.serve.moves import Evict, Fail, Load, Move, Refuse, Serve, Start, Stop, Unload, moves, sparing
from outcrop.serve.own import PROGRAM, OwnEngine
from outcrop.serve.process import EngineProcess
from outcrop.serve.running import LONGEST_RETRY_SECONDS, Running
from outcrop.serve.seats import Seating
from outcrop.serve.size import Sizes, needed
from outcrop.serve.trouble import Trouble
from outcrop.serve.units import Bucket
from outcrop.serve.verdicts import Verdicts, deployed, provisioned
from outcrop.serve.vllm import VllmEngine
from outcrop.serve.wants import Place, Seat, Want
from outcrop.store.store import Store

log = structlog.get_logger()

QUICK_SECONDS: Final = 0.05
SLOW_SECONDS: Final = 0.25
"""How often the loop looks by itself: while an engine loads, and otherwise, for engines that have died unheard."""

MOST_WAITING: Final = 16
"""Calls that may wait for an engine to load: each holds a thread that other operations need."""


class Fleet:
    """Engine processes for every wanted model.

    models: folder of custom models, one an id; logs: where engines write; options: what each engine of our own is told;
    on_demand_wait: seconds that a call waits for an engine to load; on_demand_keep: seconds that what is served on
    demand stays loaded after its last call; program: what starts our own engine; meter: what counts calls;
    memory: bytes that all engines together may take, None for no bound; size: least bytes of an engine over a folder
    of weights; measured: whether units are promised only as far as engines were measured to keep them; clock: seconds
    by which units fill again.
    """

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        models: Path,
        logs: Path,
        now: Callable[[], datetime],
        options: Sequence[str] = (),
        on_demand_wait: float = 60.0,
        on_demand_keep: float = 900.0,
        program: Sequence[str] = PROGRAM,
        meter: Meter | None = None,
        memory: int | None = None,
        size: Callable[[Path], int] = needed,
        measured: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._logs = store, logs
        self._verdicts, self._meter = Verdicts(store, now), meter or Meter()
        self._seating = Seating(store, catalog, models)
        self._capacities = Capacities(store, self._seating, now) if measured else None
        self._own = OwnEngine(program, options)
        self._wait, self._memory, self._size = on_demand_wait, memory, Sizes(size)
        self._lock = threading.Condition()
        self._engines: dict[Place, Running] = {}
        self._routes: dict[str, Seat] = {}
        self._proven: dict[str, Seat] = {}
        self._buckets: dict[str, Bucket] = {}
        self._clock = clock
        self._demand = Demand(on_demand_keep)
        self._broken: dict[str, str] = {}
        self._without_room: dict[str, str] = {}
        self._waiters = threading.BoundedSemaphore(MOST_WAITING)
        self._bell = threading.Event()
        self._awaited = True
        """Whether something is to be taken away once nobody asks it; true as well while that is being found out."""
        self._ended = False
        self._hands = Hands(self._lock, self._verdicts, self._capacities, self._bell.set)
        self._errands = Errands()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    # -------------------------------------------------------------------------------------------- from any thread

    def start(self) -> None:
        """Start the loop."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop and every engine; calls that wait get ModelNotReadyException."""
        with self._lock:
            self._ended = True
            running = list(self._engines.values())
            self._lock.notify_all()
        self._bell.set()
        for engine in running:
            if engine.process is not None:
                engine.process.ask_end()
        if self._thread.is_alive():
            self._thread.join()
        for engine in running:
            engine.end()
        self._errands.end()

    def wake(self) -> None:
        """Look at the store now."""
        self._bell.set()

    def excess(self, model_arn: str, base_model_id: str, units: int) -> str | None:
        """Why units cannot be promised for a model on this machine, with the figures; None: they can, or nobody knows.

        Nobody knows where promises are trusted, and of a model whose engine never served a provisioned one.
        """
        return self._capacities.excess(model_arn, base_model_id, units) if self._capacities else None

    def snapshot(self) -> Snapshot:
        """What there is to see at this moment; asks every engine for its own figures, all at once."""
        with self._lock:
            engines = [engine.figures() for engine in self._engines.values()]
            lines = [engine.line for engine in self._engines.values()]
            waiting, buckets = self._demand.queue, dict(self._buckets)
        with ThreadPoolExecutor(max(1, len(lines)), thread_name_prefix="figures") as threads:
            told = threads.map(lambda line: line.figures() if line is not None else {}, lines)
            seen = tuple(replace(engine, told=own) for engine, own in zip(engines, told, strict=True))
        units = {target: (bucket.tokens_per_minute, bucket.level) for target, bucket in buckets.items()}
        return Snapshot(seen, waiting, units, self._memory)

    @contextmanager
    def lease(self, target: str, region: str, estimate_tokens: int, *, patient: bool = True) -> Iterator[Lease]:
        """The right to ask what the caller named: a throughput's or deployment's ARN, or a foundation model's long id.

        estimate_tokens: prompt and answer together; set aside until the lease ends, then what was charged is counted.
        Raises ThrottlingException over the model units, ModelNotReadyException when the engine does not serve in time,
        ModelErrorException when it cannot be started; MustWait at once where it is not patient and would wait.
        """
        account = Account(self._meter.call(target), self._buckets.get(target))
        with account.kept(estimate_tokens), self.seated(target, region, patient=patient) as (line, model):
            yield Lease(line, model, account.charge, account.heard)

    @contextmanager
    def seated(self, target: str, region: str, *, patient: bool = True) -> Iterator[tuple[Line, str]]:
        """As a lease, for what is no invocation and costs nothing: the way to the model, and its name there."""
        engine, seat, line = self._await_seat(target, region, patient=patient)
        try:
            yield line, seat.adapter or BASE
        finally:
            with self._lock:
                engine.leased[seat.adapter] -= 1
                if not provisioned(target):
                    self._demand.ask(target, time.monotonic())
                # Something waits for the last of them to end, or this ended because the engine did. A look at
                # everything after each of many answers would cost as much as an answer. While calls wait, what the
                # last look saw of them may be over.
                awaited = self._awaited or bool(self._demand.queue)
                if (awaited and not engine.leased[seat.adapter]) or engine.serves(seat) is not line:
                    self._bell.set()

    def _await_seat(self, target: str, region: str, *, patient: bool) -> tuple[Running, Seat, Line]:
        """Wait until the target is served, and count a lease upon its seat."""
        deadline = time.monotonic() + self._wait
        if found := self._try_seat(target, region):
            return found
        if not patient:
            raise MustWait
        if not self._waiters.acquire(blocking=False):
            raise ThrottlingException("Too many requests, please wait before trying again.")
        try:
            with self._lock, self._demand.waiting(target):
                # Once: the loop looks by itself while anything loads. Rung at every wake, it would spin.
                self._bell.set()
                while True:
                    if not self._ended:
                        self._lock.wait(min(SLOW_SECONDS, max(0.0, deadline - time.monotonic())))
                    if found := self._try_seat(target, region):
                        return found
                    if self._ended or time.monotonic() >= deadline:
                        self._demand.turn_away(target)
                        raise ModelNotReadyException("The model is still loading. Wait a few seconds and try again.")
        finally:
            self._waiters.release()

    def _try_seat(self, target: str, region: str) -> tuple[Running, Seat, Line] | None:
        """A lease upon the target's seat, or None while it is not served yet."""
        with self._lock:
            if not provisioned(target):
                self._demand.ask(target, time.monotonic())
            seat = self._routes.get(target)
            engine = self._engines.get(seat.place) if seat else None
            reason = self._broken.get(target) or self._without_room.get(target)
            if seat is not None and engine is not None:
                if line := engine.serves(seat):
                    engine.leased[seat.adapter] += 1
                    engine.asked += 1
                    self._demand.served(target)
                    return engine, seat, line
                reason = engine.why_not(seat) or reason
        if reason is not None:
            raise ModelErrorException(f"The model cannot be served in {region}: {reason}")
        return None

    # -------------------------------------------------------------------------------------------------- the loop

    def _run(self) -> None:
        trouble = Trouble("the fleet's look")
        while not self._ended:
            try:
                loading = self.tick()
                trouble.fine()
            except Exception as fault:
                # One of the four borders: whatever went wrong, engines and callers need the next look at them.
                trouble.met(fault)
                loading = False
            self._bell.wait(QUICK_SECONDS if loading else SLOW_SECONDS)
            self._bell.clear()

    def tick(self) -> bool:
        """Look once at what is wanted and what runs, and do what follows; true while an engine is loading."""
        if self._ended:
            return False
        self._errands.reap()
        # Of what was proven before, the store, which is read after this, knows by now; of the rest it may not.
        proving = {move for move in self._errands.under_way() if isinstance(move, Serve)}
        with self._lock:
            self._proven = {target: seat for target, seat in self._proven.items() if Serve(target, seat) in proving}
        self._look()
        throughputs = self._store.throughputs.wanted()
        wants = [self._seating.of_throughput(throughput) for throughput in throughputs] + self._wants_on_demand()
        # Again: what an errand found out in the meantime of an engine that was dying is not taken for its own word.
        self._look()
        with self._lock:
            self._route(throughputs, wants)
            self._awaited = True
            engines = {place: engine.view() for place, engine in self._engines.items()}
        ask = partial(moves, wants, clock=time.monotonic(), budget=self._memory, needs=self._needs(wants))
        found = ask(engines)
        idle = {place: replace(engine, leased=frozenset()) for place, engine in engines.items()}
        self._awaited = any(isinstance(move, Evict | Unload | Stop) for move in ask(idle))
        self._refuse([move for move in found if isinstance(move, Refuse)])
        for move in sparing(found, {move.seat for move in proving}):
            self._do(move)
        with self._lock:
            self._lock.notify_all()
            return any(engine.view().state == "loading" for engine in self._engines.values())

    def _look(self) -> None:
        """See which engines serve now and which have died."""
        with self._lock:
            for engine in self._engines.values():
                engine.look(time.monotonic())

    # --------------------------------------------------------------------------------------------- what is wanted

    def _wants_on_demand(self) -> list[Want]:
        """Deployments that wait to be proven, and whatever was asked lately."""
        clock = time.monotonic()
        with self._lock:
            # Its time begins when it serves: who asked for it may be waiting to try again.
            loading = {place for place, engine in self._engines.items() if engine.view().state == "loading"}
            self._demand.prolong((target for target, seat in self._routes.items() if seat.place in loading), clock)
            recent = self._demand.recent(clock)
        deployments = self._store.deployments.wanted(target for target in recent if deployed(target))
        wants = [self._seating.of_deployment(deployment) for deployment in deployments]
        wants += [self._seating.of_base(target) for target in recent if not deployed(target)]
        with self._lock:
            return [self._demand.mark(want) for want in wants]

    def _needs(self, wants: list[Want]) -> dict[Place, int]:
        """Least bytes of the engines that are wanted."""
        if self._memory is None:
            return {}
        return {seat.place: self._size(seat.place.weights) for want in wants for seat in want.seats}

    def _refuse(self, refused: list[Refuse]) -> None:
        """Callers of what there is no room for are told so."""
        for move in refused:
            if self._without_room.get(move.target) != move.reason:
                log.warning("no room for a model", target=move.target, reason=move.reason)
        with self._lock:
            self._without_room = {move.target: move.reason for move in refused}

    def _route(self, throughputs: list[Throughput], wants: list[Want]) -> None:
        """Where callers of what is in service go, and how much each throughput admits."""
        for want in wants:
            if want.broken is not None and want.broken != self._broken.get(want.target):
                log.warning("model cannot be served", target=want.target, reason=want.broken)
        self._broken = {want.target: want.broken for want in wants if want.broken is not None}
        known = {want.target: want.seats[0] for want in wants if want.seats and want.status != "Creating"}
        self._routes = {**known, **self._proven}
        buckets = {}
        for throughput in throughputs:
            rate = self._seating.rate(throughput)
            bucket = self._buckets.get(throughput.arn) or Bucket(rate, self._clock)
            bucket.resize(rate)
            buckets[throughput.arn] = bucket
        self._buckets = buckets

    # ------------------------------------------------------------------------------------------------- the moves

    def _do(self, move: Move) -> None:
        match move:
            case Start(place):
                self._start_engine(place)
            case Stop(place):
                self._stop_engine(place)
            case Load(seat):
                self._send(seat.place, move, lambda engine, line: self._hands.load(engine, line, seat))
            case Evict(place):
                self._evict(place)
            case Unload(place, adapter):
                self._send(place, move, lambda engine, line: self._hands.unload(engine, line, adapter))
            case Serve(target, seat):
                self._send(seat.place, move, lambda engine, line: self._serve(engine, line, target, seat))
            case Fail(target, reason):
                self._verdicts.failed(target, reason)
            case Refuse():
                pass  # Told to callers, all together.

    def _start_engine(self, place: Place) -> None:
        slug = f"engine-{place.weights.name}-{hashlib.sha256(str(place).encode()).hexdigest()[:8]}"
        ready = self._logs / f".{slug}.ready"
        kind: Kind = VllmEngine(place.command) if place.command else self._own
        with self._lock:
            if self._ended:
                return
            need = 0 if self._memory is None else self._size(place.weights)
            engine = self._engines.setdefault(place, Running(place))
            engine.need, engine.manner = need, kind.manner(place.weights)
            try:
                command = kind.command(place.weights, BASE, ready)
                engine.process = EngineProcess(command, self._logs / f"{slug}.log", ready)
            except OSError as fault:
                engine.fault = f"the engine's program cannot be started: {fault}"
                engine.retry_at = time.monotonic() + LONGEST_RETRY_SECONDS
                log.error("engine cannot start", engine=str(place), reason=engine.fault)  # noqa: TRY400
                return
        log.info("engine starts", engine=str(place), pid=engine.process.pid)

    def _stop_engine(self, place: Place) -> None:
        with self._lock:
            engine = self._engines[place]
            if any(engine.leased.values()):
                return
            del self._engines[place]
        log.info("engine stops", engine=str(place))
        engine.end()
        self._errands.drop(place)

    def _evict(self, place: Place) -> None:
        """End an engine for another's sake; who used it may ask again, and waits for its turn."""
        with self._lock:
            users = [target for target, seat in self._routes.items() if seat.place == place]
            if self._demand.waits(users):
                return
            self._demand.drop(users)
        log.info("engine gives way", engine=str(place))
        self._stop_engine(place)
        self._bell.set()

    # ------------------------------------------------------------------------------ the moves that wait for an engine

    def _send(self, place: Place, move: Move, work: Callable[[Running, Line], None]) -> None:
        """Do it in the engine's own thread, while the loop goes on."""
        engine = self._engines.get(place)
        line = engine.line if engine is not None else None
        if engine is not None and line is not None:
            self._errands.begin(place, move, partial(work, engine, line))

    def _serve(self, engine: Running, line: Line, target: str, seat: Seat) -> None:
        """Have the model make a token; then, and only then, its throughput is in service."""
        ours = partial(self._is_ours, seat.place, engine)
        if not self._hands.prove(engine, line, target, seat, ours=ours):
            return
        # Calls go there before anybody is told that they do: the next look sets it right if the store thinks otherwise.
        with self._lock:
            self._routes[target] = self._proven[target] = seat
        if not self._verdicts.proven(target):
            return
        with self._lock:
            if not provisioned(target):
                self._demand.ask(target, time.monotonic())
            self._lock.notify_all()
        # What served before may be taken away now.
        self._bell.set()
        log.info("model is served", target=target, model=seat.adapter or BASE)

    def _is_ours(self, place: Place, engine: Running) -> bool:
        return not self._ended and self._engines.get(place) is engine
