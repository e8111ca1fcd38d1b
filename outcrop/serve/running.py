"""An engine under the fleet's care: its process, the line to it, what it serves and who asks it.

Fields are touched under the fleet's lock only. Knows clocks as numbers; nothing of the store.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

from outcrop.serve.figures import EngineFigures
from outcrop.serve.line import Line
from outcrop.serve.manner import Manner
from outcrop.serve.own import OwnManner
from outcrop.serve.process import EngineProcess
from outcrop.serve.wants import Engine, EngineState, Place, Seat, Traffic

log = structlog.get_logger()

FIRST_RETRY_SECONDS: Final = 0.5
LONGEST_RETRY_SECONDS: Final = 60.0
"""Wait before an engine that died is started again: doubled each time it dies, forgotten once it has stayed up."""

SETTLED_SECONDS: Final = 60.0
"""An engine that served so long has stayed up."""

Change = Literal["serves", "died"]


@dataclass(slots=True, eq=False)
class Running:
    """One engine, up or down."""

    place: Place
    manner: Manner = field(default_factory=OwnManner)
    """How it is asked."""
    need: int = 0
    """Least bytes that it takes, as far as its files tell."""
    process: EngineProcess | None = None
    line: Line | None = None
    """The way to it; None while it does not serve."""
    since: float = 0.0
    adapters: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    """Adapters that it would not load, and why."""
    leased: "Counter[str | None]" = field(default_factory=Counter)
    asked: int = 0
    """Leases in all."""
    deaths: int = 0
    """Since it last stayed up."""
    fallen: int = 0
    """Deaths in all."""
    fault: str | None = None
    """Why it did not come up at its last start."""
    retry_at: float = 0.0

    def view(self) -> Engine:
        """As the moves see it."""
        state: EngineState = "serving"
        if self.line is None:
            state = "down" if self.process is None else "loading"
        leased = frozenset(name for name, count in self.leased.items() if count)
        adapters, refused = frozenset(self.adapters), dict(self.refused)
        return Engine(self.place, state, adapters, refused, leased, self.fault, self.retry_at, self.bytes())

    def bytes(self) -> int:
        """Memory that it holds, and at least what it will hold once it has loaded; nothing while it is down."""
        return max(self.need, self.process.memory()) if self.process is not None else 0

    def serves(self, seat: Seat) -> Line | None:
        """The line, if a prompt for this seat would be answered now."""
        alive = self.process is not None and self.process.state() == "serving"
        return self.line if alive and (seat.adapter is None or seat.adapter in self.adapters) else None

    def traffic(self) -> Traffic:
        """Who asks it."""
        return Traffic(sum(self.leased.values()), self.asked)

    def why_not(self, seat: Seat) -> str | None:
        """Why a seat is not served, where waiting would not help."""
        return self.refused.get(seat.adapter or "") or self.fault

    def look(self, clock: float) -> Change | None:
        """See whether it has come up or died since the last look."""
        if self.process is None:
            return None
        state = self.process.state()
        if state == "dead":
            self._mourn(self.process, clock)
            return "died"
        if state == "serving" and self.line is None:
            process = self.process
            self.line = Line(
                process.url(), process.key, socket=process.socket(), trunk=process.trunk(), manner=self.manner
            )
            self.since, self.fault = clock, None
            log.info("engine serves", engine=str(self.place), pid=self.process.pid)
            return "serves"
        return None

    def figures(self) -> EngineFigures:
        """As whoever watches the server sees it, without what only the engine itself can tell."""
        leased = {name or "base": count for name, count in self.leased.items() if count}
        return EngineFigures(str(self.place), self.view().state, self.bytes(), self.fallen, leased)

    def end(self) -> None:
        """End the process; its adapters are gone with it."""
        if self.process is not None:
            self.process.end()
        self.process = self.line = None
        self.adapters.clear()
        self.refused.clear()

    def _mourn(self, process: EngineProcess, clock: float) -> None:
        """Note why it died and when to start it again."""
        served = self.line is not None
        if served and clock - self.since > SETTLED_SECONDS:
            self.deaths = 0
        wait = min(FIRST_RETRY_SECONDS * 2**self.deaths, LONGEST_RETRY_SECONDS)
        self.deaths += 1
        self.fallen += 1
        self.retry_at = clock + wait
        story = process.story()
        self.fault = None if served else story
        log.error("engine died", engine=str(self.place), story=story, retry_in=wait)
        self.end()
