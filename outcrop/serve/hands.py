"""What an engine is asked to do for the fleet itself: take an adapter, forget it, show that a model answers.

Each waits for the engine, so none belongs on the loop's thread. Knows engines, lines and verdicts; nothing of who may
ask what.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from outcrop.errors import ModelNotReadyException, ModelTimeoutException, OutcropError, ThrottlingException
from outcrop.records import Prompt
from outcrop.serve.capacity import Capacities, TooMuch
from outcrop.serve.line import Line
from outcrop.serve.running import Running
from outcrop.serve.verdicts import Verdicts, provisioned
from outcrop.serve.wants import Seat, Traffic

log = structlog.get_logger()

BASE: Final = "base"
"""What a base is called on its engine; adapters are called by their models' ids, which are longer."""

SECONDS: Final = 120.0
"""Longest silence of an engine: it may be at other work."""

PROOF_SECONDS: Final = 120.0
"""The same for a proof, which stands in the queue with other callers' requests."""

PROOF: Final = Prompt(text="a", max_tokens=1, temperature=0.0)
"""What a model must answer before its throughput is in service, or its deployment Active."""


@dataclass(frozen=True, slots=True)
class Hands:
    """At work on engines. lock: the fleet's, for what `Running` holds; progress: there is more that can be done now."""

    lock: threading.Condition
    verdicts: Verdicts
    capacities: Capacities | None
    """None: promises are trusted."""
    progress: Callable[[], None]

    def load(self, engine: Running, line: Line, seat: Seat) -> None:
        """Put the seat's adapter on the engine, or note why it would not take it."""
        assert seat.adapter is not None
        assert seat.folder is not None
        reason = None
        try:
            line.load_adapter(seat.adapter, seat.folder, timeout=SECONDS)
        except ModelNotReadyException:
            return  # The engine died; the next look finds it so.
        except OutcropError as fault:
            log.error("adapter does not load", model=seat.adapter, reason=str(fault))  # noqa: TRY400
            reason = str(fault)
        with self.lock:
            if engine.line is not line:
                return  # It is another life of the engine by now.
            if reason is None:
                engine.adapters.add(seat.adapter)
            else:
                engine.refused[seat.adapter] = reason
        # What waits for this adapter should not wait for the slow look.
        self.progress()

    def unload(self, engine: Running, line: Line, adapter: str) -> None:
        """Take an adapter away that nobody asks."""
        with self.lock:
            if engine.line is not line or engine.leased[adapter]:
                return
            # First out of sight, then out of the engine: no lease is given between the two.
            engine.adapters.discard(adapter)
        try:
            line.unload_adapter(adapter, timeout=SECONDS)
        except ModelNotReadyException:
            return  # Gone with its engine.
        except OutcropError as fault:
            log.warning("adapter stays loaded", model=adapter, reason=str(fault))

    def prove(self, engine: Running, line: Line, target: str, seat: Seat, *, ours: Callable[[], bool]) -> bool:
        """Have the model make a token, within what is promised; of one that cannot, the store is told.

        ours: whether it is still our wish that the engine runs: one that is ended under its proof says nothing of the
        model.
        """
        if provisioned(target) and not self._may_promise(engine, line, target, seat):
            return False
        try:
            line.complete(seat.adapter or BASE, PROOF, timeout=PROOF_SECONDS)
        except (ModelNotReadyException, ThrottlingException):
            return False  # The engine died, or is full of other callers' requests: the next look tries again.
        except OutcropError as fault:
            with self.lock:
                queued = isinstance(fault, ModelTimeoutException) and engine.traffic().now > 0
            if queued:
                return False  # Behind other callers' requests it may wait for longer than anybody should.
            if ours():
                self.verdicts.failed(target, f"the model does not answer: {fault}")
            return False
        return True

    def _may_promise(self, engine: Running, line: Line, target: str, seat: Seat) -> bool:
        """Whether the engine was measured to keep what its throughput promises; one that promises too much fails."""
        throughput = self.verdicts.store.throughputs.by_arn(target)
        if self.capacities is None or throughput is None:
            return True

        def traffic() -> Traffic:
            with self.lock:
                return engine.traffic()

        self.capacities.find_out(seat.place, line, seat.adapter or BASE, traffic)
        try:
            return self.capacities.kept(throughput, seat.place)
        except TooMuch as fault:
            self.verdicts.failed(target, str(fault))
            return False
