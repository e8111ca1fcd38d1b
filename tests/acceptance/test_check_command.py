"""outcrop check and outcrop plan as a person meets them: screens, JSON, exit statuses, and what is said to mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.acceptance.server import Server

EXPRESS = "amazon.titan-text-express-v1"
GOOD = {"prompt": "Customer: where is order 7?\nAgent:", "completion": " On its way."}


def outcrop(*words: str, environment: dict[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run one command line at 80 columns, with no other AWS set-up than the one that is given."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OUTCROP_"))}
    return subprocess.run(
        [sys.executable, "-m", "outcrop.cli", *words],
        env={**plain, "COLUMNS": "80", "AWS_EC2_METADATA_DISABLED": "true", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )


def written(path: Path, *lines: Any) -> str:
    """A file of JSON lines; texts stand as they are. Returns its path."""
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return str(path)


@pytest.fixture
def good(tmp_path: Path) -> str:
    return written(tmp_path / "train.jsonl", *({**GOOD, "prompt": f"{at}?"} for at in range(40)))


def test_a_good_file_passes(good: str) -> None:
    run = outcrop("check", good, "--model", EXPRESS)
    assert (run.returncode, run.stderr) == (0, "")
    assert "no fault" in run.stdout
    assert "a job would take this dataset" in run.stdout
    assert "█" in run.stdout
    assert max(map(len, run.stdout.splitlines())) <= 80


def test_every_fault_is_shown_at_its_place(tmp_path: Path) -> None:
    path = written(
        tmp_path / "bad.jsonl",
        GOOD,
        {**GOOD, "extra": 1},
        '{"prompt": "a", "completion": "b",}',
        "",
        {"prompt": "x" * 30_000, "completion": "y"},
        GOOD,
    )
    run = outcrop("check", path, "--model", EXPRESS, "--faults", str(tmp_path / "faults.jsonl"))
    assert run.returncode == 1
    said = " ".join(run.stdout.split())
    assert "line 2, column" in said
    assert "unknown member extra" in said
    assert "line 4 " in said
    assert "A job would say: Input data at" in said
    assert "records repeat an earlier one exactly" in said or "repeats an earlier one" in said
    told = [json.loads(line) for line in (tmp_path / "faults.jsonl").read_text().splitlines()]
    assert [fault["line"] for fault in told] == [2, 3, 4, 5]
    assert {fault["file"] for fault in told} == {path}
    lines = run.stdout.splitlines()
    marked = [lines[at - 1][line.index("^")] for at, line in enumerate(lines) if line.strip() == "^"]
    assert marked[:2] == ['"', "}"]


def test_leakage_is_told_and_is_no_fault(good: str, tmp_path: Path) -> None:
    other = written(tmp_path / "validation.jsonl", {**GOOD, "prompt": "3?"}, {**GOOD, "prompt": "fresh?"})
    run = outcrop("check", good, "--validation", other, "--model", EXPRESS)
    assert run.returncode == 0
    assert "the training file's line 4" in " ".join(run.stdout.split())
    run = outcrop("check", good, "--validation", other, "--model", EXPRESS, "--json")
    assert [leak["records"] for leak in json.loads(run.stdout)["dataset"]["together"]["leaks"]] == [1]


def test_json_is_all_that_is_printed(good: str, tmp_path: Path) -> None:
    run = outcrop("check", good, "--model", EXPRESS, "--json")
    told = json.loads(run.stdout)
    assert (run.returncode, told["passed"], told["model"]) == (0, True, f"{EXPRESS}:0:8k")
    assert told["dataset"]["files"][0]["records"] == 40
    run = outcrop("check", written(tmp_path / "bad.jsonl", "[]"), "--model", EXPRESS, "--json")
    told = json.loads(run.stdout)
    assert (run.returncode, told["passed"], told["dataset"]["fault_count"]) == (1, False, 1)


def test_quotas_follow_the_batch_size_and_the_type(tmp_path: Path) -> None:
    path = written(tmp_path / "long.jsonl", {"prompt": "x" * 20_000, "completion": "y"})
    assert outcrop("check", path, "--model", EXPRESS).returncode == 0
    run = outcrop("check", path, "--model", EXPRESS, "--batch-size", "4")
    assert run.returncode == 1
    assert "2048 tokens" in " ".join(run.stdout.split())
    path = written(tmp_path / "text.jsonl", {"input": "a text"})
    assert outcrop("check", path, "--model", EXPRESS, "--type", "continued-pre-training").returncode == 0
    assert outcrop("check", path, "--model", EXPRESS).returncode == 1


def test_standard_input_is_a_file_too(good: str) -> None:
    run = outcrop("check", "-", "--model", EXPRESS, input=Path(good).read_text())
    assert run.returncode == 0, run.stdout + run.stderr
    assert outcrop("check", "-", "--validation", "-", "--model", EXPRESS, input="").returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{good}"], "which model is the dataset meant for? Give --model"),
        (["{good}", "--model", "titan-express"], "did you mean amazon.titan-text-express-v1:0:8k?"),
        (["{good}", "--model", "nope"], "there is no model 'nope'; `outcrop models list` has all foundation models"),
        (["{good}", "--model", EXPRESS, "--type", "tuning"], "can be customized by FINE_TUNING"),
        (["{folder}", "--model", EXPRESS], "is a folder; did you mean {good}?"),
        (["{folder}/trian.jsonl", "--model", EXPRESS], "there is no such file; did you mean {good}?"),
        (["s3://bucket/key", "--model", EXPRESS], 'eval "$(outcrop env)"'),
        (["s3://bucket/", "--model", EXPRESS], "names no object"),
        (["https://example.com/a.jsonl", "--model", EXPRESS], "only paths, s3:// URIs and - for standard input"),
        (["{good}", "--model", EXPRESS, "--faults", "{folder}"], "Is a directory"),
        (["{good}", "--model", EXPRESS, "--faults", "{good}"], "a file of the dataset, which would be lost"),
        (["{good}", "--model", EXPRESS, *["--validation", "{good}"] * 11], "11 validation files are more than the 10"),
        (["{good}", "--model", EXPRESS, "--batch-size", "65"], "an integer between 1 and 64"),
    ],
)
def test_mistakes_end_with_status_2_and_the_way_out(good: str, words: list[str], said: str) -> None:
    names = {"good": good, "folder": str(Path(good).parent)}
    before = Path(good).read_bytes()
    run = outcrop("check", *(word.format(**names) for word in words))
    assert Path(good).read_bytes() == before
    assert run.returncode == 2, run.stdout
    assert said.format(**names) in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_objects_are_checked_where_they_lie(server: Server, good: str) -> None:
    names = {
        "AWS_ENDPOINT_URL": "endpoint_url",
        "AWS_ACCESS_KEY_ID": "aws_access_key_id",
        "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
        "AWS_DEFAULT_REGION": "region_name",
    }
    s3 = boto3.session.Session().client("s3", **{names[name]: value for name, value in server.environment.items()})
    s3.create_bucket(Bucket="check-command")
    s3.upload_file(good, "check-command", "train.jsonl")
    run = outcrop("check", "s3://check-command/train.jsonl", "--model", EXPRESS, environment=server.environment)
    assert run.returncode == 0, run.stderr
    for uri, said in (
        ("s3://check-command/nothing.jsonl", "no such key"),
        ("s3://no-such-bucket-at-all/x.jsonl", "s3://no-such-bucket-at-all/x.jsonl"),
    ):
        run = outcrop("check", uri, "--model", EXPRESS, environment=server.environment)
        assert run.returncode == 2
        assert said in run.stderr
        assert "Traceback" not in run.stderr


def test_a_plan_says_what_a_job_would_do(good: str, tmp_path: Path) -> None:
    words = [good, "--model", EXPRESS, "--hyper", "epochCount=2", "--data", str(tmp_path / "none")]
    run = outcrop("plan", *words, environment={"OUTCROP_MACHINE_COST_PER_HOUR": "0.5", "OUTCROP_TRAINING_THREADS": "1"})
    assert run.returncode == 0, run.stdout + run.stderr
    said = " ".join(run.stdout.split())
    assert "steps 80: 2 epochs of 40" in said
    assert "real training steps on 1 thread" in said
    assert "by its list price" in said
    assert "at $0.50 an hour of this machine" in said
    assert "nothing was started" in said
    assert max(map(len, run.stdout.splitlines())) <= 80
    assert not (tmp_path / "none").exists()


def test_a_plan_without_steps_is_quick_and_as_json_complete(good: str, tmp_path: Path) -> None:
    words = [good, "--model", EXPRESS, "--no-calibration", "--json", "--data", str(tmp_path / "none")]
    run = outcrop("plan", *words)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["passed"] is True
    assert told["estimate"]["plan"]["steps"] == 200
    assert told["estimate"]["time"] is None
    assert told["estimate"]["memory"]["source"] == "formula"


def test_a_plan_for_faulty_data_is_the_report(tmp_path: Path) -> None:
    run = outcrop("plan", written(tmp_path / "bad.jsonl", "{}"), "--model", EXPRESS, "--data", str(tmp_path / "none"))
    assert run.returncode == 1
    assert "line 1" in run.stdout
    assert "A job would say" in run.stdout


def test_examples_longer_than_the_weights_take_fail_a_plan(tmp_path: Path) -> None:
    path = written(tmp_path / "long.jsonl", GOOD, {"prompt": "a b " * 2000, "completion": "y"})
    run = outcrop("plan", path, "--model", EXPRESS, "--data", str(tmp_path / "none"))
    assert run.returncode == 1
    said = " ".join(run.stdout.split())
    assert "long.jsonl, line 2" in said
    assert "Nothing is ever cut" in said


@pytest.mark.parametrize(
    ("hyper", "said"),
    [
        (["epochCount"], "give NAME=VALUE, as epochCount=3"),
        (["epochCount=1", "epochCount=2"], "given twice"),
        (["epochs=1"], "epochs"),
        (["batchSize=999"], "between 1 and 64"),
    ],
)
def test_wrong_hyperparameters_are_named(good: str, tmp_path: Path, hyper: list[str], said: str) -> None:
    words = [word for pair in hyper for word in ("--hyper", pair)]
    run = outcrop("plan", good, "--model", EXPRESS, *words, "--data", str(tmp_path / "none"))
    assert run.returncode == 2
    assert said in run.stderr
