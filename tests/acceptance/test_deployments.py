"""Custom model deployments with unchanged boto3, on models that were really trained: idle, moved, restarted."""

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.acceptance.server import Server

BASE = "amazon.titan-text-express-v1"
QUESTION = "Customer: where is order 4711?\nAgent:"
BODY = json.dumps({"inputText": QUESTION, "textGenerationConfig": {"temperature": 0, "maxTokenCount": 12}})
CONVERSATION = {
    "messages": [{"role": "user", "content": [{"text": QUESTION}]}],
    "inferenceConfig": {"temperature": 0, "maxTokens": 12},
}
KEEP_SECONDS = 3.0


class Shop:
    """A server with two custom models, and boto3's own clients for it, with nothing set but address and key."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.bedrock, self.runtime = self.server.client("bedrock"), self.server.client("bedrock-runtime")
        self.models = [self.train(number) for number in (1, 2)]

    def train(self, number: int) -> str:
        """The ARN of a custom model."""
        s3 = self.server.client("s3")
        if number == 1:
            s3.create_bucket(Bucket="shop")
        pair = {"prompt": "Customer: where is order 1?\nAgent:", "completion": f" In crate {number}, on its way."}
        s3.put_object(Bucket="shop", Key=f"{number}.jsonl", Body=(json.dumps(pair) + "\n").encode() * 8)
        job = self.bedrock.create_model_customization_job(
            jobName=f"shop-{number}",
            customModelName=f"shop-{number}",
            roleArn="arn:aws:iam::123456789012:role/BedrockCustomizationRole",
            baseModelIdentifier=BASE,
            trainingDataConfig={"s3Uri": f"s3://shop/{number}.jsonl"},
            outputDataConfig={"s3Uri": "s3://shop/out/"},
            hyperParameters={"epochCount": "2", "batchSize": "4"},
        )["jobArn"]
        done = until(
            lambda: self.bedrock.get_model_customization_job(jobIdentifier=job),
            lambda answer: answer["status"] != "InProgress",
        )
        assert done["status"] == "Completed", done.get("failureMessage")
        return str(done["outputModelArn"])

    def deployment(self, identifier: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.bedrock.get_custom_model_deployment(customModelDeploymentIdentifier=identifier)
        return answer

    def say(self, target: str, runtime: Any = None) -> str:
        """A greedy answer."""
        said = json.loads((runtime or self.runtime).invoke_model(modelId=target, body=BODY)["body"].read())
        return str(said["results"][0]["outputText"])

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by its name with its labels."""
        page = httpx.get(f"{self.server.endpoint}/metrics", trust_env=False)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/plain")
        rows = (line.rsplit(" ", 1) for line in page.text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}

    def engines(self) -> int:
        """Engines that are up or loading."""
        return sum(1 for name in self.metrics() if re.match(r"outcrop_engine_state\{.*(loading|serving)", name))


