"""A sleeping deployment through boto3 as it comes: its own retries outlast the loading, in both of their modes."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore import retryhandler
from botocore.config import Config

from tests.api.bedrock_server import REGION, refused
from tests.api.runtime_server import Runtime, runtime_over
from tests.serve.fleet_world import until

BODY = json.dumps({"inputText": "hello"})


@pytest.fixture
def asleep(tmp_path: Path) -> Iterator[tuple[Runtime, str, str]]:
    """A server that lets calls wait a moment only, an Active deployment without engine, and what it will say."""
    with runtime_over(tmp_path, on_demand_wait=0.05, on_demand_keep=0.2) as runtime:
        world = runtime.world
        custom = world.model()
        arn = world.deploy(1, custom.arn)
        assert world.deployed(arn).status == "Active"
        until(lambda: not world.pids())
        (world.base / "slow").write_text("0.7")
        yield runtime, arn, f"{custom.id}: hello"


def test_who_does_not_try_again_is_told_to(asleep: tuple[Runtime, str, str]) -> None:
    runtime, arn, _ = asleep
    assert refused(runtime.client().invoke_model, modelId=arn, body=BODY) == (
        "ModelNotReadyException",
        "The model is still loading. Wait a few seconds and try again.",
        429,
    )


@pytest.mark.parametrize("retries", [None, {"mode": "standard", "max_attempts": 8}])
def test_boto3_gets_its_answer_in_the_end(
    asleep: tuple[Runtime, str, str], retries: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its older mode draws how long it waits, of 15 seconds in all: a bad draw is shorter than any engine's start.
    monkeypatch.setattr(retryhandler, "random", SimpleNamespace(random=lambda: 1.0))
    runtime, arn, said = asleep
    client = boto3.client(
        "bedrock-runtime",
        endpoint_url=runtime.endpoint,
        region_name=REGION,
        aws_access_key_id=runtime.keys.access_key,
        aws_secret_access_key=runtime.keys.secret,
        config=Config(retries=retries) if retries else None,
    )
    answer = client.invoke_model(modelId=arn, body=BODY)
    assert json.loads(answer["body"].read())["results"][0]["outputText"] == said
    assert answer["ResponseMetadata"]["RetryAttempts"] > 0
