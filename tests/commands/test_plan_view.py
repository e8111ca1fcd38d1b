"""A plan on a terminal, where memory is short: what is done about it, what that spares and costs."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import MambaConfig, MambaForCausalLM

from outcrop.commands.plan_view import show_plan
from outcrop.datasets.plan import Plan
from outcrop.estimate.estimate import Estimate, estimate
from outcrop.estimate.proposal import Proposal, document
from outcrop.estimate.room import foreseen
from outcrop.estimate.survey import Survey
from outcrop.sources import memory
from outcrop.sources.memory import Memory
from tests.estimate.world import BASE, checked, spec_of, terms, write_pairs

PROPOSAL = Proposal("id", "name", "arn", "FINE_TUNING", "prompt-completion", {})


def shown(report: Survey, found: Estimate) -> str:
    screen = io.StringIO()
    show_plan(Console(file=screen, width=200), PROPOSAL, report, found)
    return screen.getvalue()


def tight(folder: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> tuple[Any, Survey]:
    """A job, and only so much free memory as its steps take with layers that are computed again."""
    spec = spec_of(write_pairs(folder / "train.jsonl", 40, words=60), batch_size=8)
    report = checked(spec)
    estimate(spec, report, terms(folder, calibrated=False))
    plan = Plan.open(folder / "scratch/plan", validators=0, epochs=2, batch_size=8, seed=spec.seed)
    free = getattr(foreseen(spec, plan).again, part)
    monkeypatch.setattr("outcrop.sources.memory.here", lambda: Memory(free, 1 << 40))
    # Of so small a model and such short examples the activations are next to nothing.
    monkeypatch.setattr("outcrop.sources.fit.WORTH", 1.0)
    return spec, report


def test_a_plan_says_that_layers_are_computed_again_and_has_tried_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, report = tight(tmp_path, monkeypatch, "most")
    kept = tmp_path / "kept"
    found = estimate(spec, report, terms(tmp_path, kept=kept))
    assert found.unknown is None
    assert found.calibration is not None
    assert found.calibration.recomputed
    assert found.memory is not None
    assert found.memory.recomputed
    assert found.memory.needed == found.calibration.peak_bytes
    assert "layers are computed again on their way back, as the time above has it: otherwise about" in shown(
        report, found
    )
    told = document(PROPOSAL, report, found)["estimate"]["memory"]
    assert told["recomputed"] is True
    assert told["otherwise"] > 0
    # With plenty of memory the same job is another one to the clock.
    monkeypatch.undo()
    (tmp_path / "again").mkdir()
    plain = estimate(spec, report, terms(tmp_path / "again", kept=kept))
    assert plain.calibration is not None, plain.unknown
    assert not plain.calibration.recomputed
    assert not plain.calibration.cached
    assert len(list(kept.iterdir())) == 2
    assert "computed again" not in shown(report, plain)


def test_without_steps_it_says_what_that_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, report = tight(tmp_path, monkeypatch, "most")
    found = estimate(spec, report, terms(tmp_path, calibrated=False))
    assert "layers are computed again on their way back, up to half more computing: otherwise about" in shown(
        report, found
    )


@pytest.mark.parametrize("part", ["total", "least"])
def test_what_may_be_too_little_is_no_failure_yet(part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, report = tight(tmp_path, monkeypatch, part)
    assert "it may be too little" in shown(report, estimate(spec, report, terms(tmp_path, calibrated=False)))


def test_what_cannot_fit_would_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, report = tight(tmp_path, monkeypatch, "least")
    free = memory.here().free - 1
    monkeypatch.setattr("outcrop.sources.memory.here", lambda: Memory(free, 1 << 40))
    found = estimate(spec, report, terms(tmp_path))
    assert found.calibration is None
    assert "the job would fail" in shown(report, found)


def test_what_nobody_reckons_is_not_judged_but_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "mamba"
    shutil.copytree(BASE, base, ignore=shutil.ignore_patterns("*.safetensors", "*.md"))
    vocabulary = json.loads((BASE / "config.json").read_text())["vocab_size"]
    config = MambaConfig(vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, state_size=4)
    MambaForCausalLM(config).save_pretrained(base)
    spec = spec_of(write_pairs(tmp_path / "train.jsonl", 40), base=str(base), method="full", batch_size=8)
    report = checked(spec)
    monkeypatch.setattr("outcrop.sources.memory.here", lambda: Memory(1 << 20, 1 << 30))
    found = estimate(spec, report, terms(tmp_path, calibrated=False))
    said = shown(report, found)
    assert "what its layers keep is not reckoned; 1.0 MB are free" in said
    assert "unknown activations" in said
    told = document(PROPOSAL, report, found)["estimate"]["memory"]
    assert (told["known"], told["fits"]) == (False, None)
    tried = estimate(spec, report, terms(tmp_path))
    assert tried.memory is not None, tried.unknown
    assert (tried.memory.source, tried.memory.known, tried.memory.fits) == ("calibration", True, False)
