"""The story of a result: whose hashes it tells, what it asked and got, and that its ancestors' stories go with it."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec
from outcrop.train.intake import Dataset
from outcrop.train.lineage import LINEAGE_FILE, ancestors, lineage, write
from outcrop.train.loop import Progress
from outcrop.train.revision import checked_out, code
from outcrop.train.text import load_learner

ARN = "arn:aws:bedrock:us-east-1:123456789012:custom-model/m.v1:0:8k/"
DATASETS = [Dataset("s3://bucket/train.jsonl", "train", "train", "ab" * 32, 12)]


@pytest.fixture
def spec(llama: Path) -> TrainSpec:
    return TrainSpec(
        job_arn="arn:aws:bedrock:us-east-1:123456789012:model-customization-job/m.v1:0:8k/abcdefghijkl",
        job_id="abcdefghijkl",
        base_model_id="m.v1:0:8k",
        base=str(llama),
        base_name="a small llama",
        training="s3://bucket/train.jsonl",
        output="s3://bucket/out",
        model_name="first",
        hyperparameters={"epochCount": "1", "learningRate": "1.0E-5"},
        lora_rank=2,
        seed=7,
        early_stopping_patience=3,
    )


@pytest.fixture
def plan(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    write_shard(write_pairs(12), "prompt-completion", Encoder.read(llama), tmp_path / "plan" / "train", print)
    return Plan(Shard.open(tmp_path / "plan/train"), (), 1, 4, seed=5)


def deliver(spec: TrainSpec, plan: Plan, folder: Path) -> dict[str, Any]:
    """A result with its story, as a run leaves it."""
    learner = load_learner(
        Path(spec.base),
        plan,
        method=spec.method,
        rank=spec.lora_rank,
        alpha=spec.lora_alpha,
        seed=spec.seed,
        device="cpu",
        parent=Path(spec.parent) if spec.parent else None,
        whole_parent=spec.whole_parent,
    )
    progress = Progress(step=3, evaluated=3, tokens=90, scored=30, epoch_nll=60.0, epoch_scored=30, seconds=1.5)
    learner.save(folder, Path(spec.base), spec.base_name)
    story = lineage(spec, plan, DATASETS, learner, progress, folder=folder)
    write(story, folder)
    return json.loads((folder / LINEAGE_FILE).read_text())  # type: ignore[no-any-return]


def digest(folder: Path, name: str) -> str:
    """The hash of a folder with one file of weights, as anybody can compute it."""
    inner = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    return hashlib.sha256(f"{name}\0{inner}\n".encode()).hexdigest()


def test_a_first_model_tells_all_that_decided_it(spec: TrainSpec, plan: Plan, llama: Path, tmp_path: Path) -> None:
    story = deliver(spec, plan, tmp_path / "first")
    encoder = Encoder.read(llama)
    assert story["base"] == {
        "name": "a small llama",
        "sha256": digest(llama, "model.safetensors"),
        "tokenizer_sha256": encoder.fingerprint,
        "template_sha256": encoder.chat.fingerprint,
        "own_template": False,
        "parameters": story["base"]["parameters"],
    }
    assert story["datasets"][0]["sha256"] == "ab" * 32
    assert story["hyperparameters"]["asked"] == {"epochCount": "1", "learningRate": "1.0E-5"}
    effective = story["hyperparameters"]["effective"]
    assert (effective["learning_rate"], effective["lora_rank"], effective["seed"]) == (1e-3, 2, 7)
    assert (effective["early_stopping_patience"], effective["batch_size"]) == (3, 1)
    assert story["result"]["sha256"] == digest(tmp_path / "first", "adapter_model.safetensors")
    assert (story["result"]["weights"], story["result"]["training_loss"]) == ("adapter", 2.0)
    assert story["versions"]["outcrop"]["version"] == version("outcrop")
    assert story["machine"]["device"] == "cpu"
    assert (story["parent"], story["ancestors"], story["model_name"]) == (None, [], "first")
    assert "seconds" not in story["result"], "an interrupted run takes longer and is the same run"


def test_ancestors_go_with_the_child_when_they_are_deleted(
    spec: TrainSpec, plan: Plan, llama: Path, tmp_path: Path
) -> None:
    first = deliver(spec, plan, tmp_path / "1")
    second_spec = replace(spec, parent=str(tmp_path / "1"), parent_arn=f"{ARN}1", model_name="second")
    second = deliver(second_spec, plan, tmp_path / "2")
    third_spec = replace(
        spec, parent=str(tmp_path / "2"), parent_arn=f"{ARN}2", model_name="third", method="full", lora_rank=9
    )
    third = deliver(third_spec, plan, tmp_path / "3")
    for path in (tmp_path / "1" / LINEAGE_FILE, tmp_path / "2" / LINEAGE_FILE):
        path.unlink()
    fourth_spec = replace(spec, base=str(tmp_path / "3"), whole_parent=True, parent_arn=f"{ARN}3", model_name="fourth")
    fourth = deliver(fourth_spec, plan, tmp_path / "4")
    assert fourth["ancestors"] == [
        {"model_arn": f"{ARN}{number}"} | {name: value for name, value in story.items() if name != "ancestors"}
        for number, story in ((1, first), (2, second), (3, third))
    ]
    assert second["parent"] == {"arn": f"{ARN}1", "sha256": first["result"]["sha256"]}
    assert third["parent"] == {"arn": f"{ARN}2", "sha256": second["result"]["sha256"]}
    assert fourth["parent"] == {"arn": f"{ARN}3", "sha256": third["result"]["sha256"]}
    assert fourth["base"]["sha256"] == third["result"]["sha256"]
    assert third["base"]["sha256"] == first["base"]["sha256"] == digest(llama, "model.safetensors")
    assert [story["result"]["weights"] for story in (first, second, third, fourth)] == [
        "adapter", "adapter", "model", "model",
    ]  # fmt: skip


@pytest.mark.parametrize("left", [None, "", "{"])
def test_a_parent_without_a_story_is_refused_by_name(spec: TrainSpec, tmp_path: Path, left: str | None) -> None:
    if left is not None:
        (tmp_path / LINEAGE_FILE).write_text(left)
    with pytest.raises(OutcropError, match=f"the lineage of {ARN}1, cannot be read"):
        ancestors(replace(spec, parent=str(tmp_path), parent_arn=f"{ARN}1"))


def test_the_commit_is_told_only_where_the_package_is_the_repository(tmp_path: Path) -> None:
    assert checked_out(tmp_path) == {}
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "outcrop").mkdir()
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    found = checked_out(tmp_path)
    assert len(found["commit"]) == 40
    assert found["changed"] is False
    (tmp_path / "outcrop" / "new.py").write_text("x = 1\n")
    assert checked_out(tmp_path)["changed"] is True
    # A package in a virtual environment within somebody's repository is not that repository.
    assert checked_out(tmp_path / "outcrop") == {}
    assert set(code()) == {"version", "commit", "changed"}


def test_a_machine_without_git_tells_the_version_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checked_out(tmp_path) == {}
