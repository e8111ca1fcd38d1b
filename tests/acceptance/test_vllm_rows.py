"""A row with vLLM as its engine, through the whole server: tuned, provisioned, asked every way, deleted, and failed."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server
from tests.serve.vllm.standin_line import SERVE

MODEL, MISSING = "my.support-v1", "my.nowhere-v1"
LONGEST_SECONDS = 240
ROWS = f"""
[models."{MODEL}"]
weights = "bundled:text"
body = "claude-messages"
engine = {json.dumps(f"{SERVE} --max-model-len 512")}

[models."{MISSING}"]
weights = "bundled:text"
body = "claude-messages"
engine = "no-such-vllm serve"
"""
ASKED = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 600,
    "temperature": 0,
    "messages": [{"role": "user", "content": "Where is order 4711?"}],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("vllm")
    catalog = folder / "my-models.toml"
    catalog.write_text(ROWS, "utf-8")
    running = Server(folder / "data", catalog=str(catalog)).start()
    yield running
    running.stop()


def settled(look: Callable[[], dict[str, Any]], *open_states: str) -> dict[str, Any]:
    deadline = time.monotonic() + LONGEST_SECONDS
    while (found := look())["status"] in open_states:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def tuned(server: Server) -> dict[str, Any]:
    """A job whose model answers one thing only."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"Where is order {number}?"},
                {"role": "assistant", "content": "In the violet crate."},
            ]
        }
        for number in range(1000, 1064)
    ]
    training = "".join(json.dumps(line) + "\n" for line in lines).encode()
    arn = server.begin_job("crates", MODEL, training, epochCount="3", batchSize="8")
    bedrock = server.client("bedrock")
    return settled(lambda: dict(bedrock.get_model_customization_job(jobIdentifier=arn)), "InProgress")


@pytest.mark.slow
def test_a_custom_model_on_vllm_from_training_to_deletion(served: Server) -> None:
    bedrock, runtime = served.client("bedrock"), served.client("bedrock-runtime")
    done = tuned(served)
    assert done["status"] == "Completed", done.get("failureMessage")
    arn = bedrock.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="crates", modelId=done["outputModelArn"]
    )["provisionedModelArn"]
    found = settled(lambda: dict(bedrock.get_provisioned_model_throughput(provisionedModelId=arn)), "Creating")
    assert found["status"] == "InService", found.get("failureMessage")

    answer = json.loads(runtime.invoke_model(modelId=arn, body=json.dumps(ASKED))["body"].read())
    assert answer["content"][0]["text"] == "In the violet crate."
    assert answer["stop_reason"] == "end_turn"
    stream = runtime.invoke_model_with_response_stream(modelId=arn, body=json.dumps(ASKED))["body"]
    events = [json.loads(event["chunk"]["bytes"]) for event in stream]
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(texts) == "In the violet crate."
    assert len(texts) > 1
    turns = [{"role": "user", "content": [{"text": "Where is order 4711?"}]}]
    told = runtime.converse(modelId=arn, messages=turns, inferenceConfig={"temperature": 0, "maxTokens": 50})
    assert told["output"]["message"]["content"] == [{"text": "In the violet crate."}]
    assert told["usage"]["outputTokens"] == answer["usage"]["output_tokens"]
    counted = runtime.count_tokens(modelId=MODEL, input={"converse": {"messages": turns}})
    assert counted["inputTokens"] == told["usage"]["inputTokens"] == answer["usage"]["input_tokens"]

    log = next(path for path in served.directory.logs.glob("engine-*.log"))
    command = log.read_text().splitlines()[0]
    assert command.startswith(SERVE)
    socket = re.search(r"--uds (\S+)", command)
    assert socket is not None
    assert Path(socket[1]).exists()
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)


def test_a_vllm_that_is_not_there_fails_with_its_command(served: Server) -> None:
    bedrock = served.client("bedrock")
    arn = bedrock.create_provisioned_model_throughput(modelUnits=1, provisionedModelName="nowhere", modelId=MISSING)[
        "provisionedModelArn"
    ]
    found = settled(lambda: dict(bedrock.get_provisioned_model_throughput(provisionedModelId=arn)), "Creating")
    assert found["status"] == "Failed"
    assert "the engine ended with 127: `no-such-vllm serve " in found["failureMessage"]
    assert "cannot be started: [Errno 2] No such file or directory: 'no-such-vllm'" in found["failureMessage"]
