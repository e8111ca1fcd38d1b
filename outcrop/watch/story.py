"""A job's events so far as what a person wants to know of it. Knows the events' members and no screen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from outcrop.children import PARTS, TERMINAL
from outcrop.jobs.events import Event

TITLES: Final = dict(zip(PARTS, ("validation", "data processing", "training"), strict=True))
"""The parts of a job in their order, as people read them."""


@dataclass(slots=True)
class Part:
    """One of a job's parts."""

    status: str = "NotStarted"
    began: datetime | None = None
    ended: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took, once it is over."""
        return (self.ended - self.began).total_seconds() if self.began and self.ended else None


@dataclass(frozen=True, slots=True)
class Remark:
    """A log event."""

    at: datetime
    level: str
    message: str


@dataclass(slots=True)
class Story:
    """What all events so far come to; a step that a resumed child did again stands once, with its later values."""

    parts: dict[str, Part] = field(default_factory=lambda: {part: Part() for part in PARTS})
    plan: Mapping[str, Any] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    """How far the reading of the data is, where that takes long."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    losses: dict[int, float] = field(default_factory=dict)
    """Smoothed training loss by step."""
    validation: dict[int, dict[int, float]] = field(default_factory=dict)
    """Loss by step and validation set."""
    step: Event | None = None
    """The latest one."""
    checkpoint: Event | None = None
    remarks: list[Remark] = field(default_factory=list)
    ending: Event | None = None

    def add(self, event: Event) -> None:
        """Take one more event into account; of kinds that it does not know only their time."""
        members = event.members
        if event.kind == "part":
            self._part(event)
        elif event.kind == "plan":
            self.plan = members
        elif event.kind == "progress":
            self.progress = members
        elif event.kind == "machine":
            self.machine = members
        elif event.kind == "step":
            self.step = event
            # Events of earlier versions tell no smoothed loss.
            self.losses[int(members["step"])] = float(members.get("smoothed_loss", members["loss"]))
        elif event.kind == "eval":
            self.validation.setdefault(int(members["step"]), {})[int(members["validator"])] = float(members["loss"])
        elif event.kind == "checkpoint":
            self.checkpoint = event
        elif event.kind == "log":
            self.remarks.append(Remark(event.at, str(members["level"]), str(members["message"])))
        elif event.kind in TERMINAL:
            self.ending = event

    @property
    def warnings(self) -> list[Remark]:
        """What a person should act on."""
        return [remark for remark in self.remarks if remark.level == "warning"]

    def _part(self, event: Event) -> None:
        part = self.parts[event.members["part"]]
        part.status = event.members["status"]
        if part.status == "InProgress":
            part.began = part.began or event.at
        else:
            part.ended = event.at
