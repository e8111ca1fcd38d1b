"""How many tokens a minute this machine really does, and whether more was promised than that.

An engine is measured once, when it first serves a provisioned model: some callers at once, a prompt and an answer each.
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
from pathlib import Path
from typing import Final

import structlog

from outcrop.errors import OutcropError
from outcrop.records import Prompt, Throughput
from outcrop.serve.line import Line
from outcrop.serve.seats import Seating
from outcrop.store.capacities import Capacity
from outcrop.store.store import Store

log = structlog.get_logger()

CALLERS: Final = 8
"""Asked at the same time, as units are for callers in number; an engine batches them."""

QUESTION: Final = Prompt(text="Where is my order? I sent it back. " * 8, max_tokens=32, temperature=0.0)
"""Some seventy tokens for most tokenizers, and an answer of half as many."""


def here() -> str:
    """This machine, so that a data directory that moves is measured again."""
    return f"{platform.node()}, {os.cpu_count()} CPUs"


def measure(line: Line, model: str) -> int:
    """Tokens a minute of prompts and answers together; raises what the line raises."""

    def ask(_: int) -> int:
        _text, last = line.complete(model, QUESTION)
        return last.prompt_tokens + last.completion_tokens

    start = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        tokens = sum(callers.map(ask, range(CALLERS)))
    return int(tokens / (time.perf_counter() - start) * 60)


@dataclass(slots=True)
class Capacities:
    """What engines can do, and what of it is promised."""

    store: Store
    seating: Seating
    now: Callable[[], datetime]
    machine: str = field(default_factory=here)
    _under_way: set[Path] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def known(self, weights: Path) -> Capacity | None:
        """The measurement of an engine over these weights, if there was one."""
        return self.store.capacities.of(str(weights), self.machine)

    def find_out(self, weights: Path, line: Line, model: str) -> None:
        """Measure in the background what was not measured yet: the fleet's loop does not wait for it."""
        with self._lock:
            if weights in self._under_way:
                return
            self._under_way.add(weights)
        threading.Thread(target=self._measure, args=(weights, line, model), name="capacity", daemon=True).start()

    def _measure(self, weights: Path, line: Line, model: str) -> None:
        try:
            found = Capacity(measure(line, model), self.now())
            self.store.capacities.put(str(weights), self.machine, found)
        except OutcropError as fault:
            # The engine died, or is full of other callers: the fleet asks again.
            log.warning("capacity not measured", weights=str(weights), reason=str(fault))
        else:
            log.info("capacity measured", weights=str(weights), tokens_per_minute=found.tokens_per_minute)
        finally:
            with self._lock:
                self._under_way.discard(weights)

    def excess(self, model_arn: str, base_model_id: str, units: int) -> str | None:
        """Why units cannot be promised for a model beside all that was promised; None: they can, or nobody knows."""
        return self._excess(model_arn, self.seating.promise(base_model_id, units), self.store.throughputs.wanted())

    def overdone(self, throughput: Throughput) -> str | None:
        """Why a throughput cannot be put in service beside those that are; None: it can."""
        present = [other for other in self.store.throughputs.wanted() if other.status == "InService"]
        others = [other for other in present if other.arn != throughput.arn]
        return self._excess(throughput.desired_model_arn, self.seating.rate(throughput), others)

    def _excess(self, model_arn: str, rate: int, promised: Iterable[Throughput]) -> str | None:
        try:
            weights = self.seating.of_model(model_arn).weights
        except OutcropError:
            return None  # Whoever tries to serve it says what is missing.
        own = self.known(weights)
        if own is None:
            return None
        held = sum(self._share(throughput) for throughput in promised)
        if held + rate / own.tokens_per_minute <= 1:
            return None
        left = max(0, round((1 - held) * own.tokens_per_minute))
        return (
            f"{rate:,} tokens a minute are more than the {left:,} that this machine has left for it: an engine over "
            f"{weights.name} was measured at {own.tokens_per_minute:,} tokens a minute on {own.measured:%Y-%m-%d}, and "
            f"{held:.0%} of the machine is promised to others. Provision fewer model units, delete a provisioned model "
            "throughput, or set unit_capacity to trusted"
        )

    def _share(self, throughput: Throughput) -> float:
        """The part of the machine that a throughput was promised; 0 where its engine was never measured."""
        try:
            found = self.known(self.seating.of_model(throughput.desired_model_arn).weights)
        except OutcropError:
            return 0.0
        return self.seating.rate(throughput) / found.tokens_per_minute if found else 0.0
