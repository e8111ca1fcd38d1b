"""The documented flow through the AWS CLI, as a person would type it."""

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server

CLI = Path(sys.executable).with_name("aws")


@pytest.fixture
def aws(server: Server, tmp_path: Path) -> Any:
    """Run one `aws` command line; returns its exit code, its JSON (or None) and what it said."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = {**kept, **server.environment, "AWS_CONFIG_FILE": str(tmp_path / "none"), "AWS_PAGER": ""}

    def run(*words: str) -> tuple[int, Any, str]:
        done = subprocess.run(
            [sys.executable, str(CLI), *words, "--output", "json"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        out = done.stdout.strip()
        return done.returncode, json.loads(out) if out.startswith(("{", "[")) else None, done.stdout + done.stderr

    return run


def test_the_flow_through_the_aws_cli(aws: Any, pairs: Path, tmp_path: Path) -> None:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    assert aws("s3", "mb", f"s3://{name}")[0] == 0
    code, _, said = aws("s3", "cp", str(pairs), f"s3://{name}/training/train.jsonl")
    assert code == 0, said
    code, job, said = aws(
        "bedrock", "create-model-customization-job",
        "--job-name", name,
        "--custom-model-name", f"{name}-model",
        "--role-arn", "arn:aws:iam::123456789012:role/BedrockCustomizationRole",
        "--base-model-identifier", "amazon.titan-text-express-v1",
        "--training-data-config", json.dumps({"s3Uri": f"s3://{name}/training/train.jsonl"}),
        "--output-data-config", json.dumps({"s3Uri": f"s3://{name}/output"}),
        "--hyper-parameters", "epochCount=1,batchSize=8",
    )  # fmt: skip
    assert code == 0, said
    answer = wait(aws, "InProgress", "get-model-customization-job", "--job-identifier", job["jobArn"])
    assert answer["status"] == "Completed", answer
    code, created, said = aws(
        "bedrock", "create-provisioned-model-throughput",
        "--model-units", "1", "--provisioned-model-name", name, "--model-id", f"{name}-model",
    )  # fmt: skip
    assert code == 0, said
    arn = created["provisionedModelArn"]
    answer = wait(aws, "Creating", "get-provisioned-model-throughput", "--provisioned-model-id", arn)
    assert answer["status"] == "InService", answer
    body = json.dumps(
        {"inputText": "Customer: where is order 107?\nAgent:", "textGenerationConfig": {"maxTokenCount": 16}}
    )
    code, _, said = aws(
        "bedrock-runtime", "invoke-model", "--model-id", arn, "--body", body, str(tmp_path / "answer.json")
    )
    assert code == 0, said
    result = json.loads((tmp_path / "answer.json").read_text("utf-8"))
    assert result["results"][0]["tokenCount"] > 0
    code, _, said = aws("s3", "ls", "--recursive", f"s3://{name}/output/")
    assert "step_wise_training_metrics.csv" in said

    code, _, said = aws("bedrock", "delete-custom-model", "--model-identifier", f"{name}-model")
    assert code != 0
    assert "ConflictException" in said
    assert name in said
    assert aws("bedrock", "delete-provisioned-model-throughput", "--provisioned-model-id", arn)[0] == 0
    assert aws("bedrock", "delete-custom-model", "--model-identifier", f"{name}-model")[0] == 0
    assert aws("s3", "rb", f"s3://{name}", "--force")[0] == 0


def wait(aws: Any, state: str, *words: str) -> Any:
    """Poll until the status is another one."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        code, answer, said = aws("bedrock", *words)
        assert code == 0, said
        if answer["status"] != state:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"still {state}")
