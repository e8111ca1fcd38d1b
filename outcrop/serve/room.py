"""Which engine may start within the memory that all engines share, and which must end for it.

Pure: one `Room` is asked once a tick, in the order of the wants, and remembers what it gave. Knows bytes and who uses
what; no process, store or clock.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from outcrop.errors import OutcropError
from outcrop.serve.wants import Engine, Want
from outcrop.sources.memory import gigabytes


class NoRoom(OutcropError):
    """An engine does not fit beside those that are promised, whatever else ends."""


class Room:
    """Memory for engines during one look at them.

    budget: bytes that all engines may hold; None: no bound. needs: bytes of an engine over these weights.
    """

    def __init__(
        self, budget: int | None, needs: Mapping[Path, int], wants: Sequence[Want], engines: Mapping[Path, Engine]
    ) -> None:
        self._budget, self._needs = budget, needs
        self._held = {path: engine.bytes for path, engine in engines.items() if engine.state != "down"}
        promised = {seat.weights for want in wants if want.provisioned for seat in want.seats}
        self._promised = {path: held for path, held in self._held.items() if path in promised}
        users: dict[Path, list[Want]] = {}
        for want in wants:
            for seat in want.seats:
                users.setdefault(seat.weights, []).append(want)
        idle = [
            (max((want.last_asked for want in users.get(path, ())), default=0.0), path)
            for path in self._held
            if not engines[path].leased and not any(want.pressing for want in users.get(path, ()))
        ]
        self._idle = [path for _, path in sorted(idle)]
        """Engines that may end, the least recently asked first."""
        self._claimed: set[Path] = set()

    def claim(self, want: Want, weights: Path) -> list[Path] | None:
        """What must end before an engine over these weights may start: nothing (start it), some, or None: wait.

        None also where another want has claimed the same engine before. Raises NoRoom with the figures where waiting
        would not help.
        """
        if weights in self._claimed:
            return None
        need = self._needs.get(weights, 0)
        if self._budget is None or sum(self._held.values()) + need <= self._budget:
            self._take(want, weights, need)
            return []
        promised = sum(self._promised.values())
        if promised + need > self._budget:
            raise NoRoom(
                f"Too little memory: an engine over {weights.name} takes at least {gigabytes(need)}. All engines may "
                f"take {gigabytes(self._budget)}, and {gigabytes(promised)} of it are held for provisioned models. "
                "What helps: deleting a provisioned model throughput; or smaller weights; or a larger setting "
                "engine_memory_gb"
            )
        if not want.pressing:
            return None
        ended: list[Path] = []
        free = self._budget - sum(self._held.values())
        for path in self._idle:
            if free >= need:
                break
            free += self._held[path]
            ended.append(path)
        if free < need:
            return None
        for path in ended:
            del self._held[path]
            self._idle.remove(path)
        self._take(want, weights, need)
        return ended

    def _take(self, want: Want, weights: Path, need: int) -> None:
        self._claimed.add(weights)
        self._held[weights] = need
        if want.provisioned:
            self._promised[weights] = need
