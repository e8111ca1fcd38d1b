"""A request to stop, heard while the work cannot ask for it: in imports, loads, merges and transfers.

Those may be cut off at any instant, as a kill may come at any instant: nothing that counts is ever half written. The
training loop hears for itself, since it has something to keep. Knows a question and a way out; nothing of the work.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

PERIOD: Final = 0.1
"""Seconds between two questions."""


@contextmanager
def listening(asked: Callable[[], bool], leave: Callable[[], None]) -> Iterator[None]:
    """While this is open a thread asks, and on a yes calls `leave`, which ends the process and does not return."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(PERIOD):
            if asked():
                leave()

    thread = threading.Thread(target=listen, name="ear", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
