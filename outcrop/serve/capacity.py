"""How many tokens a minute this machine really does, and whether more was promised than that.

An engine is measured when it first serves a provisioned model: some callers at once, a prompt and an answer each.
All engines share one machine, so promises are added as shares of what their engines were measured to do. Knows the
store, seats and lines; decides about promises only, and nothing about requests.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from outcrop.errors import OutcropError
from outcrop.records import Prompt, Throughput
from outcrop.serve.line import Line
from outcrop.serve.seats import Seating
from outcrop.serve.wants import Place, Traffic
from outcrop.store.capacities import Capacity
from outcrop.store.store import Store

log = structlog.get_logger()

CALLERS: Final = 8
"""Asked at the same time, as units are for callers in number; an engine batches them."""

QUESTION: Final = Prompt(text="Where is my order? I sent it back. " * 8, max_tokens=32, temperature=0.0)
"""Some seventy tokens for most tokenizers, and an answer of half as many."""


SECONDS: Final = 120.0
"""Longest silence of an engine while it is measured."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Between two tries to measure an engine: doubled each time."""


def here() -> str:
    """This machine, so that a data directory that moves is measured again."""
    return f"{platform.node()}, {os.cpu_count()} CPUs"


def measure(line: Line, model: str) -> int:
    """Tokens a minute of prompts and answers together; raises what the line raises."""

    def ask(_: int) -> int:
        _text, last = line.complete(model, QUESTION, timeout=SECONDS)
        return last.prompt_tokens + last.completion_tokens

    start = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        tokens = sum(callers.map(ask, range(CALLERS)))
    return int(tokens / (time.perf_counter() - start) * 60)


class TooMuch(OutcropError):
    """More is promised than the machine can do; the message has the figures."""


@dataclass(slots=True)
class Capacities:
    """What engines can do, and what of it is promised. clock: seconds by which it waits to measure again."""

    store: Store
    seating: Seating
    now: Callable[[], datetime]
    clock: Callable[[], float] = time.monotonic
    machine: str = field(default_factory=here)
    _least: dict[Place, Capacity] = field(default_factory=dict)
    """Measured beside other callers: the engine does so much at least, and may do more."""
    _pauses: dict[Place, tuple[float, float]] = field(default_factory=dict)
    """Of engines that are to be measured again: the pause after the next try, and the time of that."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, place: Place) -> Capacity | None:
        """The measurement of an engine, if there was one without other callers."""
        return self.store.capacities.of(str(place), self.machine)

    def find_out(self, place: Place, line: Line, model: str, traffic: Callable[[], Traffic]) -> None:
        """Measure what is not known yet; takes seconds, and is left out for a while after it was in vain.

        traffic: the engine's other callers. A measurement is kept for good only where there were none meanwhile.
        """
        pause, next_try = self._pauses.get(place, (FIRST_PAUSE, 0.0))
        if self.known(place) is not None or self.clock() < next_try:
            return
        before = traffic()
        try:
            found = Capacity(measure(line, model), self.now())
        except OutcropError as fault:
            # The engine died, or is full of other callers.
            log.warning("capacity not measured", engine=str(place), reason=str(fault), again_in=pause)
            return
        finally:
            with self._lock:
                self._pauses[place] = min(2 * pause, LONGEST_PAUSE), self.clock() + pause
        alone = before == traffic() and not before.now
        log.info("capacity measured", engine=str(place), tokens_per_minute=found.tokens_per_minute, alone=alone)
        if alone:
            self.store.capacities.put(str(place), self.machine, found)
            return
        with self._lock:
            least = self._least.get(place, found)
            self._least[place] = max(found, least, key=lambda each: each.tokens_per_minute)

    def excess(self, model_arn: str, base_model_id: str, units: int) -> str | None:
        """Why units cannot be promised for a model beside all that was promised; None: they can, or nobody knows."""
        place = self._place(model_arn)
        own = self.known(place) if place is not None else None
        if place is None or own is None:
            return None
        rate, promised = self.seating.promise(base_model_id, units), self.store.throughputs.wanted()
        return self._excess(place, own, rate, promised)

    def kept(self, throughput: Throughput, place: Place) -> bool:
        """Whether a throughput can be put in service beside those that are; false while nobody knows.

        Raises TooMuch where it cannot. What was measured beside other callers may admit it, and never refuses it.
        """
        own = self._best(place)
        if own is None:
            return False
        present = [other for other in self.store.throughputs.wanted() if other.status == "InService"]
        others = [other for other in present if other.arn != throughput.arn]
        reason = self._excess(place, own, self.seating.rate(throughput), others)
        if reason is not None and self.known(place) is not None:
            raise TooMuch(reason)
        return reason is None

    def _best(self, place: Place) -> Capacity | None:
        with self._lock:
            least = self._least.get(place)
        return self.known(place) or least

    def _place(self, model_arn: str) -> Place | None:
        """What a model's engine stands on; None where it is not there: who tries to serve it says why."""
        try:
            return self.seating.of_model(model_arn).place
        except OutcropError:
            return None

    def _excess(self, place: Place, own: Capacity, rate: int, promised: Iterable[Throughput]) -> str | None:
        held = sum(self._share(throughput) for throughput in promised)
        if held + rate / own.tokens_per_minute <= 1:
            return None
        left = max(0, round((1 - held) * own.tokens_per_minute))
        return (
            f"{rate:,} tokens a minute are more than the {left:,} that this machine has left for it: an engine over "
            f"{place.weights.name} was measured at {own.tokens_per_minute:,} tokens a minute on "
            f"{own.measured:%Y-%m-%d}, and {held:.0%} of the machine is promised to others. Provision fewer model "
            "units, delete a provisioned model throughput, or set unit_capacity to trusted"
        )

    def _share(self, throughput: Throughput) -> float:
        """The part of the machine that a throughput was promised; 0 where its engine was never measured."""
        place = self._place(throughput.desired_model_arn)
        found = self._best(place) if place is not None else None
        return self.seating.rate(throughput) / found.tokens_per_minute if found else 0.0
