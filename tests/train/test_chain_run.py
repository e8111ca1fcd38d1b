"""A child that goes on from a custom model: killed under way it ends with the same bits, and its story lies in S3."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.lora import LoraAdapter
from outcrop.records import TrainSpec
from tests.train.shelf import Shelf
from tests.train.work import Start, small_job

FOLDER = "bucket/out/model-customization-job-{}/"
ARN = "arn:aws:bedrock:us-east-1:123456789012:custom-model/m.v1:0:8k/parent"


@pytest.fixture
def spec(llama: Path, shelf: Shelf, write_pairs: Callable[..., Path]) -> TrainSpec:
    shelf.objects["bucket/train.jsonl"] = write_pairs(24).read_bytes()
    return small_job(llama, job_id="firstjobbbbb", epochs=2, model_name="first")


def test_a_child_killed_upon_its_parent_ends_with_the_same_bits(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    first = start(spec, spec.job_id)
    assert first.live()[-1]["kind"] == "done"
    story = json.loads(shelf.objects[FOLDER.format(spec.job_id) + "lineage.json"])
    assert story == json.loads((first.directory / "model" / "lineage.json").read_text())
    assert story["ancestors"] == []
    assert not any(key.startswith(FOLDER.format(spec.job_id) + "model/") for key in shelf.objects), "nobody exported"

    second = replace(
        spec,
        job_id="secondjobbbb",
        parent=str(first.directory / "model"),
        parent_arn=ARN,
        model_name="second",
        checkpoint_seconds=0.0,
    )
    whole, torn = start(second, "whole"), start(second, "torn")
    events = whole.run()
    child = torn.fork()
    torn.wait_for(lambda: torn.steps() >= 4, child)
    child.kill()
    child.wait()
    resumed = torn.live()
    assert resumed[-1]["kind"] == events[-1]["kind"] == "done"
    assert any("resumed at step" in event.get("message", "") for event in resumed)
    weights = [work.directory / "model" / "adapter_model.safetensors" for work in (whole, torn)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert LoraAdapter.read(whole.directory / "model").rank == 8
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    begun = [event["loss"] for event in first.events() if event["kind"] == "step"]
    assert losses[0] < begun[0], "it goes on from what the parent has learnt"
    told = json.loads(shelf.objects[FOLDER.format(second.job_id) + "lineage.json"])
    assert [link["model_name"] for link in told["ancestors"]] == ["first"]
    assert told["parent"]["sha256"] == story["result"]["sha256"]


def test_a_parent_without_a_story_fails_the_job_before_it_trains(spec: TrainSpec, start: Start, tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir()
    job = start(replace(spec, parent=str(tmp_path / "parent"), parent_arn=ARN))
    events = job.live()
    assert events[-1]["kind"] == "failed"
    assert f"the lineage of {ARN}, cannot be read" in events[-1]["message"]
    assert job.steps() == 0
