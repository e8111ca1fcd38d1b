"""Which engine may start within the memory that all engines share, and which must end for it.

Pure: one `Room` is asked once a tick, in the order of the wants, and remembers what it gave. Knows bytes and who uses
what; no process, store or clock.
"""

from collections.abc import Mapping, Sequence

from outcrop.errors import OutcropError
from outcrop.serve.wants import Engine, Place, Want
from outcrop.sources.memory import gigabytes


class NoRoom(OutcropError):
    """An engine does not fit beside those that are promised, whatever else ends."""


class Room:
    """Memory for engines during one look at them.

    budget: bytes that all engines may hold; None: no bound. needs: bytes of an engine.
    """

    def __init__(
        self, budget: int | None, needs: Mapping[Place, int], wants: Sequence[Want], engines: Mapping[Place, Engine]
    ) -> None:
        self._budget, self._needs = budget, needs
        self._held = {other: engine.bytes for other, engine in engines.items() if engine.state != "down"}
        promised = {seat.place for want in wants if want.provisioned for seat in want.seats}
        self._promised = {other: held for other, held in self._held.items() if other in promised}
        users: dict[Place, list[Want]] = {}
        for want in wants:
            for seat in want.seats:
                users.setdefault(seat.place, []).append(want)
        idle = [
            (max((want.last_asked for want in users.get(other, ())), default=0.0), other)
            for other in self._held
            if not engines[other].leased and not any(want.pressing for want in users.get(other, ()))
        ]
        self._idle = [other for _, other in sorted(idle)]
        """Engines that may end, the least recently asked first."""
        self._claimed: set[Place] = set()

    def claim(self, want: Want, place: Place) -> list[Place] | None:
        """What must end before this engine may start: nothing (start it), some, or None: wait.

        None also where another want has claimed the same engine before. Raises NoRoom with the figures where waiting
        would not help.
        """
        if place in self._claimed:
            return None
        need = self._needs.get(place, 0)
        if self._budget is None or sum(self._held.values()) + need <= self._budget:
            self._take(want, place, need)
            return []
        promised = sum(self._promised.values())
        if promised + need > self._budget:
            deleting = "deleting a provisioned model throughput; or " if need <= self._budget else ""
            raise NoRoom(
                f"Too little memory: an engine over {place.weights.name} takes at least {gigabytes(need)}. All engines "
                f"may take {gigabytes(self._budget)}, and {gigabytes(promised)} of it are held for provisioned models. "
                f"What helps: {deleting}smaller weights; or a larger setting engine_memory_gb"
            )
        if not want.pressing:
            return None
        ended: list[Place] = []
        free = self._budget - sum(self._held.values())
        for other in self._idle:
            if free >= need:
                break
            free += self._held[other]
            ended.append(other)
        if free < need:
            return None
        for other in ended:
            del self._held[other]
            self._idle.remove(other)
        self._take(want, place, need)
        return ended

    def _take(self, want: Want, place: Place, need: int) -> None:
        self._claimed.add(place)
        self._held[place] = need
        if want.provisioned:
            self._promised[place] = need
