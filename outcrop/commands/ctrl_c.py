"""Ctrl-C that cannot get lost on its way."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Inside, Ctrl-C raises KeyboardInterrupt as ever; the function given raises it again where it was asked for.

    Python raises it wherever it is, and where that is a destructor or a callback of a garbage collection or an import
    it is printed and forgotten: whoever loops for long has to ask. To be used in the main thread.
    """
    asked = False

    def hear(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def obey() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, hear)
    try:
        yield obey
    finally:
        signal.signal(signal.SIGINT, before)
