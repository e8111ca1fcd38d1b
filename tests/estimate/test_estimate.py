"""Whole estimates over the bundled base: what they foresee is what a job does, and what cannot be known says why."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.datasets.plan import Plan, plan_document
from outcrop.datasets.shards import write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.estimate.calibration import NoCalibration, calibrate
from outcrop.estimate.estimate import estimate
from outcrop.estimate.foresight import Foresight, Unfit, foresee
from outcrop.estimate.proposal import Proposal, document
from outcrop.estimate.room import foreseen, reckoned
from outcrop.sources.memory import Memory
from tests.estimate.world import BASE, checked, spec_of, terms, write_documents, write_pairs

PROPOSAL = Proposal("id", "name", "arn", "FINE_TUNING", "prompt-completion", {})
BASE_BYTES = sum(path.stat().st_size for path in BASE.glob("*.safetensors")) // 2


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others hold on this machine is no matter of these tests, nor is how steps go into it."""
    monkeypatch.setattr("outcrop.sources.memory.here", lambda: Memory(1 << 36, 1 << 36))


def refuse(fault: object) -> None:
    raise AssertionError(fault)


def test_the_sizes_are_those_of_the_jobs_own_plan(tmp_path: Path) -> None:
    training, validation = write_pairs(tmp_path / "train.jsonl", 41), write_pairs(tmp_path / "validation.jsonl", 7)
    spec = spec_of(training, validation, epochs=3, batch_size=4, seed=5)
    found = foresee(spec, checked(spec), tmp_path, budget=1 << 20)
    assert isinstance(found, tuple)
    seen, _ = found
    encoder, folder = Encoder.read(BASE), tmp_path / "job"
    write_shard(training, spec.format, encoder, folder / "train", refuse)
    write_shard(validation, spec.format, encoder, folder / "validation-0", refuse)
    told = plan_document(Plan.open(folder, validators=1, epochs=3, batch_size=4, seed=5))
    mine = seen.document()
    assert {name: mine[name] for name in told if name != "records"} == {
        name: value for name, value in told.items() if name != "records"
    }
    assert seen.steps == 3 * 11
    assert not seen.estimated


def test_what_is_held_out_is_foreseen(tmp_path: Path) -> None:
    training = write_pairs(tmp_path / "train.jsonl", 40)
    spec = spec_of(training, evaluation_share=0.1, early_stopping_patience=2)
    found = estimate(spec, checked(spec), terms(tmp_path, calibrated=False))
    assert isinstance(found.plan, Foresight)
    assert (found.plan.examples, found.plan.held_out, found.plan.validation_examples) == (36, 4, 4)
    assert found.plan.evaluations == 6


def test_documents_are_packed(tmp_path: Path) -> None:
    training = write_documents(tmp_path / "train.jsonl", 200)
    spec = spec_of(training, format="text", customization="CONTINUED_PRE_TRAINING")
    found = estimate(spec, checked(spec), terms(tmp_path, calibrated=False))
    assert isinstance(found.plan, Foresight)
    assert found.plan.packed
    assert found.plan.examples < 20
    assert found.plan.longest == 2048
    assert sum(bar.count for bar in found.plan.lengths.histogram) == 200, "documents, not their pieces"


def test_a_sample_foretells_the_whole(tmp_path: Path) -> None:
    training = write_pairs(tmp_path / "train.jsonl", 20_000)
    spec = spec_of(training)
    report = checked(spec)
    whole = estimate(spec, report, terms(tmp_path, calibrated=False, budget=1 << 30)).plan
    part = estimate(spec, report, terms(tmp_path, calibrated=False, budget=100_000)).plan
    assert isinstance(whole, Foresight)
    assert isinstance(part, Foresight)
    assert (whole.estimated, part.estimated) == (False, True)
    assert part.sampled_examples < 4000
    assert (part.examples, part.steps) == (whole.examples, whole.steps) == (20_000, 40_000)
    assert part.tokens == pytest.approx(whole.tokens, rel=0.02)
    assert part.scored_tokens == pytest.approx(whole.scored_tokens, rel=0.02)


def test_examples_that_the_weights_cannot_take_are_counted_and_never_cut(tmp_path: Path) -> None:
    training = write_pairs(tmp_path / "train.jsonl", 30)
    spec = spec_of(training, max_sequence_length=13)
    found = estimate(spec, checked(spec), terms(tmp_path))
    assert isinstance(found.plan, Unfit)
    assert found.plan.count == len(found.plan.faults) > 3
    assert found.failure is not None
    assert found.failure.startswith("Input size exceeded in file train.jsonl for record starting with ")
    assert "tokens (prompt" in found.failure
    told = document(PROPOSAL, checked(spec), found)
    assert told["passed"] is False
    assert told["failureMessage"] == found.failure
    json.dumps(told)


