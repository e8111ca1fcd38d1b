"""A training child that dies at a chosen instant: python mortal.py EVENT PATTERN COUNT DIR.

It is the real child, and the real signal 9, sent by itself at the COUNT-th audit event (PEP 578) of that name with a
path that holds PATTERN: just before a file is opened, a folder renamed or removed. Nothing can be caught or tidied up.
"""

import os
import signal
import sys
from typing import Any

from outcrop.train.leave import leave
from outcrop.train.run import main


def die_at(event: str, pattern: str, count: int) -> None:
    """Kill this process before the count-th such event."""
    left = count

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if name == event and arguments and pattern in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


if __name__ == "__main__":
    die_at(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    leave(main(sys.argv[4:]))
