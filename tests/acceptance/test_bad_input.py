"""What goes wrong for customers: each refusal names what is wrong, nothing is half-done, and the way out is told."""

import json
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.acceptance.server import Server

ROLE = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"
BASE = "amazon.titan-text-express-v1"


@pytest.fixture
def bucket(client_environment: dict[str, str]) -> str:
    """A fresh bucket."""
    name = f"bad-{uuid.uuid4().hex[:10]}"
    boto3.Session().client("s3").create_bucket(Bucket=name)
    return name


def submit(bucket: str, key: str = "train.jsonl", role: str = ROLE, **hyperparameters: str) -> str:
    """Create a job over one file; returns its ARN."""
    name = f"bad-{uuid.uuid4().hex[:10]}"
    arn: str = (
        boto3.Session()
        .client("bedrock")
        .create_model_customization_job(
            jobName=name,
            customModelName=name,
            roleArn=role,
            baseModelIdentifier=BASE,
            trainingDataConfig={"s3Uri": f"s3://{bucket}/{key}"},
            outputDataConfig={"s3Uri": f"s3://{bucket}/output"},
            hyperParameters=hyperparameters,
        )["jobArn"]
    )
    return arn


def ended(arn: str, states: tuple[str, ...] = ("InProgress", "Stopping")) -> dict[str, Any]:
    """The job once it is over."""
    bedrock = boto3.Session().client("bedrock")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        job: dict[str, Any] = bedrock.get_model_customization_job(jobIdentifier=arn)
        if job["status"] not in states:
            return job
        time.sleep(0.1)
    raise AssertionError(f"not over: {job}")


def test_a_broken_dataset_fails_with_its_first_fault_and_lists_them_all(bucket: str) -> None:
    s3 = boto3.Session().client("s3")
    good = '{"prompt": "a", "completion": "b"}'
    lines = [good, '{"prompt": "a"}', good, "not json", '{"prompt": 1, "completion": "b"}', good]
    s3.put_object(Bucket=bucket, Key="train.jsonl", Body="\n".join(lines).encode())
    job = ended(submit(bucket))
    assert job["status"] == "Failed"
    assert job["statusDetails"]["validationDetails"]["status"] == "Failed"
    assert job["statusDetails"]["trainingDetails"]["status"] == "NotStarted"
    assert "train.jsonl" in job["failureMessage"]
    assert "must follow" in job["failureMessage"]
    root = f"output/model-customization-job-{job['jobArn'].rsplit('/', 1)[-1]}/input_data_report"
    text = s3.get_object(Bucket=bucket, Key=f"{root}/faults.jsonl")["Body"].read().decode()
    assert [json.loads(line)["line"] for line in text.splitlines()] == [2, 4, 5]
    assert (
        boto3.Session().client("bedrock").list_custom_models(nameContains=job["outputModelName"])["modelSummaries"]
        == []
    )


def test_a_missing_file_is_told_in_aws_words(bucket: str) -> None:
    job = ended(submit(bucket, key="nothing.jsonl"))
    assert job["status"] == "Failed"
    text = f"Could not validate GetObject permissions to access Amazon S3 bucket: {bucket} at key nothing.jsonl"
    assert text in job["failureMessage"]


def test_a_missing_bucket_is_told_in_aws_words(bucket: str) -> None:
    job = ended(submit(f"{bucket}-gone"))
    assert job["status"] == "Failed"
    assert f"{bucket}-gone" in job["failureMessage"]


def test_a_bucket_of_another_region_is_told_in_aws_words(bucket: str, pairs: Path) -> None:
    boto3.Session().client("s3").upload_file(str(pairs), bucket, "train.jsonl")
    west = boto3.Session(region_name="us-west-2").client("bedrock")
    name = f"west-{uuid.uuid4().hex[:8]}"
    arn = west.create_model_customization_job(
        jobName=name,
        customModelName=name,
        roleArn=ROLE,
        baseModelIdentifier=BASE,
        trainingDataConfig={"s3Uri": f"s3://{bucket}/train.jsonl"},
        outputDataConfig={"s3Uri": f"s3://{bucket}/output"},
    )["jobArn"]
    deadline = time.monotonic() + 60
    while (job := west.get_model_customization_job(jobIdentifier=arn))["status"] == "InProgress":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job["status"] == "Failed"
    text = f"Could not validate GetObject permissions to access Amazon S3 bucket: {bucket} at key train.jsonl"
    assert text in job["failureMessage"]


