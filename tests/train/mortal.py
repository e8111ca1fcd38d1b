"""A training child that dies, or stands still, at a chosen instant.

It is the real signal (9, or the one that stops a process), sent by the child itself at the count-th audit event
(PEP 578) of a name with a path that holds a pattern: just before a file is opened, a folder renamed or removed. Nothing
can be caught or tidied up.
"""

import os
import sys
from typing import Any


def signal_at(number: int, event: str, pattern: str, count: int) -> None:
    """Send this process a signal before the count-th such event."""
    left = count

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if name == event and arguments and pattern in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    sys.addaudithook(hook)
