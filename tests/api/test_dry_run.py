"""CreateModelCustomizationJob with x-outcrop-dry-run: a real server answers what its job would do, and keeps nothing.

Each answer about faulty data is held against the job that is then really created.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from outcrop.app import Service, build
from outcrop.estimate import rehearsal
from outcrop.settings import Settings
from tests.api.bedrock_server import EXPRESS, ROLE, refused
from tests.serve.fleet_world import until

BUCKET = "dry-run-data"
WEAK_ROLE = "arn:aws:iam::123456789012:role/WeakRole"
TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "bedrock.amazonaws.com"}, "Action": "sts:AssumeRole"}
        ],
    }
)


class Customer:
    """boto3's own clients of a running service, and a way to ask for dry runs."""

    def __init__(self, service: Service) -> None:
        self.service = service
        credentials = service.directory.read_credentials()
        self._session = boto3.Session(credentials.access_key, credentials.secret, region_name="us-east-1")
        self.s3, self.iam = self.client("s3"), self.client("iam")
        self.bedrock = self.client("bedrock")

    def client(self, name: str) -> Any:
        config = Config(retries={"total_max_attempts": 1}, read_timeout=600)
        return self._session.client(name, endpoint_url=self.service.endpoint, config=config)

    def asking(self, header: str = "x-outcrop-dry-run", value: str = "true") -> tuple[Any, list[dict[str, Any]]]:
        """A bedrock client that sends the header, and the bodies of its answers."""
        client, bodies = self.client("bedrock"), []
        events, operation = client.meta.events, "bedrock.CreateModelCustomizationJob"
        events.register(f"before-call.{operation}", lambda params, **_: params["headers"].update({header: value}))
        events.register(
            f"before-parse.{operation}", lambda response_dict, **_: bodies.append(json.loads(response_dict["body"]))
        )
        return client, bodies

    def report(self, **changes: Any) -> dict[str, Any]:
        """The answer to a dry run."""
        client, bodies = self.asking()
        answer = client.create_model_customization_job(**request(**changes))
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert "jobArn" not in answer
        [body] = bodies
        assert list(body) == ["outcropDryRun"]
        return dict(body["outcropDryRun"])

    def failure(self, **changes: Any) -> str:
        """What the very same job, when it is really created, fails with."""
        arn = self.bedrock.create_model_customization_job(**request(**changes))["jobArn"]
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            job = self.bedrock.get_model_customization_job(jobIdentifier=arn)
            if job["status"] == "Failed":
                return str(job["failureMessage"])
            assert job["status"] == "InProgress", job
            time.sleep(0.1)
        raise AssertionError("the job goes on")

    def role(self, name: str, *, reading: list[str], writing: list[str] | None = None) -> str:
        """A new role of the service with these rights in S3; its ARN."""
        allowed = [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": reading}]
        if writing is not None:
            allowed.append({"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": writing})
        rights = json.dumps({"Version": "2012-10-17", "Statement": allowed})
        arn: str = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
        self.iam.put_role_policy(RoleName=name, PolicyName="s3", PolicyDocument=rights)
        return arn

    def keys(self, folder: str) -> list[str]:
        """What lies in a folder of the bucket, without what a job has put there beyond its probe."""
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{folder}/", Delimiter="/")
        return [each["Key"] for each in listed.get("Contents", ())]

    def put(self, key: str, lines: list[Any]) -> str:
        """Upload JSON lines; their URI."""
        content = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content.encode())
        return f"s3://{BUCKET}/{key}"


