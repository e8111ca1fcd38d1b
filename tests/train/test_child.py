"""The training child as it is started: a process, a directory, an object store; killed, stopped, refused, cut off."""

import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BloomConfig

from outcrop.records import Limits, TrainSpec
from tests.train.shelf import Shelf
from tests.train.work import Start

FOLDER = "bucket/out/model-customization-job-abcdefghijkl/"


@pytest.fixture
def spec(llama: Path, shelf: Shelf, write_pairs: Callable[..., Path]) -> TrainSpec:
    shelf.objects["bucket/data/train.jsonl"] = write_pairs(30).read_bytes()
    shelf.objects["bucket/data/validation.jsonl"] = write_pairs(5, start=40).read_bytes()
    shelf.objects["bucket/data/other.jsonl"] = write_pairs(3, start=50).read_bytes()
    return TrainSpec(
        job_arn="arn:aws:bedrock:us-east-1:123456789012:model-customization-job/m.v1:0:8k/abcdefghijkl",
        job_id="abcdefghijkl",
        base_model_id="amazon.titan-text-express-v1:0:8k",
        base=str(llama),
        base_name="a small llama",
        training="s3://bucket/data/train.jsonl",
        output="s3://bucket/out",
        validation=("s3://bucket/data/validation.jsonl", "s3://bucket/data/other.jsonl"),
        epochs=2,
        batch_size=4,
        learning_rate=5e-3,
        lora_rank=4,
        lora_alpha=8.0,
        seed=7,
        hyperparameters={"epochCount": "2", "batchSize": "4", "learningRate": "0.005"},
    )


@pytest.fixture
def start(tmp_path: Path, shelf: Shelf) -> Start:
    return Start(tmp_path, shelf)


def parts(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["part"], event["status"]) for event in events if event["kind"] == "part"]


def rows(content: bytes) -> list[list[str]]:
    return [line.split(",") for line in content.decode().splitlines()]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
def test_a_whole_job(spec: TrainSpec, start: Start, shelf: Shelf, llama: Path) -> None:
    job = start(replace(spec, export=True, output="s3://bucket/out/"))
    events = job.run()
    assert parts(events) == [
        (part, status)
        for part in ("validation", "dataProcessing", "training")
        for status in ("InProgress", "Completed")
    ]
    kinds = [event["kind"] for event in events]
    plan, done = events[kinds.index("plan")], events[-1]
    assert (plan["examples"], plan["validation_examples"], plan["steps"], plan["steps_per_epoch"]) == (30, 8, 16, 8)
    steps = [event for event in events if event["kind"] == "step"]
    assert [event["step"] for event in steps] == list(range(16))
    assert [event["epoch"] for event in steps] == [0] * 8 + [1] * 8
    assert sum(event["tokens"] for event in steps) == plan["tokens"] == done["tokens"]
    assert sum(event["scored_tokens"] for event in steps) == plan["scored_tokens"] == done["scored_tokens"]
    last = steps[8:]
    mean = sum(event["loss"] * event["scored_tokens"] for event in last) / sum(e["scored_tokens"] for e in last)
    assert done["kind"] == "done"
    assert done["training_loss"] == pytest.approx(mean, rel=1e-9)
    assert done["perplexity"] == pytest.approx(torch.tensor(mean, dtype=torch.float64).exp().item(), rel=1e-9)
    evaluations = [event for event in events if event["kind"] == "eval"]
    assert [(event["step"], event["epoch"], event["validator"]) for event in evaluations] == [
        (7, 0, 0), (7, 0, 1), (15, 1, 0), (15, 1, 1),
    ]  # fmt: skip
    assert done["validation_losses"] == [event["loss"] for event in evaluations[2:]]
    assert done["training_loss"] < steps[0]["loss"]
    _check_storage(shelf, steps, evaluations)
    _check_weights(job.directory / "model", shelf, llama)
    assert job.run() == events, "a finished job is not done again"


