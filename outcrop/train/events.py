"""The child's diary: events.jsonl, one JSON object a line, appended to across restarts.

Knows the file and the order of a job's parts; nothing of what the events mean to whoever follows them.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outcrop.children import PARTS, TERMINAL
from outcrop.errors import OutcropError
from outcrop.train.disk import PAUSE, full


class StopAsked(OutcropError):
    """The run was asked to stop and did; carries how far it was."""

    def __init__(self, step: int = 0, tokens: int = 0) -> None:
        super().__init__("stopped on request")
        self.step, self.tokens = step, tokens


class StartAgain(OutcropError):
    """This life cannot go on, but a fresh one can, from the last checkpoint; the message says why."""


class Events:
    """Appends events; on a restart it first reads what earlier lives of the same job wrote."""

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open the file, dropping the torn last line that a killed process may have left."""
        self._now = now
        self.past = _read_whole_lines(path)
        self._file = path.open("ab", buffering=0)
        self._parts: dict[str, str] = {}
        # The courier's thread has its say too.
        self._lock = threading.Lock()
        for event in self.past:
            if event["kind"] == "part":
                self._parts[event["part"]] = event["status"]

    @property
    def over(self) -> bool:
        """True if an earlier life ended the job."""
        return any(event["kind"] in TERMINAL for event in self.past)

    def emit(self, kind: str, fields: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Append one event; terminal ones are on disk when this returns. Numbers must be finite."""
        at = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = {"at": at, "kind": kind, **(fields or {}), **more}
        line = json.dumps(event, ensure_ascii=False, allow_nan=False).encode("utf-8") + b"\n"
        with self._lock:
            self._append(line)
            if kind in TERMINAL:
                os.fsync(self._file.fileno())

    def _append(self, line: bytes) -> None:
        """Write a whole line. A full disk is waited for: it leaves no way to tell of a failure either."""
        handle = self._file.fileno()
        end, told = os.fstat(handle).st_size, False
        while True:
            try:
                if os.write(handle, line) == len(line):
                    return
            except OSError as error:
                if not full(error):
                    raise
            # The last bytes of room may have taken the first bytes of the line.
            os.ftruncate(handle, end)
            if not told:
                print("the disk is full: the job waits for room to tell how it goes", file=sys.stderr, flush=True)
            told = True
            time.sleep(PAUSE)

    def part(self, part: str, status: str) -> None:
        """Append a part's state unless it already was said: a resumed life repeats nothing that is over."""
        if self._parts.get(part) != status:
            self._parts[part] = status
            self.emit("part", part=part, status=status)

    def completed(self, part: str) -> bool:
        """True if the part is done, in this life or an earlier one."""
        return self._parts.get(part) == "Completed"

    def close_open_part(self, status: str) -> None:
        """Say how the part that is under way ended."""
        for part in PARTS:
            if self._parts.get(part) == "InProgress":
                self.part(part, status)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def _read_whole_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return [json.loads(line) for line in whole.splitlines()]
