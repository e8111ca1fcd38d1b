"""How far the reading of a big file is, told now and then while it lasts. Knows a clock and who is told; no file."""

import time
from collections.abc import Callable
from typing import Any, Final

EVERY: Final = 2.0
"""Seconds between two words; what takes less is not spoken of."""


class Progress:
    """Tells of one file at a time; `emit` gets the members of a progress event."""

    def __init__(self, emit: Callable[..., None] = lambda **_: None, now: Callable[[], float] = time.monotonic) -> None:
        self._emit, self._now = emit, now
        self._members: dict[str, Any] = {}
        self._done, self._told = 0, now()

    def begin(self, doing: str, file: str, total: int, unit: str) -> None:
        """From now on it is this that is done; `unit` is what `total` counts: bytes or records."""
        self._members = {"doing": doing, "file": file, "total": total, "unit": unit}
        self._done, self._told = 0, self._now()

    def move(self, count: int) -> None:
        """So much more is done."""
        self._done = min(self._done + count, self._members["total"])
        if self._now() - self._told >= EVERY:
            self._told = self._now()
            self._emit(done=self._done, **self._members)
