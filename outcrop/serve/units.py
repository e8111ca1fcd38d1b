"""Admission by model units: how many tokens a throughput may still take now. Knows a clock and nothing of requests."""

import threading
import time
from collections.abc import Callable
from typing import Final

from outcrop.errors import ThrottlingException

TOO_MANY_TOKENS: Final = "Too many tokens, please wait before trying again."

MINUTE: Final = 60.0


class Bucket:
    """Tokens of one throughput: it holds a minute's worth and fills at the rate that its units promise.

    tokens_per_minute: of all units together; clock: seconds from any start, never going back.
    """

    def __init__(self, tokens_per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._level = float(tokens_per_minute)
        self._seen = clock()
        self._lock = threading.Lock()

    def take(self, estimate: int) -> int:
        """Set tokens aside for a request; returns how many, to be given to `settle`. Raises ThrottlingException.

        One request may always ask for up to a minute's worth of a full bucket, however large its maxTokenCount is.
        """
        with self._lock:
            self._fill()
            reserved = min(estimate, self.tokens_per_minute)
            if self._level < reserved:
                raise ThrottlingException(TOO_MANY_TOKENS)
            self._level -= reserved
            return reserved

    def settle(self, reserved: int, used: int) -> None:
        """Charge what was really used in place of what was set aside; a debt delays later requests."""
        with self._lock:
            self._fill()
            self._level = min(self._level + reserved - used, float(self.tokens_per_minute))

    @property
    def level(self) -> int:
        """Tokens that it would admit now; 0 while it owes some."""
        with self._lock:
            self._fill()
            return max(0, int(self._level))

    def resize(self, tokens_per_minute: int) -> None:
        """Promise another rate from now on; what was used stays used."""
        with self._lock:
            self._fill()
            self._level = min(self._level, float(tokens_per_minute))
            self.tokens_per_minute = tokens_per_minute

    def _fill(self) -> None:
        now = self._clock()
        grown = self._level + (now - self._seen) * self.tokens_per_minute / MINUTE
        self._level, self._seen = min(grown, float(self.tokens_per_minute)), now
