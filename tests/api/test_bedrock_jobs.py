"""Customization jobs through boto3 against a real server: what is kept, echoed, refused, and in which words."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError, ParamValidationError

from tests.api.bedrock_server import BASE_ARN, EXPRESS, LONG, REGION, ROLE, Bedrock, bedrock_over, refused, request

JOB_ARN = re.compile(rf"arn:aws:bedrock:us-east-1:123456789012:model-customization-job/{LONG}/[a-z0-9]{{12}}")
NO_TRUST = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"}]}'
NOT_A_FILE = (
    "Invalid {} input data configuration.Check the input data S3 Uris(Uri should be a file, not a directory) "
    "and retry request"
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    return server.client()


def test_create_answers_201_with_the_arn_alone(server: Bedrock, client: Any) -> None:
    answer = client.create_model_customization_job(**request())
    metadata = answer.pop("ResponseMetadata")
    assert metadata["HTTPStatusCode"] == 201
    assert list(answer) == ["jobArn"]
    assert JOB_ARN.fullmatch(answer["jobArn"])
    assert server.bells == ["ring"]


@pytest.mark.parametrize(
    "identifier",
    [EXPRESS, LONG, BASE_ARN, f"arn:aws:bedrock:{REGION}::foundation-model/{EXPRESS}"],
)
def test_every_spelling_of_the_base_becomes_the_long_id(server: Bedrock, client: Any, identifier: str) -> None:
    arn = server.create_job(client, baseModelIdentifier=identifier)
    assert JOB_ARN.fullmatch(arn)
    assert client.get_model_customization_job(jobIdentifier=arn)["baseModelArn"] == BASE_ARN


def test_get_of_a_fresh_job(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client, clientRequestToken="token-1", hyperParameters={"learningRate": "0.00001"})
    answer = client.get_model_customization_job(jobIdentifier=arn)
    del answer["ResponseMetadata"]
    now = server.clock.time
    assert answer == {
        "jobArn": arn,
        "jobName": "job-1",
        "outputModelName": "model-1",
        "clientRequestToken": "token-1",
        "roleArn": ROLE,
        "status": "InProgress",
        "statusDetails": {
            "validationDetails": {"status": "NotStarted"},
            "dataProcessingDetails": {"status": "NotStarted"},
            "trainingDetails": {"status": "NotStarted"},
        },
        "creationTime": now,
        "lastModifiedTime": now,
        "baseModelArn": BASE_ARN,
        "hyperParameters": {
            "epochCount": "5",
            "batchSize": "1",
            "learningRate": "0.00001",
            "learningRateWarmupSteps": "5",
        },
        "trainingDataConfig": {"s3Uri": "s3://my-bucket/training/train.jsonl"},
        "validationDataConfig": {"validators": []},
        "outputDataConfig": {"s3Uri": "s3://my-bucket/output/"},
        "customizationType": "FINE_TUNING",
    }
    assert client.get_model_customization_job(jobIdentifier="job-1")["jobArn"] == arn


def test_instants_on_the_wire_are_iso_strings_with_milliseconds(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client)
    server.rooms.store.jobs.part(arn, "validationDetails", "InProgress", server.clock.tick(45.12))
    body = server.raw("GET", f"/model-customization-jobs/{quote(arn, safe='')}").json()
    assert body["creationTime"] == "2026-05-01T12:00:00.000Z"
    assert body["lastModifiedTime"] == "2026-05-01T12:00:45.120Z"
    assert body["statusDetails"]["validationDetails"] == {
        "status": "InProgress",
        "creationTime": "2026-05-01T12:00:45.120Z",
        "lastModifiedTime": "2026-05-01T12:00:45.120Z",
    }


def test_get_of_a_completed_job(server: Bedrock, client: Any) -> None:
    validators = [{"s3Uri": "s3://my-bucket/a.jsonl"}, {"s3Uri": "s3://my-bucket/b.jsonl"}]
    arn = server.create_job(client, validationDataConfig={"validators": validators})
    told = {
        "trainingMetrics": {"trainingLoss": 1.71},
        "validationMetrics": [{"validationLoss": 1.62}, {"validationLoss": 1.7}],
        "tokens": 99,
    }
    model = server.complete(arn, told)
    answer = client.get_model_customization_job(jobIdentifier=arn)
    assert answer["status"] == "Completed"
    assert answer["outputModelArn"] == model.arn
    assert model.arn.rsplit("/", 1)[1] != arn.rsplit("/", 1)[1]
    assert answer["trainingMetrics"] == told["trainingMetrics"]
    assert answer["validationMetrics"] == told["validationMetrics"]
    assert answer["validationDataConfig"] == {"validators": validators}
    assert "failureMessage" not in answer
    assert answer["creationTime"] < answer["endTime"] <= answer["lastModifiedTime"]


def test_a_completed_job_without_validators_has_an_empty_list(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client)
    server.complete(arn)
    assert client.get_model_customization_job(jobIdentifier=arn)["validationMetrics"] == []


def test_get_of_a_failed_job(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client)
    server.rooms.store.jobs.part(arn, "validationDetails", "InProgress", server.clock.tick())
    server.rooms.store.jobs.fail(arn, "Unable to parse Amazon S3 file: train.jsonl.", server.clock.tick())
    answer = client.get_model_customization_job(jobIdentifier=arn)
    assert answer["status"] == "Failed"
    assert answer["failureMessage"] == "Unable to parse Amazon S3 file: train.jsonl."
    assert answer["statusDetails"]["validationDetails"]["status"] == "Failed"
    assert answer["endTime"] == answer["lastModifiedTime"] == server.clock.time
    for member in ("outputModelArn", "trainingMetrics", "validationMetrics"):
        assert member not in answer


def test_the_documents_own_validation_config_is_one_validator(server: Bedrock, client: Any) -> None:
    with pytest.raises(ParamValidationError):
        server.create_job(client, validationDataConfig={"s3Uri": "s3://my-bucket/training/validation.jsonl"})
    body = request(validationDataConfig={"s3Uri": "s3://my-bucket/training/validation.jsonl"})
    answer = server.raw("POST", "/model-customization-jobs", body)
    assert answer.status_code == 201, answer.text
    kept = client.get_model_customization_job(jobIdentifier=answer.json()["jobArn"])
    assert kept["validationDataConfig"] == {"validators": [{"s3Uri": "s3://my-bucket/training/validation.jsonl"}]}


def test_both_forms_of_validation_config_at_once(server: Bedrock) -> None:
    both = {"s3Uri": "s3://my-bucket/a.jsonl", "validators": [{"s3Uri": "s3://my-bucket/b.jsonl"}]}
    answer = server.raw("POST", "/model-customization-jobs", request(validationDataConfig=both))
    assert answer.status_code == 400
    assert "either 's3Uri' or 'validators'" in answer.json()["message"]


def test_at_most_ten_validators(server: Bedrock, client: Any) -> None:
    ten = [{"s3Uri": f"s3://my-bucket/{number}.jsonl"} for number in range(10)]
    server.create_job(client, 1, validationDataConfig={"validators": ten})
    code, message, status = refused(
        lambda: server.create_job(client, 2, validationDataConfig={"validators": [*ten, ten[0]]})
    )
    assert (code, status) == ("ValidationException", 400)
    assert "Member must have length less than or equal to 10" in message


@pytest.mark.parametrize("uri", ["s3://my-bucket", "s3://my-bucket/", "s3://my-bucket/training/"])
def test_data_must_be_a_file(server: Bedrock, client: Any, uri: str) -> None:
    code, message, _ = refused(lambda: server.create_job(client, trainingDataConfig={"s3Uri": uri}))
    assert (code, message) == ("ValidationException", NOT_A_FILE.format("training"))
    code, message, _ = refused(lambda: server.create_job(client, validationDataConfig={"validators": [{"s3Uri": uri}]}))
    assert (code, message) == ("ValidationException", NOT_A_FILE.format("validation"))


@pytest.mark.parametrize("uri", ["s3://out", "s3://out/", "s3://out/a", "s3://out/a/b/"])
def test_output_may_be_any_prefix(server: Bedrock, client: Any, uri: str) -> None:
    arn = server.create_job(client, outputDataConfig={"s3Uri": uri})
    assert client.get_model_customization_job(jobIdentifier=arn)["outputDataConfig"] == {"s3Uri": uri}


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"baseModelIdentifier": "amazon.titan-text-huge-v1"}, ("The provided model identifier is invalid", "huge")),
        ({"baseModelIdentifier": "no-such-model"}, ("The provided model identifier is invalid", "no-such-model")),
        (
            {"baseModelIdentifier": f"arn:aws:bedrock:us-west-2::foundation-model/{EXPRESS}"},
            ("The provided model identifier is invalid", "us-east-1"),
        ),
        ({"customizationType": "DISTILLATION"}, ("'DISTILLATION'", LONG, "[FINE_TUNING, CONTINUED_PRE_TRAINING]")),
        ({"customizationType": "TUNING"}, ("'TUNING' at 'customizationType'", "enum value set")),
        ({"hyperParameters": {"epochCount": "11"}}, ("'11' at 'hyperParameters.epochCount'", "between 1 and 10")),
        ({"hyperParameters": {"epochs": "1"}}, ("'hyperParameters.epochs'", "epochCount", "learningRateWarmupSteps")),
        ({"customModelKmsKeyId": "alias/mine"}, ("'customModelKmsKeyId' is not supported",)),
        (
            {"vpcConfig": {"subnetIds": ["subnet-1"], "securityGroupIds": ["sg-1"]}},
            ("'vpcConfig' is not supported",),
        ),
        ({"trainingDataConfig": {}}, ("'trainingDataConfig.s3Uri'", "must not be null")),
        ({"trainingDataConfig": {"s3Uri": "s3://Bad_Bucket/x"}}, ("trainingDataConfig.s3Uri", "pattern")),
        ({"jobName": "a_b"}, ("'a_b' at 'jobName'", "pattern")),
        ({"customModelName": "a.b"}, ("'a.b' at 'customModelName'", "pattern")),
        ({"roleArn": "me"}, ("'me' at 'roleArn'", "pattern")),
        (
            {"roleArn": "arn:aws:iam::123456789012:role/Nobody"},
            ("Could not assume provided IAM role", "role/Nobody"),
        ),
        ({"jobTags": [{"key": "aws:x", "value": ""}]}, ("'aws:x' at 'jobTags.1.member.key'", "reserved")),
        (
            {"customModelTags": [{"key": "a", "value": ""}, {"key": "a", "value": ""}]},
            ("'a' at 'customModelTags.2.member.key'", "unique"),
        ),
    ],
)
def test_refusals_name_value_member_and_rule(
    server: Bedrock, client: Any, changes: dict[str, Any], parts: tuple[str, ...]
) -> None:
    code, message, status = refused(lambda: server.create_job(client, **changes))
    assert (code, status) == ("ValidationException", 400)
    for part in parts:
        assert part in message
    assert client.list_model_customization_jobs()["modelCustomizationJobSummaries"] == []
    assert server.bells == []


def test_invocation_logs_belong_to_distillation(server: Bedrock, client: Any) -> None:
    logs = {"invocationLogSource": {"s3Uri": "s3://my-bucket/logs/"}}
    code, message, _ = refused(lambda: server.create_job(client, trainingDataConfig={"invocationLogsConfig": logs}))
    assert code == "ValidationException"
    assert "'trainingDataConfig.invocationLogsConfig'" in message


def test_more_than_fifty_tags(server: Bedrock, client: Any) -> None:
    tags = [{"key": f"k{number}", "value": ""} for number in range(51)]
    with pytest.raises(ClientError) as caught:
        server.create_job(client, customModelTags=tags)
    assert caught.value.response["Error"]["Code"] == "TooManyTagsException"
    assert JOB_ARN.fullmatch(caught.value.response["resourceName"])


def test_a_role_that_does_not_trust_bedrock(server: Bedrock, client: Any) -> None:
    server.rooms.store.access.roles.change("BedrockCustomizationRole", trust=NO_TRUST)
    code, message, status = refused(lambda: server.create_job(client))
    assert (code, status) == ("ValidationException", 400)
    assert message.startswith("Could not assume provided IAM role")


def test_a_trust_policy_may_ask_for_the_jobs_own_arn(server: Bedrock, client: Any) -> None:
    trust = (
        '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"bedrock.amazonaws.com"},'
        '"Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"},'
        '"ArnEquals":{"aws:SourceArn":"arn:aws:bedrock:us-east-1:123456789012:model-customization-job/*"}}}]}'
    )
    server.rooms.store.access.roles.change("BedrockCustomizationRole", trust=trust)
    server.create_job(client)
    code, _, _ = refused(lambda: server.create_job(server.client(region="us-west-2")))
    assert code == "ValidationException"


def test_the_job_name_text_that_clients_match(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client)
    server.rooms.store.jobs.fail(arn, "x", server.clock.tick())
    assert refused(lambda: server.create_job(client, customModelName="another")) == (
        "ValidationException",
        "The provided job name is currently in use.",
        400,
    )
    server.create_job(server.client(region="us-west-2"))


def test_a_taken_model_name(server: Bedrock, client: Any) -> None:
    server.create_job(client)
    code, message, status = refused(lambda: server.create_job(client, 2, customModelName="model-1"))
    assert (code, status) == ("ValidationException", 400)
    assert message == "The provided custom model name is currently in use: 'model-1' at 'customModelName'."


def test_the_same_token_gives_the_same_job(server: Bedrock, client: Any) -> None:
    first = server.create_job(client, clientRequestToken="t1", jobTags=[{"key": "a", "value": "b"}])
    again = server.create_job(client, clientRequestToken="t1", jobTags=[{"key": "a", "value": "b"}])
    assert again == first
    # Whatever happened since: the first answer is given again.
    server.complete(first)
    server.rooms.store.access.roles.change("BedrockCustomizationRole", trust=NO_TRUST)
    assert server.create_job(client, clientRequestToken="t1", jobTags=[{"key": "a", "value": "b"}]) == first
    assert len(client.list_model_customization_jobs()["modelCustomizationJobSummaries"]) == 1
    code, message, status = refused(lambda: server.create_job(client, 2, clientRequestToken="t1"))
    assert (code, status) == ("ValidationException", 400)
    assert "'t1' at 'clientRequestToken'" in message


def test_ten_clients_with_one_token_make_one_job(server: Bedrock, client: Any) -> None:
    with ThreadPoolExecutor(10) as pool:
        arns = list(pool.map(lambda _: server.create_job(client, clientRequestToken="one"), range(10)))
    assert len(set(arns)) == 1
    assert len(client.list_model_customization_jobs()["modelCustomizationJobSummaries"]) == 1


def test_stop(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client)
    server.rooms.store.jobs.part(arn, "trainingDetails", "InProgress", server.clock.tick())
    answer = client.stop_model_customization_job(jobIdentifier="job-1")
    assert set(answer) == {"ResponseMetadata"}
    assert server.bells == ["ring", "ring"]
    stopping = client.get_model_customization_job(jobIdentifier=arn)
    assert stopping["status"] == "Stopping"
    assert stopping["statusDetails"]["trainingDetails"]["status"] == "Stopping"
    client.stop_model_customization_job(jobIdentifier=arn)
    server.rooms.store.jobs.stopped(arn, server.clock.tick(), {"tokens": 5})
    stopped = client.get_model_customization_job(jobIdentifier=arn)
    assert stopped["status"] == "Stopped"
    assert stopped["statusDetails"]["trainingDetails"]["status"] == "Stopped"
    for member in ("outputModelArn", "trainingMetrics", "validationMetrics", "failureMessage"):
        assert member not in stopped
    [summary] = client.list_model_customization_jobs()["modelCustomizationJobSummaries"]
    assert "customModelArn" not in summary


@pytest.mark.parametrize("end", ["Completed", "Failed", "Stopped"])
def test_a_finished_job_cannot_be_stopped(server: Bedrock, client: Any, end: str) -> None:
    arn = server.create_job(client)
    if end == "Completed":
        server.complete(arn)
    elif end == "Failed":
        server.rooms.store.jobs.fail(arn, "x", server.clock.tick())
    else:
        client.stop_model_customization_job(jobIdentifier=arn)
        server.rooms.store.jobs.stopped(arn, server.clock.tick(), {})
    code, message, status = refused(lambda: client.stop_model_customization_job(jobIdentifier=arn))
    assert (code, status) == ("ConflictException", 400)
    assert f"is {end}" in message
    assert arn in message


@pytest.mark.parametrize("operation", ["get_model_customization_job", "stop_model_customization_job"])
def test_unknown_jobs_and_other_regions(server: Bedrock, client: Any, operation: str) -> None:
    arn = server.create_job(client)
    west = server.client(region="us-west-2")
    for asked, identifier in ((client, "nobody"), (west, "job-1"), (west, arn), (client, arn[:-12] + "0" * 12)):
        code, message, status = refused(getattr(asked, operation), jobIdentifier=identifier)
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert identifier in message


def test_our_own_hyperparameters_are_echoed_only_when_given(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client, hyperParameters={"method": "full", "seed": "7", "export": "true"})
    assert client.get_model_customization_job(jobIdentifier=arn)["hyperParameters"] == {
        "epochCount": "5",
        "batchSize": "1",
        "learningRate": "1.0E-5",
        "learningRateWarmupSteps": "5",
        "method": "full",
        "seed": "7",
        "export": "true",
    }


def test_pass_role_is_asked_of_the_caller(server: Bedrock) -> None:
    """A role's session that may create jobs but not hand over the job's role makes none."""
    roles = server.rooms.store.access.roles
    create = {"Effect": "Allow", "Action": "bedrock:*", "Resource": "*"}
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": ROLE}
    for name, statements in (("create", [create]), ("pass", [create, passing])):
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        roles.put_policy("BedrockCustomizationRole", "as-caller", document, 10_240)
        role = server.rooms.identity.role_of(ROLE)
        assert role is not None
        key = server.rooms.identity.mint(role, name, timedelta(hours=1))
        caller = server.client(key=key)
        if name == "create":
            code, message, status = refused(server.create_job, caller)
            assert (code, status) == ("AccessDeniedException", 403)
            assert "iam:PassRole" in message
            assert server.bells == []
        else:
            assert JOB_ARN.fullmatch(server.create_job(caller))
