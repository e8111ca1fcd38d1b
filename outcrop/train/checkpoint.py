"""What a run needs to go on as if nothing had happened, on disk: whole or not there at all.

A checkpoint is a folder of tensors (safetensors), a small JSON state and the checksums of both, made under another
name, synced and renamed. The last two are kept; one that is damaged, or of another form, is never taken up. Knows
tensors and files; nothing of losses, models or events.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from outcrop.durable import checksum, settle
from outcrop.train.events import StartAgain

KEPT: Final = 2

VERSION: Final = 2
"""Of the form that is written. 1 had no checksums and is still read; any other is of a newer outcrop."""

TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
CHECKSUMS: Final = "checksums.json"

Tell = Callable[[str], None]
"""Gets a sentence for the person who follows the job."""


class Unfit(StartAgain):
    """A checkpoint that no run can go on from; the message says why."""


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
        self._loaded: int | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Keep a moment; OSError (a full disk) leaves the earlier ones as they are."""
        pending = self.begin(step, tensors, state)
        if pending is not None:
            pending.result()

    def begin(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> "Future[None] | None":
        """Write a moment and return while the disk still takes it in: it is kept once the future is done.

        The tensors may change at once. One at a time: the future before must be done. OSError now or from the future
        leaves the earlier moments as they are. None: this moment is on disk already.
        """
        target = self._place(step)
        if step == self._loaded and target.exists():
            return None  # nothing was learnt since: a copy could only put the one on disk in danger
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / ".draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        try:
            self._write(draft, step, tensors, state)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        try:
            return writer.submit(self._settle, draft, target)
        finally:
            writer.shutdown(wait=False)

    def _write(self, draft: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft / TENSORS)
        except SafetensorError as error:
            raise OSError(f"the checkpoint could not be written: {error}") from error
        content = {"version": VERSION, "key": self._key, "step": step, "state": dict(state)}
        (draft / STATE).write_text(json.dumps(content), encoding="utf-8")
        sums = {name: checksum(draft / name) for name in (TENSORS, STATE)}
        (draft / CHECKSUMS).write_text(json.dumps(sums), encoding="utf-8")

    def _settle(self, draft: Path, target: Path) -> None:
        """Nearly all the time that a checkpoint takes: until the disk has it."""
        try:
            # As it is there already only where a run went back behind it.
            shutil.rmtree(target, ignore_errors=True)
            settle(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        for old in self._found()[KEPT:]:
            shutil.rmtree(old)

    def load(self, tell: Tell, fit: Callable[[Checkpoint], None] | None = None) -> Checkpoint | None:
        """The latest moment that a run can go on from; None where there is none.

        `fit` raises Unfit for a moment that its caller cannot use. What is unfit is told and removed, as the next
        moments must not be pushed out by it.
        """
        unfit = 0
        for folder in self._found():
            try:
                found = self._read(folder)
                if fit is not None:
                    fit(found)
            except Unfit as why:
                unfit += 1
                tell(f"the checkpoint {folder.name} cannot be taken up: {why}")
                shutil.rmtree(folder)
                continue
            self._loaded = found.step
            return found
        if unfit:
            tell("no checkpoint is left to go on from: training starts over, from the first step")
        return None

    def at(self, step: int) -> Checkpoint:
        """The moment of one step of this work; raises Unfit where it is gone or damaged."""
        folder = self._place(step)
        if not folder.is_dir():
            raise Unfit(f"{folder} is gone, and with it the weights that were to be delivered")
        return self._read(folder)

    @property
    def best(self) -> "Checkpoints":
        """The weights that early stopping may deliver, in a folder of their own."""
        return Checkpoints(self._folder / "best", self._key)

    def _place(self, step: int) -> Path:
        return self._folder / f"step-{step:09d}"

    def _found(self) -> list[Path]:
        """Finished checkpoints, latest first."""
        return sorted(self._folder.glob("step-*"), reverse=True)

    def _read(self, folder: Path) -> Checkpoint:
        """A folder's moment; raises Unfit for a damaged one, one of other work and one of another version."""
        try:
            content = json.loads((folder / STATE).read_text(encoding="utf-8"))
            version = content.get("version", 1)
            if version > VERSION:
                raise Unfit(f"it is of version {version}, made by a newer outcrop; this one reads up to {VERSION}")
            if version > 1:
                _verify(folder)
            if content["key"] != self._key:
                raise Unfit("it belongs to another job, or to other data")
            return Checkpoint(content["step"], load_file(folder / TENSORS), content["state"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise Unfit(f"it is damaged ({type(error).__name__}: {error})") from error


def _verify(folder: Path) -> None:
    """Raise Unfit unless every file is as it was written."""
    sums = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    for name in (TENSORS, STATE):
        if sums[name] != checksum(folder / name):
            raise Unfit(f"it is damaged (the bytes of {name} are not those that were written)")
