"""What a run needs to go on as if nothing had happened, on disk: whole or not there at all.

A checkpoint is a folder of tensors (safetensors) and a small JSON state, made under another name, synced and renamed.
The last two are kept. Knows tensors and files; nothing of losses, models or events.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from outcrop.errors import OutcropError

KEPT: Final = 2
ROOM_FOR: Final = 3
"""Checkpoints that are on disk at once while one is written."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One moment of a run."""

    step: int
    """The next step to do."""
    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Checkpoints:
    """The checkpoints of one job in its folder; `key` names the work, and those of other work are not taken up."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep a moment; OSError (a full disk) leaves the earlier ones as they are."""
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / ".draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            try:
                save_file(
                    {name: tensor.contiguous() for name, tensor in tensors.items()}, draft / "tensors.safetensors"
                )
            except SafetensorError as error:
                raise OSError(f"the checkpoint could not be written: {error}") from error
            content = json.dumps({"key": self._key, "step": step, "state": dict(state)})
            (draft / "state.json").write_text(content, encoding="utf-8")
            target = self._folder / f"step-{step:09d}"
            shutil.rmtree(target, ignore_errors=True)
            settle(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self._found()[KEPT:]:
            shutil.rmtree(old)

    def load(self) -> Checkpoint | None:
        """The latest moment of this work; None where there is none."""
        for folder in self._found():
            content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            if content["key"] == self._key:
                tensors = load_file(folder / "tensors.safetensors")
                return Checkpoint(step=content["step"], tensors=tensors, state=content["state"])
        return None

    def at(self, step: int) -> Checkpoint:
        """The moment of one step of this work; raises OutcropError where it is gone."""
        folder = self._folder / f"step-{step:09d}"
        if not folder.is_dir():
            raise OutcropError(f"{folder} is gone, and with it the weights that were to be delivered")
        return Checkpoint(step=step, tensors=load_file(folder / "tensors.safetensors"), state={})

    @property
    def best(self) -> "Checkpoints":
        """The weights that early stopping may deliver, in a folder of their own."""
        return Checkpoints(self._folder / "best", self._key)

    def _found(self) -> list[Path]:
        """Finished checkpoints, latest first."""
        return sorted(self._folder.glob("step-*"), reverse=True)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise OutcropError unless the disk under the folder has so many bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutcropError(
            f"the disk under {folder} has {free / 1e6:,.0f} MB free; {what} need {needed / 1e6:,.0f} MB. "
            "Free some space and start the job again"
        )


def settle(draft: Path, folder: Path) -> None:
    """Give a finished folder its name: it appears whole, and stays after a power cut."""
    sync_folder(draft)
    draft.rename(folder)
    sync(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring every file of a folder, and the folder itself, to the disk."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """fsync a file or a folder by its path."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