def test_a_few_real_steps_are_taken_and_kept(tmp_path: Path) -> None:
    training, validation = write_pairs(tmp_path / "train.jsonl", 40), write_pairs(tmp_path / "validation.jsonl", 10)
    spec = spec_of(training, validation)
    report, kept = checked(spec), tmp_path / "kept"
    stages: list[str] = []
    shares: list[float] = []

    def told(stage: str, share: float | None) -> None:
        stages.append(stage)
        shares.extend([share] if share is not None else [])

    first = estimate(spec, report, terms(tmp_path, kept=kept), told)
    assert first.unknown is None
    assert first.calibration is not None
    assert first.duration is not None
    assert first.memory is not None
    assert stages[0] == "tokenising"
    assert stages[-1] == "calibrating"
    assert shares == [0.8, 1.0], "the training file's share, and the validation file's"
    assert first.calibration.threads == 1
    assert first.calibration.steps >= 3
    assert first.calibration.trainable_parameters * 12 < first.calibration.checkpoint_bytes
    assert first.calibration.evaluation_token_seconds is not None
    assert first.duration.low < first.duration.likely < first.duration.high
    assert first.memory.source == "calibration"
    assert 100 << 20 < first.memory.needed < 4 << 30
    assert first.price.aws_training == pytest.approx(first.price.tokens / 1000 * 0.008)
    again = estimate(replace(spec, epochs=5), report, terms(tmp_path, kept=kept))
    assert again.calibration == replace(first.calibration, cached=True)
    assert again.duration is not None
    assert again.duration.training == pytest.approx(first.duration.training * 2.5)
    assert len(list(kept.iterdir())) == 1
    json.dumps(document(PROPOSAL, report, first), allow_nan=False)


def test_steps_that_cannot_be_taken_say_why(tmp_path: Path) -> None:
    training = write_pairs(tmp_path / "train.jsonl", 10)
    spec = spec_of(training)
    found = foresee(spec, checked(spec), tmp_path, budget=1 << 20)
    assert isinstance(found, tuple)
    plan, surroundings = found[1], terms(tmp_path).environment
    with pytest.raises(NoCalibration, match="more than 0 seconds"):
        calibrate(spec, plan, tmp_path, None, environment=surroundings, patience=0.2)
    broken = replace(spec, base=str(tmp_path))
    with pytest.raises(NoCalibration, match=r"has no config\.json"):
        calibrate(broken, plan, tmp_path, None, environment=surroundings)

    class Stopped(OutcropError):
        pass

    def stop() -> None:
        raise Stopped("enough")

    with pytest.raises(Stopped):
        calibrate(spec, plan, tmp_path, None, environment=surroundings, pulse=stop)


def test_without_steps_memory_is_reckoned_and_time_is_unknown(tmp_path: Path) -> None:
    training = write_pairs(tmp_path / "train.jsonl", 10)
    spec = spec_of(training)
    found = estimate(spec, checked(spec), terms(tmp_path, calibrated=False))
    assert found.duration is None
    assert found.unknown == "no training steps were asked for"
    assert found.memory is not None
    assert found.memory.source == "formula"
    assert found.memory.needed > found.memory.parameters > BASE_BYTES


@pytest.mark.parametrize(("method", "batch_size", "count"), [("lora", 8, 40), ("full", 1, 60)])
def test_a_real_run_needs_what_the_formula_allows_for(method: str, batch_size: int, count: int, tmp_path: Path) -> None:
    packed = method == "full"
    training = (write_documents if packed else write_pairs)(tmp_path / "train.jsonl", count)
    kind = {"format": "text", "customization": "CONTINUED_PRE_TRAINING"} if packed else {}
    spec = spec_of(training, method=method, batch_size=batch_size, **kind)
    found = estimate(spec, checked(spec), terms(tmp_path))
    assert isinstance(found.plan, Foresight)
    assert found.calibration is not None, found.unknown
    assert found.memory is not None
    plan = Plan.open(tmp_path / "scratch/plan", validators=0, epochs=2, batch_size=batch_size, seed=spec.seed)
    foretold = reckoned(foreseen(spec, plan))
    assert (found.memory.source, foretold.source) == ("calibration", "formula")
    # The formula has not seen what was measured: its range must hold it all the same, however few steps a busy machine
    # takes in the seconds that there are (each new length adds to what is kept).
    measured = found.calibration.peak_bytes
    assert foretold.low < measured < foretold.high, f"of {found.calibration.steps} steps"
    assert found.memory.needed == found.calibration.peak_bytes


def test_full_tuning_needs_four_numbers_a_weight(tmp_path: Path) -> None:
    training = write_pairs(tmp_path / "train.jsonl", 10)
    found = {}
    for method in ("lora", "full"):
        spec = spec_of(training, method=method)
        found[method] = estimate(spec, checked(spec), terms(tmp_path, calibrated=False)).memory
    lora, full = found["lora"], found["full"]
    assert lora is not None
    assert full is not None
    assert full.parameters >= full.gradients
    assert full.optimizer == 2 * full.gradients
    assert lora.needed - lora.process < full.needed - full.process
