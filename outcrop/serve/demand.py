"""What is asked on demand: when each target was last asked, and how many calls wait for it.

Touched under the fleet's lock only. Knows names and a clock's readings; nothing of engines.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from outcrop.serve.wants import Want

RETRY_SECONDS: Final = 30.0
"""Within which a caller who was told to try again comes back: the SDKs wait 20 s at most."""


@dataclass(slots=True)
class Demand:
    """Targets that were asked lately. keep: seconds for which a target is wanted after its last call."""

    keep: float
    _asked: dict[str, float] = field(default_factory=dict)
    _waiting: "Counter[str]" = field(default_factory=Counter)
    _turned_away: set[str] = field(default_factory=set)
    """Targets whose last caller was told to try again and has not come back."""

    def ask(self, target: str, clock: float) -> None:
        """It is asked now."""
        self._asked[target] = clock

    def turn_away(self, target: str) -> None:
        """A caller was told to try again."""
        self._turned_away.add(target)

    def served(self, target: str) -> None:
        """A caller has got it."""
        self._turned_away.discard(target)

    def prolong(self, targets: Iterable[str], clock: float) -> None:
        """Those of them that were asked lately are as if asked now."""
        for target in targets:
            if target in self._asked:
                self._asked[target] = clock

    @contextmanager
    def waiting(self, target: str) -> Iterator[None]:
        """A call waits for it."""
        self._waiting[target] += 1
        try:
            yield
        finally:
            self._waiting[target] -= 1
            if not self._waiting[target]:
                del self._waiting[target]

    @property
    def queue(self) -> dict[str, int]:
        """Calls that wait, by target."""
        return dict(self._waiting)

    def recent(self, clock: float) -> list[str]:
        """What was asked lately; the rest is forgotten."""
        self._asked = {target: asked for target, asked in self._asked.items() if clock - asked <= self._kept(target)}
        self._turned_away &= self._asked.keys()
        return list(self._asked)

    def _kept(self, target: str) -> float:
        return max(self.keep, RETRY_SECONDS) if target in self._turned_away else self.keep

    def mark(self, want: Want) -> Want:
        """The want with what is known of its callers."""
        return replace(want, last_asked=self._asked.get(want.target, 0.0), waited=self._waiting[want.target] > 0)

    def waits(self, targets: Iterable[str]) -> bool:
        """Whether a call waits for any of them."""
        return any(self._waiting[target] for target in targets)

    def drop(self, targets: Iterable[str]) -> None:
        """Forget them until they are asked again."""
        for target in targets:
            self._asked.pop(target, None)
