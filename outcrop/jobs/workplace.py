"""One job's directory as the scheduler uses it: the small files beside the child's own, and where its weights go.

Knows paths and forms; nothing of processes, the store or what is decided.
"""

import os
import shutil
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from outcrop.durable import replace_file, sync
from outcrop.errors import OutcropError
from outcrop.records import new_id

TAIL_BYTES: Final = 8192

COPIES: Final = ("data", "plan", "model.draft")
"""Folders of a job that a child can make again: the customer's files, their tokens, weights half written."""
TRAINED: Final = ("checkpoint", "model")
"""Folders that hold what was trained."""


@dataclass(frozen=True, slots=True)
class Start:
    """start.json: what the latest child was started with."""

    attempts: int
    """Starts since the last progress, this one included."""
    checkpoint: int
    """The step from which this child could go on; a later one is progress."""
    endpoint: str
    expires: datetime | None = None
    """End of the credentials that it was given."""
    keys: tuple[str, ...] = ()
    """Access keys that the job's children were given and that were not ended yet, the latest child's last."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """The directory of one job."""

    root: Path

    @property
    def spec(self) -> Path:
        """What the child is told."""
        return self.root / "spec.json"

    @property
    def events(self) -> Path:
        """What the child tells."""
        return self.root / "events.jsonl"

    @property
    def stop(self) -> Path:
        """A file that asks the child to stop."""
        return self.root / "stop"

    def latest_start(self) -> Start | None:
        """What the latest child was started with; None before the first start.

        Raises OutcropError when it is broken.
        """
        path = self.root / "start.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Start)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as fault:
            raise OutcropError(f"cannot read the job's {path}: {fault}") from fault

    def note_start(self, start: Start) -> None:
        """Keep what a child is about to be started with."""
        replace_file(self.root / "start.json", msgspec.json.encode(start).decode() + "\n", mode=0o600)

    def excuse(self) -> None:
        """Take the latest start off the count: the child is ended for no fault of its own."""
        start = self.latest_start()
        if start is not None:
            self.note_start(replace(start, attempts=start.attempts - 1))

    def model_id(self) -> str:
        """The id of the custom model that comes of this job: drawn once, the same after any crash."""
        path = self.root / "model-id"
        if not path.exists():
            replace_file(path, new_id() + "\n", mode=0o600)
        return path.read_text().strip()

    def deliver(self, target: Path) -> None:
        """Move the final weights to where models are kept; no effect when they are there already.

        Raises OutcropError when they are in neither place.
        """
        source = self.root / "model"
        if not target.exists():
            if not source.is_dir():
                raise OutcropError(f"the training process reported success but left no weights in {source}")
            source.rename(target)
            sync(target.parent)

    def tail(self) -> str:
        """The end of the child's log; empty when it wrote none."""
        try:
            with (self.root / "log.txt").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - TAIL_BYTES))
                return file.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def keep(self, reason: str) -> None:
        """Let `sweep` spare what was trained: a fault of ours ended the job, and a person may want to save it."""
        if any((self.root / name).exists() for name in TRAINED):
            text = f"{reason}\nWhat was trained lies beside this file. Nothing will use it: remove it at will.\n"
            replace_file(self.root / "kept.txt", text, mode=0o600)

    def sweep(self) -> None:
        """Remove what only a running child needs: its data, shards, checkpoints and weights. Its story stays."""
        spared = TRAINED if (self.root / "kept.txt").exists() else ()
        for name in (*COPIES, *TRAINED):
            if name not in spared and (self.root / name).exists():
                shutil.rmtree(self.root / name)
