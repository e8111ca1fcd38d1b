"""Continued pre-training of the bundled base: what it has not read becomes likelier, and that is reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.deliver import Curves
from outcrop.train.loop import Course, train
from outcrop.train.text import load_learner

BASE = Path(__file__).parents[2] / "outcrop" / "bases" / "text"
KINDS = ["granite", "basalt", "gneiss", "schist", "slate", "marble", "chert", "tuff"]
PLACES = ["the ridge", "the quarry", "the river bed", "the northern face", "the road cut"]
COLOURS = ["grey", "black", "pale green", "banded", "rust red"]


def note(index: int) -> str:
    """A field note of a geologist: every one is different, all of one manner."""
    kind, place, colour = KINDS[index % 8], PLACES[index * 3 % 5], COLOURS[index * 7 % 5]
    other = KINDS[(index * 5 + 3) % 8]
    return (
        f"Station {index}. At {place} the outcrop is {colour} {kind}, weathered at the surface, with veins of quartz "
        f"running through it. The contact with the {other} below is sharp and dips to the east. Samples were taken."
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    for name, numbers in (("train", range(64)), ("validation-0", range(100, 108))):
        source = folder / f"{name}.jsonl"
        source.write_text("".join(json.dumps({"input": note(number)}) + "\n" for number in numbers))
        assert write_shard(source, "text", Encoder.read(BASE), folder / name, print, longest=128) == 0
    return folder


def run(plan: Plan, folder: Path, patience: int | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    learner = load_learner(BASE, plan, method="lora", rank=8, alpha=16.0, seed=0, device="cpu", dtype="float32")
    course = Course(
        steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, learning_rate=5e-3, warmup_steps=2, schedule="linear",
        weight_decay=0.0, clip=1.0, checkpoint_seconds=1e9, patience=patience,
    )  # fmt: skip
    events: list[dict[str, Any]] = []
    before = list(learner.evaluate(0))
    loss = sum(tally.nll for tally in before) / sum(tally.scored for tally in before)

    def emit(kind: str, **members: Any) -> None:
        events.append({"kind": kind, **members})

    progress = train(learner, course, Checkpoints(folder, "k"), emit, lambda: False)
    return events, {**progress.outcome(), "before": loss}


def test_perplexity_on_unread_text_falls_and_is_reported(shards: Path, tmp_path: Path) -> None:
    plan = Plan.open(shards, validators=1, epochs=2, batch_size=4, seed=3)
    assert plan.train.lengths()[:-1].min() >= 127, "sequences are full"
    assert plan.train.records == 64
    assert len(plan.train) < 64, "several documents share one"
    events, done = run(plan, tmp_path)
    perplexities = [event["perplexity"] for event in events if event["kind"] == "eval"]
    assert len(perplexities) == 2
    assert done["validation_losses"][0] < done["before"] * 0.5
    assert perplexities[1] < perplexities[0]
    assert done["validation_perplexities"] == perplexities[-1:]
    curves = Curves()
    for event in events:
        curves.feed(event)
    table = curves.files()["validation_artifacts/validation_metrics.csv"].decode().splitlines()
    assert table[0] == "step_number,epoch_number,validation_loss,perplexity"
    assert [float(row.split(",")[3]) for row in table[1:]] == perplexities


def test_a_held_out_share_is_a_validator_and_lets_a_run_stop_early(shards: Path, tmp_path: Path) -> None:
    plan = Plan.open(shards, validators=0, epochs=1, batch_size=4, seed=3, evaluation_share=0.2)
    assert plan.held_out == round((len(plan.train) + plan.held_out) * 0.2)
    events, done = run(plan, tmp_path, patience=2)
    evaluated = [event["step"] + 1 for event in events if event["kind"] == "eval"]
    assert len(evaluated) == 5
    assert evaluated[-1] == plan.steps
    assert done["validation_losses"][0] == min(event["loss"] for event in events if event["kind"] == "eval")
    assert done["delivered_step"] in evaluated
