"""Calls to engines that may take long, beside the fleet's loop: one thread an engine, each move once at a time.

An engine that hangs keeps nobody waiting but those who want it. Knows moves as names and threads; nothing of engines.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from outcrop.serve.moves import Move
from outcrop.serve.wants import Place


class Errands:
    """What is under way. All but `end` is for the loop's thread alone."""

    def __init__(self) -> None:
        self._threads: dict[Place, ThreadPoolExecutor] = {}
        self._under_way: dict[Move, Future[None]] = {}

    def begin(self, place: Place, move: Move, work: Callable[[], None]) -> None:
        """Do it once what was begun before on the same engine is done; nothing, while the same move is under way."""
        if move in self._under_way:
            return
        if place not in self._threads:
            self._threads[place] = ThreadPoolExecutor(1, thread_name_prefix=f"errands-{place.weights.name}")
        self._under_way[move] = self._threads[place].submit(work)

    def under_way(self) -> frozenset[Move]:
        """What was begun and not yet reaped."""
        return frozenset(self._under_way)

    def reap(self) -> None:
        """Forget what is done; raises what one of them raised."""
        for move, errand in list(self._under_way.items()):
            if errand.done():
                del self._under_way[move]
                if not errand.cancelled():
                    errand.result()

    def drop(self, place: Place) -> None:
        """Begin nothing more on an engine that has ended; what is under way there breaks off by itself."""
        if thread := self._threads.pop(place, None):
            thread.shutdown(wait=False, cancel_futures=True)

    def end(self) -> None:
        """As drop for every engine, once what is under way has broken off."""
        for thread in self._threads.values():
            thread.shutdown(wait=True, cancel_futures=True)
