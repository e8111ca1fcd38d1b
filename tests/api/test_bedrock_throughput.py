"""Provisioned Throughput through boto3 against a real server; the fleet's moves are made by the store's verbs."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outcrop.serve.capacity import here
from outcrop.store.capacities import Capacity
from tests.api.bedrock_server import (
    ACCOUNT,
    BASE_ARN,
    EXPRESS,
    LONG,
    REGION,
    Bedrock,
    bedrock_over,
    refused,
    require_filters,
)

LITE = "amazon.titan-text-lite-v1"
LITE_ARN = f"arn:aws:bedrock:{REGION}::foundation-model/amazon.titan-text-lite-v1:0:4k"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    return server.client()


def create(client: Any, name: str = "pt-1", model: str = EXPRESS, units: int = 1, **more: Any) -> str:
    arn: str = client.create_provisioned_model_throughput(
        modelUnits=units, provisionedModelName=name, modelId=model, **more
    )["provisionedModelArn"]
    return arn


def get(client: Any, identifier: str) -> dict[str, Any]:
    answer: dict[str, Any] = client.get_provisioned_model_throughput(provisionedModelId=identifier)
    del answer["ResponseMetadata"]
    return answer


def test_create_and_get(server: Bedrock, client: Any) -> None:
    model = server.complete(server.create_job(client))
    server.bells.clear()
    answer = client.create_provisioned_model_throughput(
        modelUnits=2, provisionedModelName="pt-1", modelId="model-1", tags=[{"key": "a", "value": "b"}]
    )
    assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert list(answer) == ["provisionedModelArn"]
    arn = answer["provisionedModelArn"]
    assert arn.startswith(f"arn:aws:bedrock:{REGION}:{ACCOUNT}:provisioned-model/")
    assert len(arn.rsplit("/", 1)[1]) == 12
    assert server.bells == ["ring"]
    now = server.clock.time
    expected = {
        "modelUnits": 2,
        "desiredModelUnits": 2,
        "provisionedModelName": "pt-1",
        "provisionedModelArn": arn,
        "modelArn": model.arn,
        "desiredModelArn": model.arn,
        "foundationModelArn": BASE_ARN,
        "status": "Creating",
        "creationTime": now,
        "lastModifiedTime": now,
    }
    assert get(client, arn) == get(client, "pt-1") == expected
    assert client.list_provisioned_model_throughputs()["provisionedModelSummaries"] == [expected]
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "a", "value": "b"}]
    server.rooms.store.throughputs.in_service(arn, server.clock.tick())
    assert get(client, arn)["status"] == "InService"
    assert get(client, arn)["lastModifiedTime"] > now


@pytest.mark.parametrize("spelling", ["name", "arn", "the documents' form"])
def test_every_spelling_of_a_custom_model(server: Bedrock, client: Any, spelling: str) -> None:
    model = server.complete(server.create_job(client, customModelName="customer-service-titan"))
    identifier = {
        "name": "customer-service-titan",
        "arn": model.arn,
        "the documents' form": "arn:aws:bedrock:us-east-1:123456789012:custom-model/customer-service-titan",
    }[spelling]
    assert get(client, create(client, model=identifier))["modelArn"] == model.arn


@pytest.mark.parametrize("identifier", [EXPRESS, LONG, BASE_ARN, BASE_ARN.removesuffix(":0:8k")])
def test_every_spelling_of_a_foundation_model(server: Bedrock, client: Any, identifier: str) -> None:
    answer = get(client, create(client, model=identifier))
    assert answer["modelArn"] == answer["foundationModelArn"] == BASE_ARN


@pytest.mark.parametrize(
    "identifier",
    [
        "nobody",
        "amazon.titan-text-huge-v1",
        "arn:aws:bedrock:us-east-1:123456789012:custom-model/nobody",
        "arn:aws:bedrock:us-west-2:123456789012:custom-model/model-1",
        "arn:aws:bedrock:us-west-2::foundation-model/amazon.titan-text-express-v1",
    ],
)
def test_unknown_models(server: Bedrock, client: Any, identifier: str) -> None:
    server.complete(server.create_job(client))
    code, message, status = refused(lambda: create(client, model=identifier))
    assert (code, status) == ("ValidationException", 400)
    assert message.startswith("The provided model identifier is invalid")
    assert f"'{identifier}' at 'modelId'" in message


def test_units(server: Bedrock, client: Any) -> None:
    create(client, "pt-1", units=3)
    code, message, status = refused(lambda: create(client, "pt-2", units=3))
    assert (code, status) == ("ServiceQuotaExceededException", 400)
    assert f"Your account does not currently have 3 no commitment model units reserved for {LONG}." in message
    assert "3 of 5 model units are in use" in message
    create(server.client(region="us-west-2"), "pt-2", units=2)
    _, message, _ = refused(lambda: create(client, "pt-3"))
    assert f"Your account does not currently have any no commitment model units reserved for {LONG}." in message
    for units in (0, -1):
        code, message, _ = refused_units(server, units)
        assert code == "ValidationException"
        assert f"'{units}' at 'modelUnits'" in message
        assert "greater than or equal to 1" in message


def refused_units(server: Bedrock, units: int) -> tuple[str, str, int]:
    """boto3 checks the minimum itself, so the request goes by hand."""
    body = {"modelUnits": units, "provisionedModelName": "pt-9", "modelId": EXPRESS}
    answer = server.raw("POST", "/provisioned-model-throughput", body)
    return answer.headers["x-amzn-errortype"].partition(":")[0], answer.json()["message"], answer.status_code


def test_a_taken_name(server: Bedrock, client: Any) -> None:
    arn = create(client)
    code, message, status = refused(lambda: create(client))
    assert (code, status) == ("ValidationException", 400)
    assert message == "The provided provisioned model name is currently in use: 'pt-1'."
    create(server.client(region="us-west-2"))
    client.delete_provisioned_model_throughput(provisionedModelId=arn)
    create(client)


def test_the_same_token_gives_the_same_throughput(server: Bedrock, client: Any) -> None:
    arn = create(client, clientRequestToken="t1")
    assert create(client, clientRequestToken="t1") == arn
    code, message, _ = refused(lambda: create(client, "pt-2", clientRequestToken="t1"))
    assert code == "ValidationException"
    assert "'t1' at 'clientRequestToken'" in message


@pytest.mark.parametrize(
    ("commitment", "start", "ends"),
    [
        ("OneMonth", datetime(2026, 5, 1, 12, tzinfo=UTC), datetime(2026, 6, 1, 12, tzinfo=UTC)),
        ("OneMonth", datetime(2027, 1, 31, 12, tzinfo=UTC), datetime(2027, 2, 28, 12, tzinfo=UTC)),
        ("SixMonths", datetime(2026, 8, 31, 12, tzinfo=UTC), datetime(2027, 2, 28, 12, tzinfo=UTC)),
        ("SixMonths", datetime(2026, 12, 15, 12, tzinfo=UTC), datetime(2027, 6, 15, 12, tzinfo=UTC)),
    ],
)
def test_commitments(server: Bedrock, client: Any, commitment: str, start: datetime, ends: datetime) -> None:
    server.clock.time = start
    arn = create(client, commitmentDuration=commitment)
    assert get(client, arn)["commitmentDuration"] == commitment
    assert get(client, arn)["commitmentExpirationTime"] == ends
    server.clock.time = ends.replace(hour=11)
    code, message, status = refused(lambda: client.delete_provisioned_model_throughput(provisionedModelId=arn))
    assert (code, status) == ("ConflictException", 400)
    assert arn in message
    assert ends.isoformat() in message
    server.clock.time = ends
    client.delete_provisioned_model_throughput(provisionedModelId=arn)


def test_an_unknown_commitment(server: Bedrock, client: Any) -> None:
    code, message, _ = refused(lambda: create(client, commitmentDuration="OneYear"))
    assert code == "ValidationException"
    assert "'OneYear' at 'commitmentDuration'" in message


def in_service(server: Bedrock, client: Any, model: str, name: str = "pt-1") -> str:
    arn = create(client, name, model)
    server.rooms.store.throughputs.in_service(arn, server.clock.tick())
    return arn


def test_a_custom_throughput_moves_to_a_sibling_and_to_the_base(server: Bedrock, client: Any) -> None:
    first, second = (server.complete(server.create_job(client, number)) for number in (1, 2))
    arn = in_service(server, client, "model-1")
    server.bells.clear()
    answer = client.update_provisioned_model_throughput(
        provisionedModelId="pt-1", desiredProvisionedModelName="renamed", desiredModelId=second.arn
    )
    assert set(answer) == {"ResponseMetadata"}
    assert server.bells == ["ring"]
    moving = get(client, arn)
    assert (moving["status"], moving["provisionedModelName"]) == ("Updating", "renamed")
    assert (moving["modelArn"], moving["desiredModelArn"]) == (first.arn, second.arn)
    for attempt in (
        lambda: client.update_provisioned_model_throughput(provisionedModelId=arn, desiredProvisionedModelName="x"),
        lambda: client.update_provisioned_model_throughput(provisionedModelId=arn, desiredModelId=LONG),
    ):
        code, message, _ = refused(attempt)
        assert code == "ValidationException"
        assert "is Updating" in message
    code, message, status = refused(lambda: client.delete_provisioned_model_throughput(provisionedModelId=arn))
    assert (code, status) == ("ConflictException", 400)
    assert "is Updating" in message
    server.rooms.store.throughputs.updated(arn, server.clock.tick())
    assert get(client, arn)["modelArn"] == second.arn
    client.update_provisioned_model_throughput(provisionedModelId=arn, desiredModelId=EXPRESS)
    assert get(client, arn)["desiredModelArn"] == BASE_ARN
    server.rooms.store.throughputs.updated(arn, server.clock.tick())
    # It was made for a custom model, so the base is no one-way street.
    client.update_provisioned_model_throughput(provisionedModelId=arn, desiredModelId="model-1")
    assert get(client, arn)["desiredModelArn"] == first.arn


def test_moves_that_are_refused(server: Bedrock, client: Any) -> None:
    server.complete(server.create_job(client))
    custom, base = in_service(server, client, "model-1", "custom"), in_service(server, client, LITE, "base")

    def move(arn: str, model: str) -> tuple[str, str, int]:
        return refused(lambda: client.update_provisioned_model_throughput(provisionedModelId=arn, desiredModelId=model))

    code, message, _ = move(custom, LITE)
    assert code == "ValidationException"
    assert LITE_ARN in message
    assert LONG in message
    code, message, _ = move(base, "model-1")
    assert code == "ValidationException"
    assert "made for a foundation model" in message
    code, message, _ = move(custom, "nobody")
    assert code == "ValidationException"
    assert "'nobody' at 'desiredModelId'" in message
    client.update_provisioned_model_throughput(provisionedModelId=base, desiredModelId=LITE)
    assert get(client, base)["status"] == "InService"


def test_renaming(server: Bedrock, client: Any) -> None:
    arn = create(client)
    rename = client.update_provisioned_model_throughput
    code, message, _ = refused(lambda: rename(provisionedModelId=arn, desiredProvisionedModelName="new"))
    assert code == "ValidationException"
    assert "is Creating" in message
    server.rooms.store.throughputs.in_service(arn, server.clock.tick())
    rename(provisionedModelId=arn, desiredProvisionedModelName="new")
    assert get(client, "new")["status"] == "InService"
    create(client, "other")
    code, message, _ = refused(lambda: rename(provisionedModelId=arn, desiredProvisionedModelName="other"))
    assert code == "ValidationException"
    assert "'other'" in message


def test_a_failure_is_told_and_can_be_deleted(server: Bedrock, client: Any) -> None:
    arn = create(client)
    assert "failureMessage" not in get(client, arn)
    server.rooms.store.throughputs.failed(arn, "the engine ended with status 1", server.clock.tick())
    assert get(client, arn)["status"] == "Failed"
    assert get(client, arn)["failureMessage"] == "the engine ended with status 1"
    client.delete_provisioned_model_throughput(provisionedModelId=arn)


def test_delete_gives_back_at_once_and_leaves_the_model(server: Bedrock, client: Any) -> None:
    server.complete(server.create_job(client))
    arn = create(client, model="model-1", units=5)
    server.bells.clear()
    assert set(client.delete_provisioned_model_throughput(provisionedModelId="pt-1")) == {"ResponseMetadata"}
    assert server.bells == ["ring"]
    code, message, status = refused(lambda: get(client, arn))
    assert (code, status) == ("ResourceNotFoundException", 404)
    assert arn in message
    assert client.get_custom_model(modelIdentifier="model-1")["modelStatus"] == "Active"
    create(client, units=5)


def test_other_regions_see_nothing_of_it(server: Bedrock, client: Any) -> None:
    arn, west = create(client), server.client(region="us-west-2")
    assert west.list_provisioned_model_throughputs()["provisionedModelSummaries"] == []
    for operation in ("get", "delete", "update"):
        verb = getattr(west, f"{operation}_provisioned_model_throughput")
        for identifier in (arn, "pt-1"):
            code, _, status = refused(verb, provisionedModelId=identifier)
            assert (code, status) == ("ResourceNotFoundException", 404)


def test_list_filters(server: Bedrock, client: Any) -> None:
    model = server.complete(server.create_job(client))
    born = {}
    for name, target in (("alpha-1", "model-1"), ("alpha-2", EXPRESS), ("beta", LITE)):
        create(client, name, target)
        born[name] = server.clock.time
        server.clock.tick()
    server.rooms.store.throughputs.in_service(get(client, "beta")["provisionedModelArn"], server.clock.time)

    def names(**filters: Any) -> list[str]:
        answer = client.list_provisioned_model_throughputs(**filters)
        return [item["provisionedModelName"] for item in answer["provisionedModelSummaries"]]

    times = {"after": "creationTimeAfter", "before": "creationTimeBefore"}
    require_filters(names, born, running="InService", model_arn=model.arn, **times)
    assert names(modelArnEquals=BASE_ARN) == names(modelArnEquals=BASE_ARN.removesuffix(":0:8k")) == ["alpha-2"]


def test_more_than_the_machine_was_measured_to_do_is_refused_with_the_figures(tmp_path: Path) -> None:
    with bedrock_over(tmp_path, measured=True) as server:
        client, store = server.client(), server.rooms.store
        # Nobody has measured it yet: the fleet will, before it is in service.
        first = create(client, "pt-1")
        store.throughputs.in_service(first, server.clock.tick())
        row = server.rooms.catalog.find(LONG)
        assert row is not None
        weights = server.rooms.catalog.weights_folder(row.weights)
        rate = row.tokens_per_minute_per_unit
        store.capacities.put(str(weights), here(), Capacity(2 * rate, server.clock.time))
        create(client, "pt-2")
        code, message, status = refused(lambda: create(client, "pt-3", units=2))
        assert (code, status) == ("ServiceQuotaExceededException", 400)
        assert message.startswith(
            f"Your account does not currently have these no commitment model units reserved for {LONG}."
        )
        for figure in (f"{2 * rate:,} tokens a minute are more than the 0", f"measured at {2 * rate:,}", "2026-05-01"):
            assert figure in message
        assert server.rooms.store.throughputs.find(REGION, "pt-3") is None
