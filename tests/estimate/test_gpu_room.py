"""Beside a GPU's driver: what cannot be known without torch is not judged; the child that tries real steps decides."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from outcrop.commands.plan_view import show_plan
from outcrop.estimate.estimate import Estimate, estimate
from outcrop.estimate.proposal import Proposal, document
from outcrop.estimate.survey import Survey
from outcrop.sources.memory import Memory
from tests.estimate.world import checked, spec_of, terms, write_pairs

PROPOSAL = Proposal("id", "name", "arn", "FINE_TUNING", "prompt-completion", {})
TINY = Memory(1 << 20, 1 << 30)
IN_TINY = """
import sys
from pathlib import Path
from outcrop.sources import memory
from outcrop.sources.memory import Memory
from outcrop.train import calibrate, leave, room
memory.GPU = Path("/")
room.allowed = lambda on_gpu: Memory(1 << 20, 1 << 30)
leave.leave(calibrate.main(sys.argv[1:]))
"""
"""A calibration beside a driver, in next to no memory."""


@pytest.fixture(autouse=True)
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver, whose GPU no child can see; and next to no memory of the machine's own."""
    device = tmp_path / "nvidiactl"
    device.touch()
    monkeypatch.setattr("outcrop.sources.memory.GPU", device)
    monkeypatch.setattr("outcrop.sources.memory.here", lambda: TINY)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def planned(folder: Path, *, calibrated: bool) -> tuple[Survey, Estimate]:
    spec = spec_of(write_pairs(folder / "train.jsonl", 40), batch_size=8)
    report = checked(spec)
    return report, estimate(spec, report, terms(folder, calibrated=calibrated))


def test_a_gpu_s_memory_is_not_judged_without_steps(tmp_path: Path) -> None:
    report, found = planned(tmp_path, calibrated=False)
    assert found.memory is not None
    assert (found.memory.source, found.memory.of, found.memory.available) == ("formula", "gpu", None)
    assert found.memory.process == 0, "what the machine holds is not the GPU's"
    assert not found.memory.recomputed
    told = document(PROPOSAL, report, found)["estimate"]["memory"]
    assert (told["of"], told["available"], told["fits"]) == ("gpu", None, None)
    screen = io.StringIO()
    show_plan(Console(file=screen, width=300), PROPOSAL, report, found)
    assert "of a GPU's: this machine has one, and only training steps tell what is free of it" in screen.getvalue()
    assert "the job would fail" not in screen.getvalue()


def test_steps_that_ran_on_the_cpu_all_the_same_are_told_as_such(tmp_path: Path) -> None:
    _, found = planned(tmp_path, calibrated=True)
    assert found.calibration is not None, found.unknown
    assert found.memory is not None
    assert (found.memory.source, found.memory.of) == ("calibration", "cpu")
    assert found.memory.needed == found.calibration.peak_bytes
    assert found.memory.process > 0
    assert (found.memory.available, found.memory.fits) == (TINY.free, False)


def test_the_child_refuses_what_cannot_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outcrop.estimate.calibration.COMMAND", ("-c", IN_TINY))
    _, found = planned(tmp_path, calibrated=True)
    assert found.calibration is None
    assert found.unknown is not None
    assert found.unknown.startswith("Too little memory: to train a LoRA adapter of bundled:text, a step of")
    assert found.memory is not None
    assert found.memory.available is None
