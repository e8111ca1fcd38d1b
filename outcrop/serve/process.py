"""One engine process: started, looked at, ended. Knows a command line and three files; nothing of models or requests.

The engine ends when its standard input does, and only this process holds the other end: an engine never outlives the
server, however the server ends.
"""

import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

from outcrop.children import ENGINE_KEY

LOG_BYTES: Final = 10_000_000
"""A log that has grown beyond this is begun anew at the engine's next start."""

TAIL_BYTES: Final = 1500
"""Of the log, for a failureMessage: AWS's member takes 2,048 characters."""

END_SECONDS: Final = 5.0
"""An engine that has not ended by then is killed: it keeps nothing that could be lost."""

State = Literal["loading", "serving", "dead"]


class EngineProcess:
    """A running engine; it is started by making one.

    log: where its output is added; ready: the file in which it tells its port or its socket. Raises OSError when the
    program cannot be started at all.
    """

    def __init__(self, command: Sequence[str], log: Path, ready: Path) -> None:
        self.key = secrets.token_urlsafe(24)
        self.log, self._ready = log, ready
        self._swept = False
        ready.unlink(missing_ok=True)
        grown = log.exists() and log.stat().st_size > LOG_BYTES
        with log.open("wb" if grown else "ab") as output:
            self._log_start = output.tell()
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, ENGINE_KEY: self.key},
                # A person's Ctrl-C is meant for the server, which ends its engines in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def state(self) -> State:
        """Loading until its ready file is there, dead when it has ended for whatever reason."""
        if self._process.poll() is not None:
            self._sweep()
            return "dead"
        return "serving" if self._ready.exists() else "loading"

    def url(self) -> str:
        """Where it answers; only once it serves."""
        port = self._told().get("port")
        return f"http://127.0.0.1:{port}" if port is not None else "http://engine"

    def socket(self) -> Path | None:
        """The socket at which it answers, if it is no port; only once it serves."""
        path = self._told().get("socket")
        return Path(path) if path is not None else None

    def trunk(self) -> int | None:
        """The port at which it is asked for streams, if it has one for them; only once it serves."""
        port: int | None = self._told().get("trunk")
        return port

    def _told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ready.read_text())
        return found

    def story(self) -> str:
        """How it ended and the last of what it wrote."""
        code = self._process.poll()
        how = "still runs" if code is None else f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - TAIL_BYTES))
            tail = file.read().decode("utf-8", "replace").strip()
        return f"the engine {how}: {tail}" if tail else f"the engine {how}"

    def memory(self) -> int:
        """Bytes of memory that it and what it started hold: pages of files can be given back; 0 where nobody tells."""
        return _memory(self.pid)

    def _sweep(self) -> None:
        """End what it had started, once, right after its own end: it may hold memory that the next start needs."""
        if self._swept:
            return
        self._swept = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # There is nobody; macOS says it the second way.

    def ask_end(self) -> None:
        """Close its standard input: it ends by itself."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    def end(self) -> None:
        """End it and wait until it is gone."""
        serving = self.state() == "serving"
        self.ask_end()
        if not serving:
            # While it loads it may not look at its input for long, and there is nothing yet to end in order.
            self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._sweep()
        self._ready.unlink(missing_ok=True)


def _memory(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE)
    return (int(found[1]) * 1024 if found else 0) + sum(_memory(int(child)) for child in children.split())
