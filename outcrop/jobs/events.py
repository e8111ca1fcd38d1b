"""What a child tells: events.jsonl read as it grows, and the account of it that the scheduler decides by.

Knows the form of the lines; nothing of jobs, processes or the store.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from outcrop.children import TERMINAL
from outcrop.errors import OutcropError

Aware = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Event:
    """One line of events.jsonl."""

    at: datetime
    kind: str
    members: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that the line says."""


@dataclass(slots=True)
class Account:
    """What all events so far come to."""

    checkpoint: int = -1
    """The latest step from which a new child can go on; -1: none."""
    tokens: dict[int, int] = field(default_factory=dict)
    """Tokens by step; a step that a resumed child did again counts once."""
    ending: Event | None = None
    """The child's last word, once it is spoken."""

    def add(self, event: Event) -> None:
        """Take one more event into account."""
        if event.kind == "checkpoint":
            self.checkpoint = max(self.checkpoint, int(event.members["step"]))
        elif event.kind == "step":
            self.tokens[int(event.members["step"])] = int(event.members["tokens"])
        elif event.kind in TERMINAL:
            self.ending = event


class Follower:
    """Reads the whole lines that were added to events.jsonl since it last looked."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Iterator[Event]:
        """The events of the new lines; a line counts as read when the next one is asked for.

        So an event whose heeding failed comes again. Raises OutcropError when what was read before is gone.
        """
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            if self._offset:
                raise OutcropError(f"{self._path} has vanished") from None
            return
        with file:
            if os.fstat(file.fileno()).st_size < self._offset:
                raise OutcropError(f"{self._path} is shorter than it was")
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                event = _event(line)
                if event is None:
                    raise OutcropError(f"{self._path} has a broken line at byte {self._offset}")
                yield event
                self._offset += len(line)


def append(path: Path, *events: Event) -> None:
    """Add events of our own while no child runs, and first drop the line that a killed child left unended."""
    with path.open("a+b") as file:
        file.seek(0)
        whole = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(whole)
        for event in events:
            file.write(msgspec.json.encode({"at": event.at, "kind": event.kind, **event.members}) + b"\n")


def _event(line: bytes) -> Event | None:
    try:
        members = msgspec.json.decode(line, type=dict[str, Any])
        return Event(at=msgspec.convert(members.pop("at"), Aware), kind=str(members.pop("kind")), members=members)
    except (msgspec.MsgspecError, KeyError):
        return None