def until(ask: Callable[[], Any], true: Callable[[Any], bool], seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not true(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root: Path = tmp_path_factory.mktemp("deployments")
    settings = {"on_demand_keep_seconds": str(KEEP_SECONDS), "on_demand_wait_seconds": "10"}
    server = Server(root / "data", **settings).start()
    yield Shop(server)
    server.stop()


@pytest.fixture(scope="module")
def deployed(shop: Shop) -> str:
    """A deployment of the first model, waited for as Terraform does."""
    made = shop.bedrock.create_custom_model_deployment(modelDeploymentName="shop", modelArn=shop.models[0])
    arn: str = made["customModelDeploymentArn"]
    assert shop.deployment(arn)["status"] == "Creating"
    found = until(lambda: shop.deployment("shop"), lambda answer: answer["status"] != "Creating")
    assert found["status"] == "Active", found.get("failureMessage")
    return arn


def test_every_way_to_ask_reaches_the_same_model(shop: Shop, deployed: str) -> None:
    said = shop.say(deployed)
    streamed = shop.runtime.invoke_model_with_response_stream(modelId=deployed, body=BODY)["body"]
    assert "".join(json.loads(event["chunk"]["bytes"])["outputText"] for event in streamed) == said
    answer = shop.runtime.converse(modelId=deployed, **CONVERSATION)
    [block] = answer["output"]["message"]["content"]
    events = list(shop.runtime.converse_stream(modelId=deployed, **CONVERSATION)["stream"])
    pieces = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(pieces) == block["text"]
    counted = shop.runtime.count_tokens(modelId=deployed, input={"invokeModel": {"body": BODY}})
    metrics = [event["metadata"]["usage"]["inputTokens"] for event in events if "metadata" in event]
    assert counted["inputTokens"] > 0
    assert metrics == [answer["usage"]["inputTokens"]]


def test_an_idle_deployment_holds_no_engine_and_unchanged_boto3_wakes_it(shop: Shop, deployed: str) -> None:
    said = shop.say(deployed)
    until(shop.engines, lambda count: count == 0)
    assert shop.deployment(deployed)["status"] == "Active"
    standard = shop.server.client("bedrock-runtime", config=Config(retries={"mode": "standard", "max_attempts": 9}))
    with ThreadPoolExecutor(2) as both:
        assert list(both.map(lambda client: shop.say(deployed, client), (shop.runtime, standard))) == [said, said]


def test_an_update_brings_the_other_model(shop: Shop, deployed: str) -> None:
    before = shop.say(deployed)
    shop.bedrock.update_custom_model_deployment(customModelDeploymentIdentifier="shop", modelArn=shop.models[1])
    found = until(
        lambda: shop.deployment(deployed), lambda answer: answer["updateDetails"]["updateStatus"] != "Updating"
    )
    assert (found["status"], found["modelArn"]) == ("Active", shop.models[1])
    assert found["updateDetails"] == {"modelArn": shop.models[1], "updateStatus": "UpdateCompleted"}
    after = shop.say(deployed)
    assert after != before, "both models say the same, so nothing was shown"
    with pytest.raises(ClientError, match="ConflictException"):
        shop.bedrock.delete_custom_model(modelIdentifier=shop.models[1])


def test_the_figures_tell_what_happened(shop: Shop, deployed: str) -> None:
    before = shop.metrics()
    stream = shop.runtime.invoke_model_with_response_stream(modelId=deployed, body=BODY)["body"]
    last = [json.loads(event["chunk"]["bytes"]) for event in stream][-1]["amazon-bedrock-invocationMetrics"]
    after = shop.metrics()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert grown(f'outcrop_invocations_total{{model_id="{deployed}",outcome="ok"}}') == 1
    assert grown(f'outcrop_tokens_total{{direction="input",model_id="{deployed}"}}') == last["inputTokenCount"]
    assert grown(f'outcrop_tokens_total{{direction="output",model_id="{deployed}"}}') == last["outputTokenCount"]
    for histogram in ("outcrop_invocation_seconds", "outcrop_first_token_seconds"):
        assert grown(f'{histogram}_count{{model_id="{deployed}"}}') == 1
        assert 0 < grown(f'{histogram}_sum{{model_id="{deployed}"}}') < 60
    [held] = [value for name, value in after.items() if name.startswith("outcrop_engine_memory_bytes")]
    assert held > 100e6
    assert after["outcrop_engine_memory_limit_bytes"] > held


def test_a_killed_server_leaves_no_engine_and_its_successor_serves_the_deployment(shop: Shop, deployed: str) -> None:
    said = shop.say(deployed)
    shop.server.kill()
    shop.server.start()
    shop.bedrock, shop.runtime = shop.server.client("bedrock"), shop.server.client("bedrock-runtime")
    assert shop.deployment("shop")["status"] == "Active"
    assert shop.say(deployed) == said
    assert shop.engines() == 1


def test_it_is_deleted_and_its_model_stays(shop: Shop, deployed: str) -> None:
    shop.bedrock.delete_custom_model_deployment(customModelDeploymentIdentifier=deployed)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        shop.deployment(deployed)
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        shop.say(deployed)
    assert shop.bedrock.get_custom_model(modelIdentifier=shop.models[1])["modelStatus"] == "Active"
    shop.bedrock.delete_custom_model(modelIdentifier=shop.models[1])