def request(**changes: Any) -> dict[str, Any]:
    return {
        "jobName": f"dry-{time.monotonic_ns()}",
        "customModelName": f"dry-{time.monotonic_ns()}",
        "roleArn": ROLE,
        "baseModelIdentifier": EXPRESS,
        "trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/good.jsonl"},
        "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/output/"},
    } | changes


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Customer]:
    # One thread for everything that is not a dry run: whatever a dry run held of it, others would lack.
    with served(Settings(data=tmp_path_factory.mktemp("dry"), port=0, training_threads=1, request_threads=1)) as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """However slow the machine is, its calibration comes to an end, and nobody waits in vain for a turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "CALIBRATION_SECONDS", 300.0)
        patch.setattr(rehearsal, "TURN_SECONDS", 600.0)
        yield


@contextmanager
def served(settings: Settings) -> Iterator[Customer]:
    """A service with all its loops, in a thread, and its first customer with some data."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    service = build(settings)
    asyncio.run_coroutine_threadsafe(service.start(), loop).result(60)
    try:
        found = Customer(service)
        found.s3.create_bucket(Bucket=BUCKET)
        found.put("good.jsonl", [{"prompt": f"order {at}?", "completion": f" Order {at} comes."} for at in range(60)])
        found.iam.create_role(RoleName="WeakRole", AssumeRolePolicyDocument=TRUST)
        yield found
    finally:
        asyncio.run_coroutine_threadsafe(service.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_dry_run_tells_what_the_job_would_do_and_keeps_nothing(customer: Customer) -> None:
    store, directory = customer.service.rooms.store, customer.service.directory
    before = len(store.jobs.unfinished())
    rows = _session_keys(customer)
    asked = request(hyperParameters={"epochCount": "2"}, clientRequestToken="once-only")
    client, bodies = customer.asking()
    assert "jobArn" not in client.create_model_customization_job(**asked)
    told = bodies[0]["outcropDryRun"]
    assert told["passed"] is True
    assert told["hyperParameters"]["epochCount"] == "2"
    assert told["dataset"]["files"][0]["records"] == 60
    assert told["estimate"]["plan"]["steps"] == 120
    assert told["estimate"]["plan"]["estimated"] is False
    assert told["estimate"]["time"]["low"] > 0, told["estimate"]["time_unknown"]
    assert told["estimate"]["memory"]["source"] == "calibration"
    assert len(store.jobs.unfinished()) == before
    assert customer.bedrock.list_model_customization_jobs()["modelCustomizationJobSummaries"] == []
    assert _session_keys(customer) == rows
    assert list(directory.spool.iterdir()) == []
    assert list(directory.work.iterdir()) == []
    assert [each["Key"] for each in customer.s3.list_objects_v2(Bucket=BUCKET)["Contents"]] == ["good.jsonl"]
    # Neither the names nor the token were used up, and the job does what was foretold.
    arn = customer.bedrock.create_model_customization_job(**asked)["jobArn"]
    job = customer.bedrock.get_model_customization_job(jobIdentifier=arn)
    while job["status"] == "InProgress":
        time.sleep(0.2)
        job = customer.bedrock.get_model_customization_job(jobIdentifier=arn)
    assert job["status"] == "Completed", job
    events = [json.loads(line) for line in (directory.work / arn[-12:] / "events.jsonl").read_text().splitlines()]
    plan = next(event for event in events if event["kind"] == "plan")
    for name in ("examples", "tokens", "scored_tokens", "steps", "epochs", "batch_size"):
        assert plan[name] == told["estimate"]["plan"][name], name


def _session_keys(customer: Customer) -> int:
    from sqlalchemy import func, select

    from outcrop.store.keys import ACCESS_KEYS

    with customer.service.rooms.store.database.read() as connection:
        return int(connection.scalar(select(func.count()).select_from(ACCESS_KEYS)) or 0)


@pytest.mark.parametrize(("header", "value"), [("X-Outcrop-Dry-Run", "TRUE"), ("x-OUTCROP-dry-run", "True")])
def test_letter_case_means_nothing(customer: Customer, header: str, value: str) -> None:
    customer.put("empty.jsonl", [])
    client, bodies = customer.asking(header, value)
    answer = client.create_model_customization_job(
        **request(trainingDataConfig={"s3Uri": f"s3://{BUCKET}/empty.jsonl"})
    )
    assert "jobArn" not in answer
    assert bodies[0]["outcropDryRun"]["passed"] is False


@pytest.mark.parametrize("value", ["false", "1", "yes", "truee", " "])
def test_another_value_is_refused_and_creates_nothing(customer: Customer, value: str) -> None:
    client, _ = customer.asking(value=value)
    asked = request()
    code, message, status = refused(client.create_model_customization_job, **asked)
    assert (code, status) == ("ValidationException", 400)
    assert "x-outcrop-dry-run" in message
    assert "leave the header out" in message
    names = [
        job["jobName"] for job in customer.bedrock.list_model_customization_jobs()["modelCustomizationJobSummaries"]
    ]
    assert asked["jobName"] not in names


@pytest.mark.parametrize(
    "changes",
    [
        {"baseModelIdentifier": "amazon.titan-text-nobody-v1"},
        {"hyperParameters": {"epochCount": "99"}},
        {"hyperParameters": {"epochs": "3"}},
        {"customizationType": "DISTILLATION"},
        {"roleArn": "arn:aws:iam::123456789012:role/Nobody"},
        {"trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/folder/"}},
        {"customModelKmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"},
    ],
)
def test_what_a_create_refuses_a_dry_run_refuses_in_the_same_words(customer: Customer, changes: dict[str, Any]) -> None:
    real = refused(customer.bedrock.create_model_customization_job, **request(**changes))
    dry = refused(customer.asking()[0].create_model_customization_job, **request(**changes))
    assert dry == real


