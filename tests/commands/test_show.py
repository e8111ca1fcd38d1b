"""outcrop models show: found by name, ARN and id, drawn down to the foundation weights, and refused in a sentence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from outcrop.cli import commands
from outcrop.directory import Credentials, DataDirectory
from outcrop.errors import OutcropError
from outcrop.migrations import opened
from outcrop.records import Model
from outcrop.store.store import Store
from tests.store.resources import job, model

WEST = "us-west-2"


def story(number: int, **members: Any) -> dict[str, Any]:
    """A lineage as a run writes it."""
    return {
        "job_arn": job(number).arn,
        "model_name": f"model-{number}",
        "base_model_id": "amazon.titan-text-express-v1:0:8k",
        "customization": "FINE_TUNING",
        "base": {
            "name": "bundled:text",
            "sha256": "ba5e" * 16,
            "tokenizer_sha256": "70c3" * 16,
            "template_sha256": "7e3b" * 16,
            "own_template": True,
            "parameters": 5,
        },
        "parent": None,
        "datasets": [
            {"uri": "s3://b/t.jsonl", "shard": "train", "purpose": "train", "sha256": "da7a" * 16, "records": 1200},
            {"uri": "s3://b/v.jsonl", "shard": "validation-0", "purpose": "validation", "sha256": "", "records": 8},
        ],
        "hyperparameters": {
            "asked": {"learningRate": "1.0E-5", "epochCount": "2"},
            "effective": {
                "method": "lora", "lora_rank": 16, "lora_alpha": 32.0, "learning_rate": 0.005, "warmup_steps": 5,
                "seed": number,
            },
        },
        "plan": {"steps": 300, "epochs": 2, "batch_size": 4},
        "result": {
            "weights": "adapter",
            "sha256": f"{number:064x}",
            "training_loss": 1.0,
            "validation_losses": [2.0],
            "tokens": 12345,
            "steps": 150,
            "stopped_early": True,
        },
        "machine": {"device": "cpu", "dtype": "float32"},
        "versions": {"outcrop": {"version": "0.1.0", "commit": "c0de" * 10, "changed": False}, "torch": "2.0"},
        "ancestors": [],
        **members,
    }  # fmt: skip


Keep = Callable[[Model, dict[str, Any] | str | None], Model]


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    directory = DataDirectory(tmp_path)
    directory.prepare()
    directory.write_credentials(Credentials("AKIA", "secret", "bearer", "us-east-1"))
    opened(f"sqlite:///{directory.database}").close()
    return directory


@pytest.fixture
def keep(data: DataDirectory) -> Keep:
    """Puts a custom model into the data directory with its story."""

    def keep(made: Model, told: dict[str, Any] | str | None) -> Model:
        database = opened(f"sqlite:///{data.database}")
        store, number = Store.over(database), int(made.id[3:])
        kept = store.jobs.add(job(number, region=made.region), None, made.arn)
        store.jobs.complete(kept.arn, replace(made, job_arn=kept.arn), {}, kept.created)
        database.close()
        (data.models / made.id).mkdir()
        if told is not None:
            text = told if isinstance(told, str) else json.dumps(told)
            (data.models / made.id / "lineage.json").write_text(text)
        return made

    return keep


@pytest.fixture
def show(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("OUTCROP_DATA", str(data.root))
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *words: CliRunner().invoke(commands, ["models", "show", *words])


def test_by_name_arn_id_and_the_documents_form(keep: Keep, show: Callable[..., Result]) -> None:
    made = keep(model(1), story(1))
    named = made.arn.replace(made.arn.partition("custom-model/")[2], "model-1")
    told = {show(identifier).stdout for identifier in ("model-1", made.arn, made.id, named)}
    assert len(told) == 1
    (screen,) = told
    for words in (
        "bundled:text, sha256 ba5eba5eba5e",
        "the tokenizer's own",
        "model-1  FINE_TUNING",
        "s3://b/t.jsonl, 1,200 records, sha256 da7ada7ada7a",
        "s3://b/v.jsonl, 8 records, sha256 unknown",
        "learningRate 1.0E-5, epochCount 2",
        "lora, rank 16, alpha 32",
        "150 of 300, stopped early",
        "learning rate 0.005",
        "training 1.0000 (perplexity 2.718), validation 2.0000 (perplexity 7.389)",
        "outcrop 0.1.0 (commit c0dec0dec0de), torch 2.0, on cpu in float32",
        "seed 1",
    ):
        assert words in screen
    assert "deleted" not in screen


def test_a_chain_is_a_branch_in_a_branch_and_deleted_links_say_so(keep: Keep, show: Callable[..., Result]) -> None:
    first = keep(model(1), story(1))
    gone = {**story(2), "model_arn": model(2).arn}
    del gone["ancestors"]
    keep(model(3), story(3, ancestors=[{**story(1), "model_arn": first.arn}, gone]))
    lines = show("model-3").stdout.splitlines()
    places = [next(line.index(name) for line in lines if name in line) for name in ("model-1", "model-2", "model-3")]
    assert places == sorted(places)
    assert len(set(places)) == 3
    assert [line.split()[-2:] for line in lines if "deleted" in line] == [["deleted", "since"]]
    assert "model-2" in next(line for line in lines if "deleted" in line)


def test_json_holds_the_model_and_its_whole_story(keep: Keep, show: Callable[..., Result], data: DataDirectory) -> None:
    made = keep(model(1), story(1))
    told = json.loads(show("model-1", "--json").stdout)
    assert told["lineage"] == story(1)
    assert (told["model"]["arn"], told["model"]["baseWeights"]) == (made.arn, "bundled:text")
    assert told["model"]["weights"] == {"folder": str(data.models / made.id), "kind": "adapter"}


def test_of_one_name_in_two_regions_the_settings_region_wins(
    keep: Keep, show: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    east = keep(model(1), story(1))
    west = keep(replace(model(2, region=WEST), name="model-1"), story(2))
    assert json.loads(show("model-1", "--json").stdout)["model"]["arn"] == east.arn
    monkeypatch.setenv("OUTCROP_REGION", WEST)
    assert json.loads(show("model-1", "--json").stdout)["model"]["arn"] == west.arn
    monkeypatch.setenv("OUTCROP_REGION", "eu-west-1")
    refused = show("model-1").exception
    assert isinstance(refused, OutcropError)
    assert east.arn in str(refused)
    assert west.arn in str(refused)


@pytest.mark.parametrize("left", [None, "{"])
def test_a_story_that_cannot_be_read_is_named(keep: Keep, show: Callable[..., Result], left: str | None) -> None:
    made = keep(model(1), left)
    refused = show("model-1").exception
    assert isinstance(refused, OutcropError)
    assert f"lineage.json, the lineage of {made.arn}, cannot be read" in str(refused)


def test_who_is_unknown_hears_who_is_there(keep: Keep, show: Callable[..., Result]) -> None:
    assert "there are: none yet" in str(show("nobody").exception)
    keep(model(1), story(1))
    assert "'nobody'" in str(show("nobody").exception)
    assert "there are: model-1." in str(show("nobody").exception)