def test_a_role_reads_and_writes_with_its_own_rights_only(bucket: str, pairs: Path) -> None:
    session = boto3.Session()
    session.client("s3").upload_file(str(pairs), bucket, "train.jsonl")
    iam = session.client("iam")
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "bedrock.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
    role = f"reader-{uuid.uuid4().hex[:8]}"
    arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
    job = ended(submit(bucket, role=arn))
    assert "Could not validate GetObject permissions" in job["failureMessage"]
    reads = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
    iam.put_role_policy(
        RoleName=role,
        PolicyName="reads",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [reads]}),
    )
    job = ended(submit(bucket, role=arn))
    assert "Amazon S3 perms missing (PutObject)" in job["failureMessage"]
    with pytest.raises(ClientError, match="Could not assume provided IAM role"):
        submit(bucket, role="arn:aws:iam::123456789012:role/nobody")


def test_a_running_job_stops_within_a_step_and_makes_no_model(bucket: str, pairs: Path, server: Server) -> None:
    session = boto3.Session()
    session.client("s3").put_object(Bucket=bucket, Key="train.jsonl", Body=pairs.read_bytes() * 60)
    arn = submit(bucket, epochCount="10", batchSize="1")
    events = server.directory.work / arn.rsplit("/", 1)[-1] / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (events.exists() and '"kind": "step"' in events.read_text()):
        assert time.monotonic() < deadline, "no step was taken"
        time.sleep(0.1)
    bedrock = session.client("bedrock")
    bedrock.stop_model_customization_job(jobIdentifier=arn)
    job = ended(arn)
    assert job["status"] == "Stopped"
    assert "outputModelArn" not in job
    # A step that had begun is ended, and none begins: each begins when the one before it is told. File systems keep
    # time by the kernel's tick, which lies up to 10 ms behind the clock.
    asked = datetime.fromtimestamp((events.parent / "stop").stat().st_mtime, UTC) + timedelta(milliseconds=20)
    told = [json.loads(line) for line in events.read_text().splitlines()]
    ends = [datetime.fromisoformat(event["at"]) for event in told if event["kind"] == "step"]
    assert all(begun <= asked for begun in ends[:-1])
    with pytest.raises(ClientError, match="ConflictException"):
        bedrock.stop_model_customization_job(jobIdentifier=arn)


def test_the_guides_own_request_is_taken_where_boto3_refuses_it(
    bucket: str, pairs: Path, server: Server, client_environment: dict[str, str]
) -> None:
    s3 = boto3.Session().client("s3")
    s3.upload_file(str(pairs), bucket, "train.jsonl")
    name = f"raw-{uuid.uuid4().hex[:8]}"
    body = json.dumps(
        {
            "jobName": name,
            "customModelName": name,
            "roleArn": ROLE,
            "baseModelIdentifier": BASE,
            "trainingDataConfig": {"s3Uri": f"s3://{bucket}/train.jsonl"},
            "validationDataConfig": {"s3Uri": f"s3://{bucket}/train.jsonl"},
            "outputDataConfig": {"s3Uri": f"s3://{bucket}/output/"},
            "hyperParameters": {"epochCount": "1", "batchSize": "8"},
        }
    )
    request = AWSRequest("POST", f"{server.endpoint}/model-customization-jobs", data=body)
    keys = Credentials(client_environment["AWS_ACCESS_KEY_ID"], client_environment["AWS_SECRET_ACCESS_KEY"])
    SigV4Auth(keys, "bedrock", "us-east-1").add_auth(request)
    answer = httpx.post(request.url, content=body, headers=dict(request.headers), trust_env=False)
    assert answer.status_code == 201, answer.text
    job = ended(answer.json()["jobArn"])
    assert job["status"] == "Completed", job.get("failureMessage")
    assert job["validationDataConfig"] == {"validators": [{"s3Uri": f"s3://{bucket}/train.jsonl"}]}
    assert len(job["validationMetrics"]) == 1


def test_a_bearer_key_opens_bedrock_and_nothing_else(server: Server) -> None:
    bearer = server.directory.read_credentials().bearer
    headers = {"Authorization": f"Bearer {bearer}"}
    answer = httpx.get(f"{server.endpoint}/foundation-models", headers=headers, trust_env=False)
    assert answer.status_code == 200
    assert len(answer.json()["modelSummaries"]) >= 3
    wrong = httpx.get(f"{server.endpoint}/foundation-models", headers={"Authorization": "Bearer no"}, trust_env=False)
    assert wrong.status_code == 403