def test_taken_names_are_refused_in_the_same_words(customer: Customer) -> None:
    uri = customer.put("taken.jsonl", [{"prompt": "a", "completion": ""}])
    first = request(trainingDataConfig={"s3Uri": uri}, clientRequestToken="token-of-the-first")
    customer.bedrock.create_model_customization_job(**first)
    for name in ("jobName", "customModelName"):
        asked = request(**{name: first[name]})
        real = refused(customer.bedrock.create_model_customization_job, **asked)
        assert refused(customer.asking()[0].create_model_customization_job, **asked) == real
    mismatch = request(clientRequestToken="token-of-the-first")
    real = refused(customer.bedrock.create_model_customization_job, **mismatch)
    assert refused(customer.asking()[0].create_model_customization_job, **mismatch) == real
    # The same request again would get the same job, so its names are no obstacle.
    client, bodies = customer.asking()
    assert "jobArn" not in client.create_model_customization_job(**first)
    assert bodies[0]["outcropDryRun"]["passed"] is False


def test_faults_are_told_as_the_job_would_fail(customer: Customer) -> None:
    good = {"prompt": "a", "completion": "b"}
    uri = customer.put("bad.jsonl", [good, good, {"prompt": "a"}, '{"prompt": "a", "completion": "b"'])
    told = customer.report(trainingDataConfig={"s3Uri": uri})
    assert told["passed"] is False
    assert told["estimate"] is None
    file = told["dataset"]["files"][0]
    assert [(fault["line"], fault["kind"]) for fault in file["faults"]] == [(3, "shape"), (4, "jsonl")]
    assert file["duplicates"] == 1
    failed = customer.failure(trainingDataConfig={"s3Uri": uri})
    assert failed.startswith(told["failureMessage"])


def test_the_data_are_read_with_the_roles_rights(customer: Customer) -> None:
    told = customer.report(roleArn=WEAK_ROLE)
    assert told["passed"] is False
    assert told["dataset"] is None
    assert "Could not validate GetObject permissions to access Amazon S3 bucket" in told["failureMessage"]
    assert "WeakRole" in told["failureMessage"]
    failed = customer.failure(roleArn=WEAK_ROLE)
    # The session is named after the job.
    assert failed.split("assumed-role")[0] == told["failureMessage"].split("assumed-role")[0]