def _check_storage(shelf: Shelf, steps: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> None:
    training = rows(shelf.objects[FOLDER + "training_artifacts/step_wise_training_metrics.csv"])
    assert training[0] == ["step_number", "epoch_number", "training_loss", "perplexity"]
    assert [(int(row[0]), int(row[1]), float(row[2]), float(row[3])) for row in training[1:]] == [
        (event["step"], event["epoch"], event["loss"], event["perplexity"]) for event in steps
    ]
    places = {name for name in shelf.objects if name.endswith("validation_metrics.csv")}
    assert places == {
        FOLDER + "validation_artifacts/" + place + "validation_metrics.csv"
        for place in ("", "post_fine_tuning_validation/", "post_fine_tuning_validation/validation/")
    }
    validation = rows(shelf.objects[min(places)])
    assert len({shelf.objects[place] for place in places}) == 1
    assert validation[0] == ["step_number", "epoch_number", "validation_loss", "perplexity"]
    assert [float(row[2]) for row in validation[1:]] == [event["loss"] for event in evaluations]
    assert shelf.objects["bucket/out/.write_access_check_file.temp"] == b""
    table = rows(shelf.objects[FOLDER + "input_status/manifest.report.csv"])
    assert ",".join(table[0]) == (
        "fileName,totalProcessedRecordCount,acceptedRecordCount,partiallyAcceptedRecordCount,rejectedRecordCount"
    )
    assert table[1:] == [
        ["train.jsonl", "30", "30", "0", "0"],
        ["validation.jsonl", "5", "5", "0", "0"],
        ["other.jsonl", "3", "3", "0", "0"],
    ]
    assert rows(shelf.objects[FOLDER + "input_data_report/manifest.report.csv"]) == table
    report = json.loads(shelf.objects[FOLDER + "input_data_report/report.json"])
    assert [entry["passed"] for entry in report["files"]] == [True] * 3
    assert shelf.objects[FOLDER + "input_data_report/faults.jsonl"] == b""


def _check_weights(folder: Path, shelf: Shelf, llama: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "lineage.json"}
    for name in names:
        assert shelf.objects[f"{FOLDER}model/{name}"] == (folder / name).read_bytes()
    story = json.loads((folder / "lineage.json").read_text())
    assert story["base"]["name"] == "a small llama"
    assert story["hyperparameters"]["asked"]["learningRate"] == "0.005"
    assert story["hyperparameters"]["effective"]["lora_rank"] == 4
    content = shelf.objects["bucket/data/train.jsonl"]
    assert story["datasets"][0]["sha256"] == hashlib.sha256(content).hexdigest()
    base = AutoModelForCausalLM.from_pretrained(llama)
    ids = torch.tensor([[0, 5, 6, 7]])
    before = base(ids).logits
    assert not torch.equal(PeftModel.from_pretrained(base, folder)(ids).logits, before)


@pytest.mark.slow
def test_killed_at_random_moments_a_job_ends_with_the_same_bits(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    spec = replace(spec, epochs=4, checkpoint_seconds=0.0)
    whole = start(spec, "whole")
    expected = [event for event in whole.run() if event["kind"] in {"step", "eval", "done"}]
    files = {name: content for name, content in shelf.objects.items() if name.endswith("metrics.csv")}
    torn = start(spec, "torn")
    chance = random.Random(20261122)
    for kills in range(3):
        child = torn.start()
        before = torn.steps()
        first = chance.uniform(0.0, 1.5) if kills == 0 else 0.0
        target = before + chance.randint(1, 7)
        if kills:
            torn.wait_for(lambda: torn.steps() >= target, child)  # noqa: B023 - waited for in this very round
        time.sleep(first + chance.uniform(0, 0.03))
        child.kill()
        child.wait()
        with (torn.directory / "events.jsonl").open("ab") as diary:
            diary.write(b'{"at": "torn')
    events = torn.run()
    assert any(event["kind"] == "log" and "resumed at step" in event["message"] for event in events)
    said = parts(events)
    assert len(said) == len(set(said)) == 6, "no part is begun or ended twice"
    latest = {_place(event): event for event in events if event["kind"] in {"step", "eval", "done"}}
    for event in expected:
        found = latest[_place(event)]
        for member in ("loss", "gradient_norm", "training_loss", "validation_losses", "tokens"):
            assert found.get(member) == event.get(member), (_place(event), member)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (torn.directory / "model" / name).read_bytes() == (whole.directory / "model" / name).read_bytes()
    stories = [json.loads((job.directory / "model" / "lineage.json").read_text()) for job in (whole, torn)]
    for story in stories:
        del story["versions"]["outcrop"]  # its commit: somebody may make one between two lives
    assert stories[0] == stories[1]
    assert {name: shelf.objects[name] for name in files} == files


def _place(event: dict[str, Any]) -> tuple[Any, ...]:
    return event["kind"], event.get("step"), event.get("validator")


@pytest.mark.slow
def test_a_stop_is_heard_within_a_step_and_a_second_child_leaves(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    job = start(replace(spec, epochs=2000))
    child = job.start()
    job.wait_for(lambda: job.steps() >= 3, child)
    second = job.start()
    assert second.wait(timeout=60) == 0
    assert child.poll() is None, "the second one did no harm"
    before = job.steps()
    (job.directory / "stop").touch()
    assert child.wait(timeout=30) == 0
    events = job.events()
    assert events[-1]["kind"] == "stopped"
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert steps == list(range(len(steps)))
    assert events[-1]["step"] == len(steps) >= before
    assert parts(events)[-1] == ("training", "Stopped")
    assert [event["kind"] for event in events[-3:]] == ["checkpoint", "part", "stopped"]
    assert not (job.directory / "model").exists()
    curve = rows(shelf.objects[FOLDER + "training_artifacts/step_wise_training_metrics.csv"])
    assert [row[0] for row in curve[1:]] == [str(step) for step in steps], "what was trained is told to the last step"
    assert job.run() == events, "a stopped job is over"


def test_a_job_that_diverges_leaves_its_curve(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    events = start(replace(spec, learning_rate=1e30)).run()
    assert events[-1]["kind"] == "failed"
    steps = [event["step"] for event in events if event["kind"] == "step"]
    curve = rows(shelf.objects[FOLDER + "training_artifacts/step_wise_training_metrics.csv"])
    assert steps
    assert [row[0] for row in curve[1:]] == [str(step) for step in steps]


def test_a_whole_model_is_tuned_while_storage_goes_away_and_comes_back(
    spec: TrainSpec, start: Start, shelf: Shelf, qwen: Path
) -> None:
    job = start(replace(spec, method="full", base=str(qwen), epochs=1, validation=(), learning_rate=1e-3, export=True))
    child = job.start()
    job.wait_for(lambda: ("validation", "Completed") in parts(job.events()), child)
    shelf.close()
    job.wait_for(lambda: job.steps() == 8, child)
    time.sleep(1.0)
    assert child.poll() is None, "the job waits for storage instead of failing"
    shelf.open()
    assert child.wait(timeout=60) == 0
    events = job.events()
    assert events[-1]["kind"] == "done"
    assert events[-1]["validation_losses"] == []
    assert len(rows(shelf.objects[FOLDER + "training_artifacts/step_wise_training_metrics.csv"])) == 9
    model = AutoModelForCausalLM.from_pretrained(job.directory / "model")
    tokenizer = AutoTokenizer.from_pretrained(job.directory / "model")
    assert tokenizer("返金").input_ids == AutoTokenizer.from_pretrained(qwen)("返金").input_ids
    before = AutoModelForCausalLM.from_pretrained(qwen).state_dict()
    assert not torch.equal(model.state_dict()["lm_head.weight"], before["lm_head.weight"])
    assert f"{FOLDER}model/model.safetensors" in shelf.objects
    assert f"{FOLDER}model/tokenizer.json" in shelf.objects


def test_bad_data_fails_before_torch_and_every_fault_is_listed(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    good = json.dumps({"prompt": "a", "completion": "b"})
    long = json.dumps({"prompt": "返" * 60, "completion": "b"})
    shelf.objects["bucket/data/train.jsonl"] = "\n".join([good, long, '{"prompt": 1}', good]).encode()
    shelf.objects["bucket/data/other.jsonl"] = b"\n"
    job = start(replace(spec, limits=Limits(max_input_tokens=9)))
    events = job.run("-X", "importtime")
    assert parts(events) == [("validation", "InProgress"), ("validation", "Failed")]
    assert events[-1]["kind"] == "failed"
    message = events[-1]["message"]
    assert message.startswith("Maximum input token count 10 exceeds limit of 9 for train data (line 2: ")
    assert message.endswith(f"faults in this file: 2). All faults: s3://{FOLDER}input_data_report/faults.jsonl")
    imported = {line.rsplit("|", 1)[-1].strip() for line in job.log().splitlines() if line.startswith("import time:")}
    assert "outcrop.train.intake" in imported
    assert not {"torch", "transformers"} & imported
    faults = [json.loads(line) for line in shelf.objects[FOLDER + "input_data_report/faults.jsonl"].splitlines()]
    assert [(fault["file"], fault["line"], fault["kind"]) for fault in faults] == [
        ("s3://bucket/data/train.jsonl", 2, "input"),
        ("s3://bucket/data/train.jsonl", 3, "shape"),
        ("s3://bucket/data/other.jsonl", 1, "jsonl"),
    ]
    table = rows(shelf.objects[FOLDER + "input_data_report/manifest.report.csv"])
    assert [row[1:] for row in table[1:]] == [["4", "2", "0", "2"], ["5", "5", "0", "0"], ["1", "0", "0", "1"]]


def test_an_example_longer_than_the_model_takes_is_refused_with_its_lengths(
    spec: TrainSpec, start: Start, shelf: Shelf
) -> None:
    pair = {"prompt": "x" * 60, "completion": "返金"}
    shelf.objects["bucket/data/other.jsonl"] = (json.dumps(pair) + "\n").encode()
    events = start(spec).run()
    assert events[-1]["kind"] == "failed"
    assert events[-1]["message"].startswith(
        f"Input size exceeded in file other.jsonl for record starting with {'x' * 60} (line 1: "
    )
    assert "the weights behind this model take 64" in events[-1]["message"]
    table = rows(shelf.objects[FOLDER + "input_status/manifest.report.csv"])
    assert table[3] == ["other.jsonl", "1", "0", "0", "1"]


GET_REFUSED = "Could not validate GetObject permissions to access Amazon S3 bucket: bucket at key data/"
PUT_REFUSED = (
    "Amazon S3 perms missing (PutObject): Could not validate PutObject permissions to access S3 bucket: bucket"
)


@pytest.mark.parametrize(
    ("method", "place", "message"),
    [
        (
            "GET",
            "data/validation.jsonl",
            f"{GET_REFUSED}validation.jsonl (s3://bucket/data/validation.jsonl: AccessDenied",
        ),
        ("gone", "data/train.jsonl", f"{GET_REFUSED}train.jsonl (s3://bucket/data/train.jsonl: NoSuchKey"),
        ("PUT", "out/.write_access_check_file.temp", f"{PUT_REFUSED} at key out/.write_access_check_file.tmp ("),
    ],
)
def test_a_role_without_rights_fails_in_aws_words_and_writes_nothing(
    method: str, place: str, message: str, spec: TrainSpec, start: Start
) -> None:
    shelf = start.shelf
    if method == "gone":
        del shelf.objects[f"bucket/{place}"]
    else:
        shelf.refused.add((method, f"bucket/{place}"))
    events = start(spec).run()
    assert parts(events) == [("validation", "InProgress"), ("validation", "Failed")]
    assert events[-1]["message"].startswith(message)
    assert not [key for key in shelf.puts if key.startswith(FOLDER)]


def test_a_role_that_loses_its_rights_under_way_fails_and_says_so(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    place = FOLDER + "training_artifacts/step_wise_training_metrics.csv"
    shelf.refused.add(("PUT", place))
    events = start(spec).run()
    assert events[-1]["kind"] == "failed"
    assert f"s3://{place}: AccessDenied" in events[-1]["message"]
    assert parts(events)[-1] == ("training", "Failed")


@pytest.mark.slow
def test_credentials_that_run_out_cost_a_restart_and_not_the_work(spec: TrainSpec, start: Start) -> None:
    start.shelf.code = "ExpiredToken"
    refused = ("PUT", FOLDER + "training_artifacts/step_wise_training_metrics.csv")
    start.shelf.refused.add(refused)
    job = start(spec)
    assert job.start().wait(timeout=120) == 75
    assert "ran out" in job.log()
    assert not {"done", "failed", "stopped"} & {event["kind"] for event in job.events()}
    start.shelf.refused.clear()
    events = job.run()
    assert events[-1]["kind"] == "done"
    assert sum(event["kind"] == "step" for event in events) == 16, "no step is done twice"


def test_an_unexpected_fault_is_told_in_aws_words_with_the_trace_in_the_log(
    spec: TrainSpec, start: Start, tmp_path: Path, llama: Path
) -> None:
    broken = shutil.copytree(llama, tmp_path / "broken")
    (broken / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "None such"}}')
    job = start(replace(spec, base=str(broken)))
    events = job.run()
    said = "Encountered an unexpected error when processing the request, please try again ("
    assert events[-1]["message"].startswith(said)
    assert "Traceback" in job.log()
    missing = start(replace(spec, base=str(tmp_path / "nowhere")), "second")
    assert "nowhere is not there" in missing.run()[-1]["message"]


def test_wrong_usage_is_refused() -> None:
    ran = subprocess.run([sys.executable, "-m", "outcrop.train.run"], capture_output=True, check=False)
    assert ran.returncode == 2
    assert b"usage" in ran.stderr


def test_a_base_that_cannot_be_packed_is_slower_and_the_log_says_why(
    spec: TrainSpec, start: Start, llama: Path, tmp_path: Path
) -> None:
    base = tmp_path / "bloom"
    shutil.copytree(llama, base, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    vocabulary = AutoConfig.from_pretrained(llama).vocab_size
    config = BloomConfig(vocab_size=vocabulary, hidden_size=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=1)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    events = start(replace(spec, base=str(base), epochs=1)).run()
    assert events[-1]["kind"] == "done"
    told = [event["message"] for event in events if event["kind"] == "log"]
    assert told == [
        "its examples are trained one by one, which is slower than packed: BloomForCausalLM has an attention of its own"
    ]
