"""Every text row of the catalogue, end to end through plain boto3: its data, a real job, throughput, all ways to ask.

The data are as small as the row's quotas allow; what was learnt is the business of other tests. Each answer is compared
with what the wire itself counted.
"""

import json
import time
from typing import Any

import boto3
import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.rows import FoundationModel

ROWS = {row.id: row for row in Catalog.load().rows}
ROLE = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"
BUCKET = "rows"
LONGEST_SECONDS = 120
NEW_TOKENS = 12
QUESTION = "Customer: Where is order 4711?\nAgent:"


def record(form: str, number: int) -> dict[str, Any]:
    """One example in a row's format."""
    question, answer = f"Where is order {number}?", f"Order {number} is on its way."
    match form:
        case "prompt-completion":
            return {"prompt": f"Customer: {question}\nAgent:", "completion": f" {answer}"}
        case "text":
            return {"input": f"{question} {answer}"}
        case "messages":
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            return {"system": "You answer customers.", "messages": turns}
        case "conversation":
            turns = [
                {"role": "user", "content": [{"text": question}]},
                {"role": "assistant", "content": [{"text": answer}]},
            ]
            return {"schemaVersion": "bedrock-conversation-2024", "messages": turns}
    raise AssertionError(f"no example for the format {form}")


def body(family: str) -> dict[str, Any]:
    """A greedy question in a family's dialect."""
    text = QUESTION
    match family:
        case "titan-text":
            return {"inputText": text, "textGenerationConfig": {"temperature": 0, "maxTokenCount": NEW_TOKENS}}
        case "cohere-command":
            return {"prompt": text, "temperature": 0, "max_tokens": NEW_TOKENS}
        case "llama":
            return {"prompt": text, "temperature": 0, "max_gen_len": NEW_TOKENS}
        case "claude-messages":
            return {
                "anthropic_version": "bedrock-2023-05-31",
                "max_tokens": NEW_TOKENS,
                "temperature": 0,
                "messages": [{"role": "user", "content": "Where is order 4711?"}],
            }
        case "nova":
            return {
                "messages": [{"role": "user", "content": [{"text": "Where is order 4711?"}]}],
                "inferenceConfig": {"maxTokens": NEW_TOKENS, "temperature": 0},
            }
    raise AssertionError(f"no question for the family {family}")


def told(family: str, answer: dict[str, Any]) -> str:
    """The text of a whole answer."""
    match family:
        case "titan-text":
            return str(answer["results"][0]["outputText"])
        case "cohere-command":
            return str(answer["generations"][0]["text"])
        case "llama":
            return str(answer["generation"])
        case "claude-messages":
            return "".join(block["text"] for block in answer["content"])
    return "".join(block["text"] for block in answer["output"]["message"]["content"])


def streamed(family: str, chunks: list[dict[str, Any]]) -> str:
    """The text of a stream."""
    match family:
        case "titan-text":
            return "".join(chunk["outputText"] for chunk in chunks)
        case "cohere-command":
            return "".join(chunk.get("text", "") for chunk in chunks)
        case "llama":
            return "".join(chunk["generation"] for chunk in chunks)
        case "claude-messages":
            return "".join(chunk["delta"]["text"] for chunk in chunks if chunk["type"] == "content_block_delta")
    return "".join(chunk["contentBlockDelta"]["delta"]["text"] for chunk in chunks if "contentBlockDelta" in chunk)


@pytest.fixture
def clients(client_environment: dict[str, str], loaded: None) -> dict[str, Any]:
    clients = {name: boto3.client(name) for name in ("s3", "bedrock", "bedrock-runtime")}
    clients["s3"].create_bucket(Bucket=BUCKET)  # again is no error in this region
    return clients


