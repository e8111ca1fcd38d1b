"""From the engine's thread to the event loop: outputs are gathered, and the loop is woken once for all of a step.

Knows a loop and outputs; nothing of who reads them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from outcrop.engines.sequence import Output

Place = TypeVar("Place")
"""Whatever tells one reader from another."""


class Post(Generic[Place]):
    """deliver: called on the loop with all that has gathered, in its order."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Iterator[tuple[Place, Output]]], None]
    ) -> None:
        self._loop, self._deliver = loop, deliver
        self._bag: deque[tuple[Place, Output]] = deque()
        self._due = False

    def put(self, place: Place, output: Output) -> None:
        """Called on the engine's thread."""
        self._bag.append((place, output))
        # Looked at after the bag is filled, and unset before it is emptied: whichever comes first, nothing stays in it.
        if not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._due = False
        self._deliver(self._taken())

    def _taken(self) -> Iterator[tuple[Place, Output]]:
        while self._bag:
            yield self._bag.popleft()
