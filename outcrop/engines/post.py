"""From the engine's thread to the event loop: what a step tells its requests is gathered, and delivered all at once.

While the engine's thread still tells, nobody is woken: two threads that want the interpreter at the same time hand it
to and fro, at a cost for every token. Knows a loop and outputs; nothing of who reads them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from outcrop.engines.sequence import Output

Mail = tuple[Any, Output]
"""Whatever tells a reader's requests apart, and what one of them is told."""

Deliver = Callable[[Sequence[Mail]], None]
"""Takes a reader's mail on the event loop, in its order."""


class Post:
    """One engine's outputs for all its readers."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._bag: deque[tuple[Deliver, Mail]] = deque()
        self._due = False

    def put(self, deliver: Deliver, place: Any, output: Output) -> None:
        """Called on the engine's thread; `ring` follows."""
        self._bag.append((deliver, (place, output)))

    def ring(self) -> None:
        """Called on the engine's thread when a step has told all that it tells."""
        # Looked at after the bag is filled, and unset before it is emptied: whichever comes first, nothing stays in it.
        if self._bag and not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._empty)

    def _empty(self) -> None:
        self._due = False
        sorted_: dict[Deliver, list[Mail]] = {}
        while self._bag:
            deliver, mail = self._bag.popleft()
            sorted_.setdefault(deliver, []).append(mail)
        for deliver, mails in sorted_.items():
            deliver(mails)
