"""What --model names: any id of a foundation model, or a custom model of the data directory; and what is said else."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from outcrop.catalog.catalog import Catalog
from outcrop.cli import commands
from outcrop.commands.start import NoModels, find_row, find_start
from outcrop.directory import Credentials, DataDirectory
from outcrop.errors import OutcropError
from outcrop.migrations import opened
from outcrop.records import Model
from outcrop.store.store import Store
from tests.store.resources import job, model

EXPRESS = "amazon.titan-text-express-v1:0:8k"
CATALOG = Catalog.load()
Ask = Callable[..., Result]


def refusal(given: str) -> str:
    with pytest.raises(OutcropError) as caught:
        find_start(CATALOG, NoModels(), given, "us-east-1")
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("titan-express", "amazon.titan-text-express-v1:0:8k"),
        ("novapro", "amazon.nova-pro-v1:0:300k"),
        ("claude haiku", "anthropic.claude-3-haiku-20240307-v1:0:200k"),
        ("anthropic.claude-3-hiaku", "anthropic.claude-3-haiku-20240307-v1:0:200k"),
        ("amazon.titan-text-expres-v1", "amazon.titan-text-express-v1:0:8k"),
        ("llama3-3", "meta.llama3-3-70b-instruct-v1:0:128k"),
    ],
)
def test_what_is_near_is_suggested(given: str, meant: str) -> None:
    assert f"there is no model {given!r}; did you mean {meant}" in refusal(given)


@pytest.mark.parametrize("given", ["nope", "", "7", "x", "gpt-4", "arn:aws:bedrock:us-east-1::foundation-model/nope"])
def test_what_is_near_nothing_is_told_where_to_look(given: str) -> None:
    assert refusal(given) == f"there is no model {given!r}; `outcrop models list` has all foundation models"
    with pytest.raises(OutcropError, match="is no model of the catalogue; `outcrop models list` has"):
        find_row(CATALOG, given)


def test_every_spelling_of_a_foundation_model() -> None:
    arn = f"arn:aws:bedrock:us-east-1::foundation-model/{EXPRESS}"
    for given in ("amazon.titan-text-express-v1", EXPRESS, arn):
        found = find_start(CATALOG, NoModels(), given, "us-east-1")
        assert (found.row.long_id, found.arn, found.custom) == (EXPRESS, arn, None)


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    directory.write_credentials(Credentials("AKIA", "secret", "bearer", "us-east-1"))
    opened(f"sqlite:///{directory.database}").close()
    return directory


@pytest.fixture
def kept(data: DataDirectory) -> Model:
    """A custom model of Titan Text Express."""
    database = opened(f"sqlite:///{data.database}")
    store, made = Store.over(database), replace(model(1), base_model_id=EXPRESS, base_weights="bundled:text")
    done = store.jobs.add(job(1), None, made.arn)
    store.jobs.complete(done.arn, replace(made, job_arn=done.arn), {}, done.created)
    database.close()
    (data.models / made.id).mkdir()
    (data.models / made.id / "adapter_config.json").write_text('{"r": 16}')
    return made


@pytest.fixture
def ask(data: DataDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("OUTCROP_DATA", str(data.root))
    file = tmp_path / "train.jsonl"
    file.write_text("".join(f'{{"prompt": "{at}?", "completion": "{at}!"}}\n' for at in range(20)))
    return lambda command, *words: CliRunner().invoke(commands, [command, str(file), *words])


def test_a_custom_model_is_checked_and_planned_by_the_rules_of_what_it_came_from(ask: Ask, kept: Model) -> None:
    for given in (kept.name, kept.arn):
        told = json.loads(ask("check", "--model", given, "--json").stdout)
        assert (told["passed"], told["model"], told["baseModelArn"]) == (True, EXPRESS, kept.arn)
        plan = json.loads(ask("plan", "--model", given, "--json", "--no-calibration").stdout)
        assert {name: plan[name] for name in told if name not in ("hyperParameters", "dataset")} == {
            name: told[name] for name in told if name not in ("hyperParameters", "dataset")
        }
        assert plan["estimate"]["weights"] == "bundled:text"
    assert kept.arn in ask("plan", "--model", kept.name, "--no-calibration").stdout.replace("\n", "").replace(" ", "")


def test_a_custom_model_without_its_weights_is_refused(ask: Ask, kept: Model, data: DataDirectory) -> None:
    shutil.rmtree(data.models / kept.id)
    run = ask("plan", "--model", kept.name)
    assert run.exit_code == 2
    assert f"the weights of {kept.arn} are not at" in run.stderr


def test_who_is_unknown_hears_which_custom_models_there_are(ask: Ask, kept: Model) -> None:
    run = ask("plan", "--model", "zzzz")
    assert run.exit_code == 2
    assert f"custom models here: {kept.name}" in run.stderr
    assert f"did you mean {kept.name}?" in ask("check", "--model", kept.name + "x").stderr
