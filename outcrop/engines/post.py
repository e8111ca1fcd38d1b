"""From the engine's thread to the event loop: what requests are told is gathered, and delivered in few goes.

A request's first piece and its last one go as soon as the step that made them has told all its requests. What lies
between is gathered for an interval, so that nobody is woken for each token: of what a token costs beyond the model most
is the message that it comes in. Knows a loop and outputs; nothing of who reads them.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from outcrop.engines.sequence import Output

Mail = tuple[Any, Output]
"""Whatever tells a reader's requests apart, and what one of them is told."""

Deliver = Callable[[Sequence[Mail]], None]
"""Takes a reader's mail on the event loop, in its order."""


@dataclass(slots=True, eq=False)
class _Request:
    """What one request is to be told."""

    deliver: Deliver
    place: Any
    kept: list[Output] = field(default_factory=list)
    begun: bool = False

    def mails(self) -> list[tuple[Deliver, Mail]]:
        """All that is kept, in one piece; a failure is told by itself, as its text is another one."""
        kept, self.kept, self.begun = self.kept, [], True
        failed = [kept.pop()] if kept[-1].failure else []
        whole = [replace(kept[-1], text="".join(output.text for output in kept))] if len(kept) > 1 else kept
        return [(self.deliver, (self.place, output)) for output in (*whole, *failed)]


class Post:
    """One engine's outputs for all its readers. interval: seconds that pieces are gathered; 0: each is told at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval: float = 0.0) -> None:
        self._loop, self._interval = loop, interval
        self._lock = threading.Lock()
        """Over what both threads use: `_filled`, the requests' own, and `_ticking`."""
        self._filled: list[_Request] = []
        self._ticking = False
        """Whether the loop looks at `_filled` within an interval, unasked."""
        self._bag: deque[tuple[Deliver, Mail]] = deque()
        self._due = False

    def slot(self, deliver: Deliver, place: Any) -> Callable[[Output], None]:
        """Where a request's outputs are put, on the engine's thread; `ring` follows."""
        request = _Request(deliver, place)

        def put(output: Output) -> None:
            with self._lock:
                if not request.kept:
                    self._filled.append(request)
                request.kept.append(output)

        return put

    def ring(self) -> None:
        """Called on the engine's thread when a step has told all that it tells."""
        with self._lock:
            # Where the loop has long heard of nobody it does not look by itself.
            self._take([one for one in self._filled if not self._ticking or not one.begun or one.kept[-1].finish])
        # Looked at after the bag is filled, and unset before it is emptied: whichever comes first, nothing stays in it.
        if self._bag and not self._due:
            self._due = True
            self._loop.call_soon_threadsafe(self._empty)

    def _take(self, requests: list[_Request]) -> None:
        for request in requests:
            self._bag.extend(request.mails())
        if requests:
            self._filled = [request for request in self._filled if request.kept]

    def _empty(self) -> None:
        self._due = False
        sorted_: dict[Deliver, list[Mail]] = {}
        while self._bag:
            deliver, mail = self._bag.popleft()
            sorted_.setdefault(deliver, []).append(mail)
        for deliver, mails in sorted_.items():
            deliver(mails)
        with self._lock:
            if self._interval and not self._ticking:
                self._ticking = True
                self._loop.call_later(self._interval, self._tick)

    def _tick(self) -> None:
        with self._lock:
            self._ticking = False
            self._take(list(self._filled))
        if self._bag:
            self._empty()
