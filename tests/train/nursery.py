"""Training children without their seconds of imports: python -m tests.train.nursery imports, then forks one a line.

A forked child runs the same `main` as `python -m outcrop.train.run`; a start from nothing is what every job of the
acceptance tests has. Forking is safe here as nothing was computed: the process has one thread, and is asked so before
each fork. Lines are JSON, {"directory", "environment", "moment"} in; {"started"} or {"ended", "status"} out.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Child:
    """One forked child, with as much of Popen's verbs as tests use."""

    def __init__(self, nursery: "Nursery", pid: int) -> None:
        self._nursery, self.pid = nursery, pid

    @property
    def returncode(self) -> int | None:
        """Its exit status once `poll` or `wait` has seen it; a signal's number negated."""
        return self._nursery.ended.get(self.pid)

    def poll(self) -> int | None:
        """Its exit status, None while it lives."""
        self._nursery.listen(0.0)
        return self.returncode

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit status; raises TimeoutExpired while it lives."""
        deadline = time.monotonic() + timeout
        while (status := self.returncode) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired("the training child", timeout)
            self._nursery.listen(left)
        return status

    def send_signal(self, number: int) -> None:
        """A signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Signal 9."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """The forking process, from the outside."""

    def __init__(self) -> None:
        self.ended: dict[int, int] = {}
        self._started: set[int] = set()
        command = [sys.executable, "-m", "tests.train.nursery"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._rest = b""

    def start(self, directory: Path, environment: dict[str, str], moment: tuple[int, str, str, int] | None) -> Child:
        """A child at work in the directory, its output in log.txt; moment: see mortal.py."""
        asked = {"directory": str(directory), "environment": environment, "moment": moment}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        while (started := self.listen(60.0)) is None:
            pass
        self._started.add(started)
        return Child(self, started)

    def listen(self, seconds: float) -> int | None:
        """Take in what is told within so many seconds; the pid of a child that was started."""
        pipe = self._process.stdout
        assert pipe is not None
        while b"\n" not in self._rest:
            if not select.select([pipe], [], [], seconds)[0]:
                return None
            told = pipe.read(4096)
            assert told, "the nursery has ended; what it said is above"
            self._rest += told
        line, _, self._rest = self._rest.partition(b"\n")
        said = json.loads(line)
        if "started" in said:
            return int(said["started"])
        self.ended[said["ended"]] = said["status"]
        return None

    def close(self) -> None:
        """End it, and the children that a failed test left."""
        self.listen(0.0)
        for pid in self._started - self.ended.keys():
            os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


def tell(**members: Any) -> None:
    os.write(1, json.dumps(members).encode() + b"\n")


def become(directory: str, environment: dict[str, str], moment: tuple[int, str, str, int] | None) -> None:
    """Be the training child of a directory; does not return."""
    from outcrop.train.leave import leave
    from outcrop.train.run import main
    from tests.train.mortal import signal_at

    log = os.open(Path(directory) / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.update(environment)
    if moment is not None:
        signal_at(*moment)
    leave(main([directory]))


def reap() -> None:
    """Tell of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell(ended=pid, status=os.waitstatus_to_exitcode(status))


def threads() -> int:
    """Of this process, also those that Python knows nothing of, where the system tells them."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()


def serve() -> None:
    """Fork a child a line, until standard input ends."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    rest = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            reap()
        if 0 not in ready:
            continue
        if not (read := os.read(0, 65536)):
            return
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            assert threads() == 1, "a process with threads must not be forked"
            pid = os.fork()
            if pid == 0:
                become(**json.loads(line))
            tell(started=pid)


if __name__ == "__main__":
    # Of what is imported, nothing may run: a thread that is lost in a fork leaves its locks behind.
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen2.modeling_qwen2  # noqa: F401

    import outcrop.train.run
    import outcrop.train.text  # noqa: F401
    from outcrop.train.leave import leave

    serve()
    leave(0)
