"""What a child tells: events.jsonl read as it grows, and the account of it that the scheduler decides by.

Knows the form of the lines; nothing of jobs, processes or the store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

TERMINAL: Final = frozenset({"done", "failed", "stopped"})


@dataclass(frozen=True, slots=True)
class Event:
    """One line of events.jsonl."""

    at: datetime
    kind: str
    members: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that the line says."""


class Follower:
    """Reads the whole lines that were added to events.jsonl since it last looked."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def new(self) -> Iterator[Event]:
        """The events of the lines that are new."""
        raise NotImplementedError