def customize(clients: dict[str, Any], row: FoundationModel, kind: str) -> str:
    """Train on the fewest records that the row takes; returns the custom model's name."""
    way = row.customizations[kind]  # type: ignore[index]
    name = f"{row.id.replace('.', '-').replace(':', '-')}-{kind[:4].lower()}"
    # The largest minimum in the documents is Llama's.
    lines = [json.dumps(record(way.format, number)) for number in range(1000, 1100)]
    clients["s3"].put_object(Bucket=BUCKET, Key=f"{name}.jsonl", Body="\n".join(lines) + "\n")
    given = {"epochCount": "1", "batchSize": "8", "learningRateWarmupSteps": "0"}
    known = way.hyperparameters
    hyperparameters = {}
    for key, value in given.items():
        if key in known:
            largest = known[key].max or 1
            hyperparameters[key] = str(int(min(float(value), largest)))
    job = clients["bedrock"].create_model_customization_job(
        jobName=name,
        customModelName=name,
        roleArn=ROLE,
        customizationType=kind,
        baseModelIdentifier=row.long_id,
        trainingDataConfig={"s3Uri": f"s3://{BUCKET}/{name}.jsonl"},
        outputDataConfig={"s3Uri": f"s3://{BUCKET}/output/"},
        hyperParameters=hyperparameters,
    )["jobArn"]
    assert f"model-customization-job/{row.long_id}/" in job
    deadline = time.monotonic() + LONGEST_SECONDS
    while (found := clients["bedrock"].get_model_customization_job(jobIdentifier=job))["status"] == "InProgress":
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    assert found["status"] == "Completed", found.get("failureMessage")
    assert 0 < found["trainingMetrics"]["trainingLoss"] < 20
    assert set(hyperparameters) <= set(found["hyperParameters"]) <= set(known)
    return name


def serve(clients: dict[str, Any], name: str) -> str:
    """Provisioned throughput for a custom model."""
    arn: str = clients["bedrock"].create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName=name, modelId=name
    )["provisionedModelArn"]
    deadline = time.monotonic() + LONGEST_SECONDS
    while (found := clients["bedrock"].get_provisioned_model_throughput(provisionedModelId=arn))[
        "status"
    ] == "Creating":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found["status"] == "InService", found.get("failureMessage")
    return arn


def invoke(clients: dict[str, Any], arn: str, family: str) -> str:
    """InvokeModel and its stream say the same, and count the same."""
    asked = body(family)
    whole = clients["bedrock-runtime"].invoke_model(modelId=arn, body=json.dumps(asked))
    headers = whole["ResponseMetadata"]["HTTPHeaders"]
    text = told(family, json.loads(whole["body"].read()))
    if family == "cohere-command":
        asked["stream"] = True
    stream = clients["bedrock-runtime"].invoke_model_with_response_stream(modelId=arn, body=json.dumps(asked))
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream["body"]]
    assert streamed(family, chunks) == text
    metrics = chunks[-1]["amazon-bedrock-invocationMetrics"]
    assert metrics["inputTokenCount"] == int(headers["x-amzn-bedrock-input-token-count"]) > 0
    assert metrics["outputTokenCount"] == int(headers["x-amzn-bedrock-output-token-count"])
    assert 0 < metrics["outputTokenCount"] <= NEW_TOKENS
    return text


def converse(clients: dict[str, Any], arn: str, question: str) -> str:
    """Converse and ConverseStream say the same, and count the same."""
    asked: dict[str, Any] = {
        "modelId": arn,
        "messages": [{"role": "user", "content": [{"text": question}]}],
        "inferenceConfig": {"maxTokens": NEW_TOKENS, "temperature": 0},
    }
    whole = clients["bedrock-runtime"].converse(**asked)
    text = "".join(block["text"] for block in whole["output"]["message"]["content"])
    assert whole["stopReason"] in {"end_turn", "max_tokens"}
    assert whole["usage"]["inputTokens"] + whole["usage"]["outputTokens"] == whole["usage"]["totalTokens"]
    events = list(clients["bedrock-runtime"].converse_stream(**asked)["stream"])
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(deltas) == text
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    return text


@pytest.mark.parametrize("model_id", ROWS)
def test_a_row_is_tuned_and_answers_in_its_dialect(clients: dict[str, Any], model_id: str) -> None:
    row = ROWS[model_id]
    name = customize(clients, row, "FINE_TUNING")
    arn = serve(clients, name)
    try:
        text = invoke(clients, arn, row.body)
        if row.customizations["FINE_TUNING"].format == "prompt-completion":
            # What was taught as a prompt is a prompt as it stands, without a template around it.
            assert converse(clients, arn, QUESTION) == text
        elif row.body in {"claude-messages", "nova"}:
            assert converse(clients, arn, "Where is order 4711?") == text
        else:
            assert converse(clients, arn, "Where is order 4711?")
    finally:
        clients["bedrock"].delete_provisioned_model_throughput(provisionedModelId=arn)


@pytest.mark.parametrize("model_id", ["amazon.titan-text-express-v1", "amazon.titan-text-lite-v1"])
def test_titan_is_pre_trained_further(clients: dict[str, Any], model_id: str) -> None:
    row = ROWS[model_id]
    name = customize(clients, row, "CONTINUED_PRE_TRAINING")
    arn = serve(clients, name)
    try:
        invoke(clients, arn, row.body)
    finally:
        clients["bedrock"].delete_provisioned_model_throughput(provisionedModelId=arn)
