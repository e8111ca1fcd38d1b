"""Tags of jobs, custom models and throughputs through boto3 against a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.api.bedrock_server import ACCOUNT, BASE_ARN, EXPRESS, LONG, REGION, Bedrock, bedrock_over, refused


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    return server.client()


@pytest.fixture
def arns(server: Bedrock, client: Any) -> dict[str, str]:
    """A job, a model and a throughput, each made with one tag of its own."""
    job = server.create_job(
        client,
        jobTags=[{"key": "of", "value": "job"}],
        customModelTags=[{"key": "of", "value": "model"}],
    )
    throughput = client.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="pt", modelId=EXPRESS, tags=[{"key": "of", "value": "throughput"}]
    )
    return {"job": job, "model": server.complete(job).arn, "throughput": throughput["provisionedModelArn"]}


def tags(client: Any, arn: str) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in client.list_tags_for_resource(resourceARN=arn)["tags"]}


@pytest.mark.parametrize("kind", ["job", "model", "throughput"])
def test_tags_come_and_go(client: Any, arns: dict[str, str], kind: str) -> None:
    arn = arns[kind]
    assert tags(client, arn) == {"of": kind}
    answer = client.tag_resource(
        resourceARN=arn, tags=[{"key": "of", "value": "new"}, {"key": "cost:centre/1", "value": ""}]
    )
    assert set(answer) == {"ResponseMetadata"}
    assert tags(client, arn) == {"of": "new", "cost:centre/1": ""}
    client.untag_resource(resourceARN=arn, tagKeys=["of", "never-there"])
    assert tags(client, arn) == {"cost:centre/1": ""}
    others = {name: tags(client, other) for name, other in arns.items() if name != kind}
    assert others == {name: {"of": name} for name in others}


def test_fifty_and_no_more(client: Any, arns: dict[str, str]) -> None:
    arn = arns["model"]
    client.tag_resource(resourceARN=arn, tags=[{"key": f"k{number}", "value": ""} for number in range(49)])
    client.tag_resource(resourceARN=arn, tags=[{"key": "k0", "value": "again"}])
    with pytest.raises(ClientError) as caught:
        client.tag_resource(resourceARN=arn, tags=[{"key": "one-more", "value": ""}])
    assert caught.value.response["Error"]["Code"] == "TooManyTagsException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert caught.value.response["resourceName"] == arn
    assert "51" in caught.value.response["Error"]["Message"]
    assert len(tags(client, arn)) == 50


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        ([{"key": "aws:name", "value": ""}], ("'aws:name' at 'tags.1.member.key'", "reserved")),
        ([{"key": "AWS:name", "value": ""}], ("'AWS:name'", "reserved")),
        ([{"key": "a", "value": ""}, {"key": "a", "value": "b"}], ("'a' at 'tags.2.member.key'", "unique")),
        ([{"key": "a!", "value": ""}], ("'a!'", "pattern")),
        ([{"key": "a", "value": "x" * 257}], ("less than or equal to 256",)),
    ],
)
def test_tags_that_are_refused(
    client: Any, arns: dict[str, str], wrong: list[dict[str, str]], parts: tuple[str, ...]
) -> None:
    code, message, _ = refused(lambda: client.tag_resource(resourceARN=arns["job"], tags=wrong))
    assert code == "ValidationException"
    for part in parts:
        assert part in message
    assert tags(client, arns["job"]) == {"of": "job"}


@pytest.mark.parametrize("operation", ["tag", "untag", "list"])
@pytest.mark.parametrize(
    "arn",
    [
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/{LONG}/000000000000",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-customization-job/{LONG}/000000000000",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/000000000000",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:imported-model/000000000000",
        f"arn:aws:bedrock:{REGION}:{ACCOUNT}:guardrail/abc",
    ],
)
def test_resources_that_are_not_there(client: Any, operation: str, arn: str) -> None:
    calls = {
        "tag": lambda: client.tag_resource(resourceARN=arn, tags=[{"key": "a", "value": "b"}]),
        "untag": lambda: client.untag_resource(resourceARN=arn, tagKeys=["a"]),
        "list": lambda: client.list_tags_for_resource(resourceARN=arn),
    }
    code, message, status = refused(calls[operation])
    assert (code, status) == ("ResourceNotFoundException", 404)
    assert arn in message


def test_resources_of_other_regions_and_names(server: Bedrock, client: Any, arns: dict[str, str]) -> None:
    west = server.client(region="us-west-2")
    for arn in arns.values():
        assert refused(west.list_tags_for_resource, resourceARN=arn)[0] == "ResourceNotFoundException"
    for wrong in (BASE_ARN, "model-1-and-a-long-name-of-it"):
        code, _, _ = refused(client.list_tags_for_resource, resourceARN=wrong)
        assert code in ("ResourceNotFoundException", "ValidationException")


def test_tags_go_with_their_resource(server: Bedrock, client: Any, arns: dict[str, str]) -> None:
    client.delete_custom_model(modelIdentifier=arns["model"])
    client.delete_provisioned_model_throughput(provisionedModelId=arns["throughput"])
    assert server.rooms.store.tags.of(arns["model"]) == []
    assert server.rooms.store.tags.of(arns["throughput"]) == []
    assert tags(client, arns["job"]) == {"of": "job"}
