"""A model of the user's own, added by a table of TOML alone: listed, customized, refused by its own rules, served."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.acceptance.server import Server

MODEL = "my.support-v1"
ROLE = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"
BUCKET = "own-rows"
LONGEST_SECONDS = 120
ROWS = f"""
[models."{MODEL}"]
weights = "bundled:text"
body = "claude-messages"
name = "Support"
provider = "Us"
inference = {{ max_tokens = 64 }}

[models."{MODEL}".customizations.FINE_TUNING.quotas]
max_records = 20

[models."amazon.titan-text-express-v1".customizations.FINE_TUNING.hyperparameters]
epochCount = {{ max = 20 }}
"""


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalog") / "my-models.toml"
    path.write_text(ROWS, "utf-8")
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, catalog: Path) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("own") / "data", catalog=str(catalog), advised_minima="enforce").start()
    yield running
    running.stop()


def message(number: int) -> str:
    turns = [
        {"role": "user", "content": f"Where is order {number}?"},
        {"role": "assistant", "content": f"Order {number} is on its way."},
    ]
    return json.dumps({"messages": turns}) + "\n"


def messages(count: int) -> str:
    return "".join(map(message, range(1000, 1000 + count)))


def pair(number: int) -> str:
    return json.dumps({"prompt": f"Where is order {number}?", "completion": f" Order {number} is on its way."}) + "\n"


def job(server: Server, name: str, lines: str, model: str = MODEL, **hyperparameters: str) -> dict[str, Any]:
    """A finished job on these lines."""
    bedrock, s3 = server.client("bedrock"), server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key=f"{name}.jsonl", Body=lines)
    arn = bedrock.create_model_customization_job(
        jobName=name,
        customModelName=name,
        roleArn=ROLE,
        baseModelIdentifier=model,
        trainingDataConfig={"s3Uri": f"s3://{BUCKET}/{name}.jsonl"},
        outputDataConfig={"s3Uri": f"s3://{BUCKET}/output/"},
        hyperParameters=hyperparameters,
    )["jobArn"]
    deadline = time.monotonic() + LONGEST_SECONDS
    while (found := bedrock.get_model_customization_job(jobIdentifier=arn))["status"] == "InProgress":
        assert time.monotonic() < deadline, found
        time.sleep(0.2)
    return dict(found)


def test_it_is_listed_and_got(own: Server) -> None:
    bedrock = own.client("bedrock")
    wanted = {
        "modelArn": f"arn:aws:bedrock:us-east-1::foundation-model/{MODEL}",
        "modelId": MODEL,
        "modelName": "Support",
        "providerName": "Us",
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "customizationsSupported": ["FINE_TUNING"],
        "inferenceTypesSupported": ["ON_DEMAND", "PROVISIONED"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
    assert bedrock.list_foundation_models(byProvider="us")["modelSummaries"] == [wanted]
    for identifier in (MODEL, wanted["modelArn"]):
        assert bedrock.get_foundation_model(modelIdentifier=identifier)["modelDetails"] == wanted


def test_it_is_customized_and_answers(own: Server) -> None:
    done = job(own, "support", messages(16), epochCount="1", batchSize="AUTO")
    assert done["status"] == "Completed", done.get("failureMessage")
    assert done["baseModelArn"].endswith(f"::foundation-model/{MODEL}")
    assert done["hyperParameters"] == {
        "epochCount": "1",
        "batchSize": "AUTO",
        "learningRate": "1.0E-5",
        "learningRateWarmupSteps": "5",
    }
    asked = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 8,
        "messages": [{"role": "user", "content": "Where is order 4711?"}],
    }
    runtime = own.client("bedrock-runtime")
    answer = json.loads(runtime.invoke_model(modelId=MODEL, body=json.dumps(asked))["body"].read())
    assert 0 < answer["usage"]["output_tokens"] <= 8
    with pytest.raises(ClientError) as refused:
        runtime.invoke_model(modelId=MODEL, body=json.dumps(asked | {"max_tokens": 65}))
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_its_own_rules_hold(own: Server) -> None:
    failed = job(own, "too-many", messages(21), epochCount="1")
    assert failed["status"] == "Failed"
    assert "21" in failed["failureMessage"]
    with pytest.raises(ClientError, match=r"between 1 and 100, or one of \[auto\]"):
        job(own, "too-long", messages(1), epochCount="101")
    with pytest.raises(ClientError, match="customized by"):
        own.client("bedrock").create_model_customization_job(
            jobName="further",
            customModelName="further",
            roleArn=ROLE,
            baseModelIdentifier=MODEL,
            customizationType="CONTINUED_PRE_TRAINING",
            trainingDataConfig={"s3Uri": f"s3://{BUCKET}/further.jsonl"},
            outputDataConfig={"s3Uri": f"s3://{BUCKET}/output/"},
        )


def test_the_guides_minima_are_enforced_where_a_setting_says_so(own: Server) -> None:
    lines = "".join(map(pair, range(1000, 1016)))
    failed = job(own, "too-few", lines, "amazon.titan-text-express-v1", epochCount="20")
    assert failed["hyperParameters"]["epochCount"] == "20"  # ours may have ten at most
    assert failed["status"] == "Failed"
    assert "advises 1000" in failed["failureMessage"]


def outcrop(*arguments: str, catalog: Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "outcrop.cli", *arguments],
        capture_output=True,
        text=True,
        env={"OUTCROP_CATALOG": str(catalog), "COLUMNS": "200"},
        cwd=folder,
        timeout=60,
        check=False,
    )


def test_commands_know_it(catalog: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(message(1), "utf-8")
    listed = outcrop("models", "list", catalog=catalog, folder=tmp_path)
    assert MODEL in listed.stdout, listed.stderr
    checked = outcrop("check", str(path), "--model", MODEL, catalog=catalog)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_wrong_file_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(ROWS.replace("claude-messages", "claude"), "utf-8")
    told = outcrop("serve", "--data", str(tmp_path / "data"), "--port", "0", catalog=path)
    assert told.returncode == 1
    assert "Traceback" not in told.stderr
    for part in (str(path), MODEL, "body", "'claude'", "claude-messages"):
        assert part in told.stderr
    gone = outcrop("serve", "--data", str(tmp_path / "data"), "--port", "0", catalog=tmp_path / "gone.toml")
    assert "gone.toml" in gone.stderr
    assert "Traceback" not in gone.stderr
