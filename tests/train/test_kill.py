"""Killed with signal 9 at chosen instants, a job ends with the bits of one that nobody disturbed.

LoRA with early stopping, full tuning with a hold-out, continued pre-training; the instants lie in the intake, while a
checkpoint is written, named or thrown away, while the best weights are kept, and around the delivery. `make soak` does
the same at random instants, many times over, through a real server.
"""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.records import TrainSpec
from tests.train.shelf import Shelf
from tests.train.work import PATIENCE, Start, Work, small_job

MEASURED = ("loss", "perplexity", "gradient_norm", "learning_rate", "tokens", "scored_tokens")
OUTCOME = ("training_loss", "validation_losses", "tokens", "scored_tokens", "steps", "delivered_step", "stopped_early")

Moment = tuple[str, str, int]
"""Audit event, part of its path, and the how manieth of them."""


@pytest.fixture
def spec(llama: Path, shelf: Shelf, write_pairs: Callable[..., Path]) -> TrainSpec:
    pairs = write_pairs(30).read_bytes()
    shelf.objects["bucket/train.jsonl"] = pairs
    # Nothing of it is ever learnt: the surer the model gets of the training data, the less it expects of this.
    strange = [{"prompt": f"#{number}# QXJ", "completion": f"~{number}KZW~ 9876 %$!"} for number in range(5)]
    shelf.objects["bucket/strange.jsonl"] = "\n".join(map(json.dumps, strange)).encode()
    texts = [json.loads(line) for line in pairs.splitlines()]
    documents = [json.dumps({"input": f"{text['prompt']} {text['completion']} {text['prompt']}"}) for text in texts]
    shelf.objects["bucket/documents.jsonl"] = "\n".join(documents).encode()
    return small_job(llama, epochs=4, seed=7, checkpoint_seconds=1e-9)


def measured(events: list[dict[str, Any]]) -> dict[tuple[Any, ...], Any]:
    """What was measured, by its place; of a step that was done twice the later telling."""
    found: dict[tuple[Any, ...], Any] = {}
    for event in events:
        if event["kind"] in {"step", "eval"}:
            place = (event["kind"], event["step"], event.get("validator"))
            found[place] = {name: event.get(name) for name in MEASURED}
        elif event["kind"] == "done":
            found["done",] = {name: event[name] for name in OUTCOME}
    return found


def weights(job: Work) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (job.directory / "model").glob("*.safetensors")}


def require_same(spec: TrainSpec, start: Start, moments: list[Moment]) -> list[dict[str, Any]]:
    """Do the job undisturbed, then with a death at each of the moments; the events of the latter."""
    whole = start(spec, "whole")
    expected = measured(whole.run())
    files = {name: content for name, content in start.shelf.objects.items() if name.endswith("metrics.csv")}
    assert ("done",) in expected
    torn = start(spec, "torn")
    for moment in moments:
        child = torn.mortal(*moment)
        assert child.wait(timeout=PATIENCE) == -signal.SIGKILL, (moment, torn.log())
    events = torn.live()
    assert measured(events) == expected
    assert weights(torn)
    assert weights(torn) == weights(whole)
    assert {name: start.shelf.objects[name] for name in files} == files
    parts = [(event["part"], event["status"]) for event in events if event["kind"] == "part"]
    assert len(parts) == len(set(parts)) == 6, "no part is begun or ended twice"
    assert not [event for event in events if "cannot be taken up" in event.get("message", "")]
    left = {path.name for path in torn.directory.iterdir()} & {"model.draft", "data"}
    assert not left
    return events


@pytest.mark.slow
def test_lora_with_early_stopping(spec: TrainSpec, start: Start) -> None:
    spec = replace(
        spec,
        validation=("s3://bucket/strange.jsonl", "s3://bucket/strange.jsonl"),
        learning_rate=0.02,
        epochs=9,
        early_stopping_patience=2,
        export=True,
    )
    moments: list[Moment] = [
        ("os.rename", "plan/.datasets.json", 1),
        ("open", "checkpoint/.draft/state.json", 3),
        ("os.rename", "checkpoint/best/.draft", 2),
        ("shutil.rmtree", "checkpoint/step-", 4),
        ("open", "/model/adapter_model.safetensors", 1),
    ]
    events = require_same(spec, start, moments)
    done = events[-1]
    assert done["stopped_early"]
    assert 0 < done["delivered_step"] < done["steps"], "the best weights are not the last ones"


@pytest.mark.slow
def test_full_tuning_with_a_hold_out(spec: TrainSpec, start: Start) -> None:
    spec = replace(spec, method="full", learning_rate=1e-3, evaluation_share=0.2)
    moments: list[Moment] = [
        ("open", "checkpoint/.draft/checksums.json", 3),
        ("open", "model.draft/lineage.json", 1),
    ]
    events = require_same(spec, start, moments)
    assert events[-1]["validation_losses"]


@pytest.mark.slow
def test_continued_pre_training(spec: TrainSpec, start: Start) -> None:
    spec = replace(spec, customization="CONTINUED_PRE_TRAINING", format="text", training="s3://bucket/documents.jsonl")
    require_same(spec, start, [("os.rename", "checkpoint/.draft", 3), ("os.rename", "/model.draft", 1)])