def test_a_missing_object_and_a_missing_output_bucket_are_told(customer: Customer) -> None:
    missing = {"trainingDataConfig": {"s3Uri": f"s3://{BUCKET}/nothing.jsonl"}}
    assert customer.report(**missing)["failureMessage"] == customer.failure(**missing)
    nowhere = {"outputDataConfig": {"s3Uri": "s3://no-such-bucket-here/output"}}
    told, failed = customer.report(**nowhere)["failureMessage"], customer.failure(**nowhere)
    assert told.partition(".tmp")[0] == failed.partition(".tmp")[0]
    assert "Amazon S3 perms missing (PutObject)" in told


def test_a_role_that_may_only_read_is_told(customer: Customer) -> None:
    told = customer.report(roleArn=customer.role("Reader", reading=["*"]))
    assert told["passed"] is False
    assert "s3:PutObject" in told["failureMessage"]
    assert "Could not validate PutObject permissions" in told["failureMessage"]


def test_a_slash_is_put_behind_the_output_before_storage_is_asked(customer: Customer) -> None:
    narrow = customer.role("Narrow", reading=["*"], writing=[f"arn:aws:s3:::{BUCKET}/narrow/*"])
    changes = {"roleArn": narrow, "outputDataConfig": {"s3Uri": f"s3://{BUCKET}/narrow"}}
    assert customer.report(**changes)["passed"] is True
    assert customer.keys("narrow") == []
    # The job writes there too, before its training.
    job = customer.bedrock.create_model_customization_job(**request(**changes))["jobArn"]
    until(lambda: customer.keys("narrow") == ["narrow/.write_access_check_file.temp"], 120)
    customer.bedrock.stop_model_customization_job(jobIdentifier=job)
    until(lambda: customer.bedrock.get_model_customization_job(jobIdentifier=job)["status"] == "Stopped", 120)


def test_a_bucket_policy_with_a_condition_is_asked_as_for_the_job(customer: Customer) -> None:
    customer.s3.create_bucket(Bucket="https-only")
    denied = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::https-only/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    customer.s3.put_bucket_policy(Bucket="https-only", Policy=policy)
    changes = {"outputDataConfig": {"s3Uri": "s3://https-only/out/"}}
    told, failed = customer.report(**changes)["failureMessage"], customer.failure(**changes)
    assert "with an explicit deny in a resource-based policy" in told
    # The session is named after the job.
    assert told.partition("bedrock-customization-")[0] == failed.partition("bedrock-customization-")[0]


def test_two_at_once_both_get_their_answer(customer: Customer) -> None:
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(customer.report(hyperParameters={"epochCount": "2"})["passed"]))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True, True]


def test_dry_runs_that_wait_keep_nobody_else_waiting(customer: Customer) -> None:
    rehearse = customer.service.rooms.rehearse
    assert isinstance(rehearse, rehearsal.Rehearsal)
    answers: list[bool] = []
    threads = [
        threading.Thread(target=lambda: answers.append(customer.report()["passed"]))
        for _ in range(rehearsal.MOST_AT_ONCE)
    ]
    with rehearse._turn:
        for thread in threads:
            thread.start()
        until(lambda: rehearse._places._value == 0, 60)
        # With every place taken, others are answered, and one more dry run is told to come again.
        assert customer.client("sts").get_caller_identity()["Account"] == ROLE.split(":")[4]
        code, message, status = refused(customer.asking()[0].create_model_customization_job, **request())
        assert (code, status) == ("ThrottlingException", 429)
        assert "dry runs are under way" in message
        assert answers == []
    for thread in threads:
        thread.join()
    assert answers == [True] * rehearsal.MOST_AT_ONCE


def test_what_a_killed_server_left_goes_at_the_next_start(tmp_path: Path, customer: Customer) -> None:
    left = customer.service.directory.spool / "rehearsal-left"
    (left / "work").mkdir(parents=True)
    customer.service.directory.sweep_spool()
    assert not left.exists()
