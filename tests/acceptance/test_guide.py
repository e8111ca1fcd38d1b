"""The guide's code blocks as they stand, in its order, against a real server with real training."""

import json
import time
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.acceptance.server import Server

BLOCKS = sorted((Path(__file__).parent / "guide").glob("*.py"))


def block(number: int) -> str:
    """The text of one block."""
    return BLOCKS[number - 1].read_text("utf-8")


def wait_while(state: str, ask: Any, seconds: float = 180) -> dict[str, Any]:
    """Poll as every client does, until the status is another one."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer: dict[str, Any] = ask()
        if answer["status"] != state:
            return answer
        time.sleep(0.2)
    raise AssertionError(f"still {state} after {seconds} s")


@pytest.mark.usefixtures("client_environment")
def test_the_guide_runs_as_it_stands(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page: dict[str, Any] = {}
    boto3.setup_default_session()
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="my-bucket")
    exec(block(1).replace("/tmp/", f"{tmp_path}/"), page)
    s3.upload_file(str(tmp_path / "training.jsonl"), "my-bucket", "training/validation.jsonl")

    # boto3 itself refuses the guide's spelling of this one member; the server would take it (test_raw_requests).
    text = block(2).replace(
        "'s3Uri': 's3://my-bucket/training/validation.jsonl'",
        "'validators': [{'s3Uri': 's3://my-bucket/training/validation.jsonl'}]",
    )
    assert text != block(2)
    exec(text, page)
    exec(block(3), page)
    assert "ステータス: InProgress" in capsys.readouterr().out

    bedrock = page["client"]
    job = wait_while("InProgress", lambda: bedrock.get_model_customization_job(jobIdentifier=page["job_arn"]))
    assert job["status"] == "Completed", job.get("failureMessage")
    assert job["trainingMetrics"]["trainingLoss"] > 0
    assert job["validationMetrics"][0]["validationLoss"] > 0

    exec(block(4), page)
    throughput = wait_while(
        "Creating",
        lambda: bedrock.get_provisioned_model_throughput(provisionedModelId=page["provisioned_arn"]),
    )
    assert throughput["status"] == "InService", throughput.get("failureMessage")
    exec(block(5), page)
    assert capsys.readouterr().out.strip()

    exec(block(6), page)
    accuracy, results = page["evaluate_model"](page["provisioned_arn"], page["training_data"])
    assert 0 <= accuracy <= 1
    assert len(results) == 2
    base_accuracy, _ = page["evaluate_model"]("amazon.titan-text-express-v1", page["training_data"])
    assert 0 <= base_accuracy <= 1

    keys = {item["Key"] for item in s3.list_objects_v2(Bucket="my-bucket", Prefix="output/")["Contents"]}
    root = f"output/model-customization-job-{page['job_arn'].rsplit('/', 1)[-1]}"
    assert f"{root}/training_artifacts/step_wise_training_metrics.csv" in keys
    for place in ("", "post_fine_tuning_validation/", "post_fine_tuning_validation/validation/"):
        assert f"{root}/validation_artifacts/{place}validation_metrics.csv" in keys
    rows = s3.get_object(Bucket="my-bucket", Key=f"{root}/training_artifacts/step_wise_training_metrics.csv")
    lines = rows["Body"].read().decode().splitlines()
    assert lines[0] == "step_number,epoch_number,training_loss,perplexity"
    assert [line.split(",")[:2] for line in lines[1:]] == [["0", "0"], ["1", "1"], ["2", "2"]]
    assert json.loads(json.dumps(job["hyperParameters"]))["learningRate"] == "0.00001"
