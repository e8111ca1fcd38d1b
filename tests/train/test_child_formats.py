"""The training child on texts and conversations: held out, stopped early, killed on the way, refused at once."""

import json
import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.records import TrainSpec
from tests.train.shelf import Shelf
from tests.train.work import Work

FOLDER = "bucket/out/model-customization-job-abcdefghijkl/"

WORDS = ["the order", "a parcel", "is late", "was lost", "where is", "thank you", "配送", "返金", "please wait"]


def said(index: int, count: int) -> str:
    return " ".join(WORDS[(index * 5 + word * 7) % len(WORDS)] for word in range(count))


def lines(entries: list[Any]) -> bytes:
    return "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries).encode()


def talks(count: int) -> bytes:
    """Conversations of one or two exchanges, as Nova and the newer Llamas take them."""
    return lines(
        [
            {
                "schemaVersion": "bedrock-conversation-2024",
                "system": [{"text": "be brief"}],
                "messages": [
                    {"role": ("user", "assistant")[place % 2], "content": [{"text": said(index + place, 1)}]}
                    for place in range(2 + 2 * (index % 2))
                ],
            }
            for index in range(count)
        ]
    )


@pytest.fixture
def start(tmp_path: Path, shelf: Shelf) -> Callable[..., Work]:
    return lambda spec, name="abcdefghijkl": Work(tmp_path / name, spec, shelf)


@pytest.fixture
def spec(llama: Path) -> TrainSpec:
    return TrainSpec(
        job_arn="arn:aws:bedrock:us-east-1:123456789012:model-customization-job/m.v1:0:8k/abcdefghijkl",
        job_id="abcdefghijkl",
        base_model_id="amazon.titan-text-express-v1:0:8k",
        base=str(llama),
        base_name="a small llama",
        training="s3://bucket/data/train.jsonl",
        output="s3://bucket/out",
        batch_size=4,
        learning_rate=5e-3,
        lora_rank=4,
        lora_alpha=8.0,
        seed=7,
    )


def one(events: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [event for event in events if event["kind"] == kind]
    return found


def test_texts_are_read_on_and_their_perplexity_is_reported(
    spec: TrainSpec, start: Callable[..., Work], shelf: Shelf
) -> None:
    texts = [{"input": said(index, 1 + index * 3 % 11)} for index in range(40)]
    shelf.objects["bucket/data/train.jsonl"] = lines([*texts, {"input": said(1, 60)}])
    shelf.objects["bucket/data/unread.jsonl"] = lines([{"input": said(index, 5)} for index in range(50, 60)])
    events = start(
        replace(
            spec, format="text", customization="CONTINUED_PRE_TRAINING", validation=("s3://bucket/data/unread.jsonl",),
            epochs=3, max_sequence_length=32,
        )
    ).run()  # fmt: skip
    plan, done = one(events, "plan"), one(events, "done")
    assert plan["records"] == 41
    assert plan["examples"] == -(-plan["tokens"] // 3 // 32)
    assert plan["splits"] > 5, "the long text alone is cut so often, and each cut is counted"
    assert plan["scored_tokens"] == plan["tokens"] - 3 * (41 + plan["splits"]), "all but the first of each stretch"
    evaluations = [event for event in events if event["kind"] == "eval"]
    assert [event["epoch"] for event in evaluations] == [0, 1, 2]
    assert evaluations[-1]["perplexity"] < evaluations[0]["perplexity"]
    assert done["validation_perplexities"] == [evaluations[-1]["perplexity"]]
    table = shelf.objects[FOLDER + "validation_artifacts/validation_metrics.csv"].decode().splitlines()
    assert [float(row.split(",")[3]) for row in table[1:]] == [event["perplexity"] for event in evaluations]


@pytest.mark.slow
def test_a_killed_job_stops_early_with_the_same_weights(
    spec: TrainSpec, start: Callable[..., Work], shelf: Shelf
) -> None:
    shelf.objects["bucket/data/train.jsonl"] = talks(40)
    spec = replace(
        spec, format="conversation", epochs=40, evaluation_share=0.2, early_stopping_patience=2, learning_rate=5e-2,
        early_stopping_threshold=0.01, checkpoint_seconds=0.0,
    )  # fmt: skip
    whole = start(spec, "whole")
    expected = one(whole.run(), "done")
    plan = one(whole.events(), "plan")
    assert (plan["examples"], plan["held_out"], plan["validation_examples"]) == (32, 8, 8)
    assert expected["stopped_early"]
    assert expected["delivered_step"] < expected["steps"] < plan["steps"]
    losses = {event["step"] + 1: event["loss"] for event in whole.events() if event["kind"] == "eval"}
    assert expected["validation_losses"] == [losses[expected["delivered_step"]]] == [min(losses.values())]
    torn = start(spec, "torn")
    child = torn.start()
    torn.wait_for(lambda: torn.steps() >= expected["delivered_step"] - 2, child)
    time.sleep(random.uniform(0, 0.05))
    child.kill()
    child.wait()
    again = one(torn.run(), "done")
    timed = dict.fromkeys(("at", "seconds", "training_seconds", "examples_per_second"), 0)
    assert {**again, **timed} == {**expected, **timed}
    name = "model/adapter_model.safetensors"
    assert (torn.directory / name).read_bytes() == (whole.directory / name).read_bytes()


def test_a_template_that_teaches_no_stop_fails_before_anything_is_fetched(
    spec: TrainSpec, start: Callable[..., Work], shelf: Shelf, llama: Path, tmp_path: Path
) -> None:
    shutil.copytree(llama, tmp_path / "base")
    silent = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
    (tmp_path / "base" / "chat_template.jinja").write_text(silent)
    job = start(replace(spec, format="messages", base=str(tmp_path / "base")))
    failed = one(job.run("-X", "importtime"), "failed")
    assert "a model tuned with it would never learn to stop" in failed["message"]
    assert not shelf.objects
    assert " torch\n" not in job.log()
