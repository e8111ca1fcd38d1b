"""Custom model deployments through boto3 against a real server; the fleet's moves are made by the store's verbs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outcrop.api.call import Call
from outcrop.api.deployments import create_custom_model_deployment
from outcrop.errors import ValidationException
from outcrop.records import Model
from outcrop.wire.gateway import Signed
from tests.api.bedrock_server import ACCOUNT, LONG, REGION, Bedrock, bedrock_over, refused, require_filters


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    return server.client()


@pytest.fixture
def models(server: Bedrock, client: Any) -> list[Model]:
    return [server.complete(server.create_job(client, number)) for number in (1, 2)]


def create(client: Any, model: Model, name: str = "shop", **more: Any) -> str:
    arn: str = client.create_custom_model_deployment(modelDeploymentName=name, modelArn=model.arn, **more)[
        "customModelDeploymentArn"
    ]
    return arn


def get(client: Any, identifier: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get_custom_model_deployment(customModelDeploymentIdentifier=identifier)
    del answer["ResponseMetadata"]
    return answer


def test_create_and_get(server: Bedrock, client: Any, models: list[Model]) -> None:
    server.bells.clear()
    answer = client.create_custom_model_deployment(
        modelDeploymentName="shop",
        modelArn=models[0].arn,
        description="for the shop",
        tags=[{"key": "a", "value": "b"}],
    )
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    assert list(answer) == ["customModelDeploymentArn"]
    arn = answer["customModelDeploymentArn"]
    assert arn.startswith(f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model-deployment/")
    assert len(arn.rsplit("/", 1)[1]) == 12
    assert server.bells == ["ring"]
    now = server.clock.time
    assert (
        get(client, arn)
        == get(client, "shop")
        == {
            "customModelDeploymentArn": arn,
            "modelDeploymentName": "shop",
            "modelArn": models[0].arn,
            "createdAt": now,
            "status": "Creating",
            "description": "for the shop",
            "lastUpdatedAt": now,
        }
    )
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "a", "value": "b"}]
    client.tag_resource(resourceARN=arn, tags=[{"key": "c", "value": "d"}])
    client.untag_resource(resourceARN=arn, tagKeys=["a"])
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "c", "value": "d"}]
    server.rooms.store.deployments.proven(arn, server.clock.tick())
    assert get(client, arn)["status"] == "Active"
    assert get(client, arn)["lastUpdatedAt"] > now
    assert "updateDetails" not in get(client, arn)


def test_a_failure_is_told(server: Bedrock, client: Any, models: list[Model]) -> None:
    arn = create(client, models[0])
    server.rooms.store.deployments.failed(arn, "the engine ended with 1", server.clock.tick())
    assert (get(client, arn)["status"], get(client, arn)["failureMessage"]) == ("Failed", "the engine ended with 1")
    [listed] = client.list_custom_model_deployments(statusEquals="Failed")["modelDeploymentSummaries"]
    assert listed["failureMessage"] == "the engine ended with 1"
    client.delete_custom_model_deployment(customModelDeploymentIdentifier=arn)


def test_an_update_tells_how_far_it_is(server: Bedrock, client: Any, models: list[Model]) -> None:
    store, (red, blue) = server.rooms.store.deployments, models
    arn = create(client, red)

    def update(model: Model = blue) -> dict[str, Any]:
        answer: dict[str, Any] = client.update_custom_model_deployment(
            customModelDeploymentIdentifier="shop", modelArn=model.arn
        )
        return answer

    assert refused(update)[0] == "ValidationException"
    assert "is Creating" in refused(update)[1]
    store.proven(arn, server.clock.tick())
    server.bells.clear()
    answer = update()
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 202
    assert answer == {"customModelDeploymentArn": arn}
    assert server.bells == ["ring"]
    moving = get(client, arn)
    assert (moving["status"], moving["modelArn"]) == ("Active", red.arn)
    assert moving["updateDetails"] == {"modelArn": blue.arn, "updateStatus": "Updating"}
    assert "is Updating" in refused(update)[1]
    code, message, status = refused(client.delete_custom_model_deployment, customModelDeploymentIdentifier=arn)
    assert (code, status) == ("ConflictException", 400)
    assert "is Updating" in message
    store.proven(arn, server.clock.tick())
    moved = get(client, arn)
    assert (moved["status"], moved["modelArn"]) == ("Active", blue.arn)
    assert moved["updateDetails"] == {"modelArn": blue.arn, "updateStatus": "UpdateCompleted"}
    update(red)
    store.failed(arn, "no memory", server.clock.tick())
    kept = get(client, arn)
    assert (kept["status"], kept["modelArn"], kept["failureMessage"]) == ("Active", blue.arn, "no memory")
    assert kept["updateDetails"] == {"modelArn": red.arn, "updateStatus": "UpdateFailed"}


def test_a_deployed_model_stays(server: Bedrock, client: Any, models: list[Model]) -> None:
    arn = create(client, models[0])
    code, message, status = refused(client.delete_custom_model, modelIdentifier="model-1")
    assert (code, status) == ("ConflictException", 400)
    assert arn in message
    assert "'shop'" in message
    answer = client.delete_custom_model_deployment(customModelDeploymentIdentifier="shop")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    code, message, status = refused(get, client, arn)
    assert (code, status) == ("ResourceNotFoundException", 404)
    assert arn in message
    assert client.get_custom_model(modelIdentifier="model-1")["modelStatus"] == "Active"
    client.delete_custom_model(modelIdentifier="model-1")


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        ("arn:aws:bedrock:us-east-1:123456789012:custom-model/amazon.titan-text-express-v1:0:8k/aaaaaaaaaaaa",
         "ResourceNotFoundException", "does not exist in us-east-1"),
        ("arn:aws:bedrock:us-west-2:123456789012:custom-model/amazon.titan-text-express-v1:0:8k/aaaaaaaaaaaa",
         "ResourceNotFoundException", "does not exist in us-east-1"),
        ("model-1-of-mine-and-nobody", "ValidationException", "'modelArn'"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-express-v1",
         "ValidationException", "'modelArn'"),
    ],
)  # fmt: skip
def test_what_is_no_custom_model(client: Any, models: list[Model], given: str, code: str, told: str) -> None:
    found, message, _ = refused(client.create_custom_model_deployment, modelDeploymentName="x", modelArn=given)
    assert found == code
    assert told in message
    assert given in message


def test_names_and_tokens(client: Any, server: Bedrock, models: list[Model]) -> None:
    arn = create(client, models[0], clientRequestToken="t1")
    assert create(client, models[0], clientRequestToken="t1") == arn
    code, message, _ = refused(create, client, models[1], clientRequestToken="t1")
    assert code == "ValidationException"
    assert "'t1' at 'clientRequestToken'" in message
    code, message, _ = refused(create, client, models[1])
    assert (code, message) == (
        "ValidationException",
        "The provided model deployment name is currently in use: 'shop'.",
    )
    code, message, _ = refused(create, client, models[1], "two  spaces")
    assert code == "ValidationException"
    assert "'modelDeploymentName'" in message
    client.delete_custom_model_deployment(customModelDeploymentIdentifier=arn)
    create(client, models[1])


def test_only_so_many_are_being_created(server: Bedrock, client: Any, models: list[Model]) -> None:
    for number in range(server.rooms.deployments_in_progress):
        arn = create(client, models[0], f"d-{number}")
    code, message, status = refused(create, client, models[0], "one-more")
    assert (code, status) == ("ServiceQuotaExceededException", 400)
    assert "10 custom model deployments are being created, and 10 may be" in message
    server.rooms.store.deployments.proven(arn, server.clock.tick())
    create(client, models[0], "one-more")


def test_other_regions_see_nothing_of_it(server: Bedrock, client: Any, models: list[Model]) -> None:
    arn, west = create(client, models[0]), server.client(region="us-west-2")
    assert west.list_custom_model_deployments()["modelDeploymentSummaries"] == []
    for identifier in (arn, "shop"):
        for verb, more in (
            (west.get_custom_model_deployment, {}),
            (west.delete_custom_model_deployment, {}),
            (west.update_custom_model_deployment, {"modelArn": models[1].arn}),
        ):
            code, _, status = refused(verb, customModelDeploymentIdentifier=identifier, **more)
            assert (code, status) == ("ResourceNotFoundException", 404)


def test_lists(server: Bedrock, client: Any, models: list[Model]) -> None:
    born = {}
    for name, model in (("alpha-1", models[0]), ("alpha-2", models[1]), ("beta", models[1])):
        create(client, model, name)
        born[name] = server.clock.time
        server.clock.tick()
    server.rooms.store.deployments.proven(get(client, "beta")["customModelDeploymentArn"], server.clock.time)

    def names(**filters: Any) -> list[str]:
        answer = client.list_custom_model_deployments(**filters)
        return [item["customModelDeploymentName"] for item in answer["modelDeploymentSummaries"]]

    told = {"running": "Active", "model_arn": models[0].arn, "after": "createdAfter", "before": "createdBefore"}
    require_filters(names, born, **told)
    pages = client.get_paginator("list_custom_model_deployments").paginate(PaginationConfig={"PageSize": 2})
    assert [len(each["modelDeploymentSummaries"]) for each in pages] == [2, 1]
    assert refused(names, nextToken="x")[0] == "ValidationException"
    [listed] = client.list_custom_model_deployments(statusEquals="Active")["modelDeploymentSummaries"]
    assert listed == {
        "customModelDeploymentArn": get(client, "beta")["customModelDeploymentArn"],
        "customModelDeploymentName": "beta",
        "modelArn": models[1].arn,
        "createdAt": born["beta"],
        "status": "Active",
        "lastUpdatedAt": server.clock.time,
    }


def test_a_setting_holds_to_the_bases_that_aws_deploys(tmp_path: Path) -> None:
    with bedrock_over(tmp_path) as server:
        client = server.client()
        rows = server.rooms.catalog.rows
        assert {row.id for row in rows if row.deployable} == {
            "amazon.nova-lite-v1:0",
            "amazon.nova-micro-v1:0",
            "amazon.nova-pro-v1:0",
            "meta.llama3-3-70b-instruct-v1:0",
        }
        titan = server.complete(server.create_job(client))
        strict = replace(server.rooms, deploy_all=False)
        access_key = server.keys.access_key
        signed = Signed(access_key, "bedrock", "CreateCustomModelDeployment", REGION, "request", "host", {}, False)
        call = Call(signed, server.rooms.identity.principal_for(access_key), strict)
        with pytest.raises(ValidationException) as caught:
            create_custom_model_deployment(call, {"modelDeploymentName": "x", "modelArn": titan.arn})
        for told in (titan.arn, LONG, "amazon.nova-micro-v1:0:128k", "deployable_models"):
            assert told in str(caught.value)
