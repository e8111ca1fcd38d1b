"""Where a job's child process runs: four verbs, and the local ones.

Knows a directory, an environment and the kernel; nothing of jobs, stores, events or what the child does. A handle is a
string that the store keeps, so that a later server finds the child again. One thread at a time may use an executor.
"""

import fcntl
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from outcrop.errors import OutcropError

COMMAND: Final = ("-P", "-m", "outcrop.train.run")
"""The training child, as arguments of this Python; -P, as the server's working directory may hold a `datasets.py`."""

BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Child:
    """What can be known of a child now."""

    alive: bool
    code: int | None = None
    """Its exit status, a signal's number negated; None while it lives and where nobody was told (an adopted child)."""


class Executor(Protocol):
    """Starts children in job directories and knows them again by their handles."""

    def start(self, directory: Path, environment: Mapping[str, str]) -> str:
        """Start a child on the directory with these variables beside its surroundings; its handle.

        Raises OSError when the machine refuses.
        """
        ...

    def poll(self, handle: str) -> Child:
        """How the child is now."""
        ...

    def stop(self, handle: str) -> None:
        """End the child and all it started at once; no effect on one that has ended."""
        ...

    def find(self, directory: Path) -> str | None:
        """The handle of the child that works in the directory, whoever started it; None where none does."""
        ...


class LocalExecutor:
    """Children as processes of this machine, each in a session of its own so that they outlive the server.

    A handle is pid:start-time@boot, so that a recycled pid is never taken for the child. `lock` in the directory, held
    by the child with flock and holding its pid, says which child works there even where the handle was lost.
    """

    def __init__(self, surroundings: Mapping[str, str], command: Sequence[str] | None = None) -> None:
        """surroundings: the server's own environment; command: what is run with the directory as its last argument."""
        import sys

        self._command = tuple(command) if command else (sys.executable, *COMMAND)
        # The child has its role's rights and no others: nothing of the server's own AWS set-up may reach it.
        self._surroundings = {name: value for name, value in surroundings.items() if not name.startswith("AWS_")}
        self._codes: dict[str, int] = {}

    def start(self, directory: Path, environment: Mapping[str, str]) -> str:
        """Start the command on the directory; stdout and stderr are appended to its log.txt."""
        raise NotImplementedError

    def poll(self, handle: str) -> Child:
        """How the process is now; a zombie of ours is reaped."""
        raise NotImplementedError

    def stop(self, handle: str) -> None:
        """Kill the process and its session's group."""
        raise NotImplementedError

    def find(self, directory: Path) -> str | None:
        """The process that holds the directory's lock."""
        raise NotImplementedError
