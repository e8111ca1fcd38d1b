"""Where a job's child process runs: four verbs, and the local ones.

Knows a directory, an environment and the kernel; nothing of jobs, stores, events or what the child does. A handle is a
string that the store keeps, so that a later server finds the child again. One thread at a time may use an executor.
"""

import fcntl
import os
import signal
import sys
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
        self._command = tuple(command) if command else (sys.executable, *COMMAND)
        # The child has its role's rights and no others: nothing of the server's own AWS set-up may reach it.
        self._surroundings = {name: value for name, value in surroundings.items() if not name.startswith("AWS_")}
        self._codes: dict[str, int] = {}

    def start(self, directory: Path, environment: Mapping[str, str]) -> str:
        """Start the command on the directory; stdout and stderr are appended to its log.txt.

        posix_spawn and not subprocess.Popen, whose objects complain of children that outlive them, as ours shall.
        """
        log = os.open(directory / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            pid = os.posix_spawn(
                self._command[0],
                [*self._command, str(directory)],
                {**self._surroundings, **environment},
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE),
            )
        finally:
            os.close(log)
        _, handle = _sight(pid)
        assert handle is not None, "nobody else reaps our children"
        return handle

    def poll(self, handle: str) -> Child:
        """How the process is now; a zombie of ours is reaped, and what it left of its group is killed."""
        pid = _pid(handle)
        state, present = _sight(pid)
        if present != handle:
            return Child(alive=False, code=self._codes.get(handle))
        if state not in ("Z", "X"):
            return Child(alive=True)
        # The zombie still keeps its pid from being given away: the only moment at which its group is surely its own.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ChildProcessError):  # another server's child, which init will reap
            _, status = os.waitpid(pid, os.WNOHANG)
            self._codes[handle] = os.waitstatus_to_exitcode(status)
        return Child(alive=False, code=self._codes.get(handle))

    def stop(self, handle: str) -> None:
        """Kill the process and its group; it is gone when `poll` says so."""
        pid = _pid(handle)
        state, present = _sight(pid)
        if present == handle and state not in ("Z", "X"):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)

    def find(self, directory: Path) -> str | None:
        """The process that holds the directory's lock.

        Raises OutcropError when the lock is held by a process that cannot be named.
        """
        try:
            lock = (directory / "lock").open("rb")
        except FileNotFoundError:
            return None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as fault:
                text = lock.read().strip()
                handle = _sight(int(text))[1] if text.isdigit() else None
                if handle is None:
                    raise OutcropError(
                        f"{directory / 'lock'} is held, but not by the process that it names ({text.decode()!r}): "
                        f"end the process that `fuser {directory / 'lock'}` shows"
                    ) from fault
                return handle
        return None


def _pid(handle: str) -> int:
    return int(handle.partition(":")[0])


def _sight(pid: int) -> tuple[str, str | None]:
    """State letter and handle of the process that has this pid now; no handle where none has."""
    try:
        # The second field, the program's name in brackets, may itself hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], f"{pid}:{fields[19]}@{BOOT.read_text()[:8]}"
    except (FileNotFoundError, ProcessLookupError):
        return "", None
