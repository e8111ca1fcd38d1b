"""What a loop says of its faults: each once, what lasts after growing pauses, and that it is over.

A loop that looks four times a second meets a lasting fault as often. Knows a clock; nothing of the loop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

FIRST_PAUSE_SECONDS: Final = 60.0
LONGEST_PAUSE_SECONDS: Final = 3600.0
"""Before faults that were told are told again: doubled each time."""

SETTLED_SECONDS: Final = 10.0
"""So long without a fault, and it is over: one of something that is tried now and then comes back by itself."""

MOST_TEXTS: Final = 16
"""Different faults that are told at once while trouble lasts: a text may name a number that is new each time."""

log = structlog.get_logger()


@dataclass(slots=True)
class Trouble:
    """The faults of one loop, from the first until the loop has gone well for a while. Of that loop's thread alone.

    what: the loop, as the log names it; clock: seconds.
    """

    what: str
    clock: Callable[[], float] = time.monotonic
    _texts: set[str] = field(default_factory=set)
    _times: int = 0
    _first: float = 0.0
    _last: float = 0.0
    _due: float = 0.0
    _pause: float = FIRST_PAUSE_SECONDS

    def met(self, fault: Exception) -> None:
        """A fault ended one look."""
        now, text = self.clock(), f"{type(fault).__name__}: {fault}"
        if not self._times:
            self._first = now
        self._times, self._last = self._times + 1, now
        unheard = text not in self._texts and len(self._texts) < MOST_TEXTS
        if unheard:
            self._texts.add(text)
        elif now < self._due:
            return
        else:
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        self._due = now + self._pause
        log.error(f"{self.what} failed", times=self._times, exc_info=fault)

    def fine(self) -> None:
        """One look went well."""
        if not self._times or self.clock() - self._last < SETTLED_SECONDS:
            return
        log.info(f"{self.what} works again", failed=self._times, seconds=round(self._last - self._first))
        self._texts.clear()
        self._times, self._pause = 0, FIRST_PAUSE_SECONDS
