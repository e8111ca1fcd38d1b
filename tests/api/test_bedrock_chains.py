"""Customizing a custom model again, through boto3: by which names, by whose rules, what holds the parent meanwhile."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from outcrop.records import Model
from outcrop.store.models import MODELS
from tests.api.bedrock_server import ACCOUNT, BASE_ARN, LONG, REGION, Bedrock, bedrock_over, refused


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    return server.client()


@pytest.fixture
def parent(server: Bedrock, client: Any) -> Model:
    return server.complete(server.create_job(client))


def test_a_custom_model_is_named_by_arn_name_or_the_documents_form(server: Bedrock, client: Any, parent: Model) -> None:
    for number, identifier in enumerate(
        (parent.arn, "model-1", f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/model-1"), 2
    ):
        arn = server.create_job(client, number, baseModelIdentifier=identifier)
        assert f":model-customization-job/{LONG}/" in arn
        assert client.get_model_customization_job(jobIdentifier=arn)["baseModelArn"] == parent.arn
    summaries = client.list_model_customization_jobs()["modelCustomizationJobSummaries"]
    assert [item["baseModelArn"] for item in summaries] == [parent.arn] * 3 + [BASE_ARN]


def test_the_grandchild_answers_with_its_parent_and_the_foundations_long_id(
    server: Bedrock, client: Any, parent: Model
) -> None:
    child = server.complete(server.create_job(client, 2, baseModelIdentifier=parent.arn))
    grandchild = server.complete(server.create_job(client, 3, baseModelIdentifier=child.arn))
    answer = client.get_custom_model(modelIdentifier="model-3")
    assert answer["baseModelArn"] == child.arn
    assert answer["modelArn"] == grandchild.arn
    assert f":custom-model/{LONG}/" in grandchild.arn
    listed = client.list_custom_models(baseModelArnEquals=child.arn)["modelSummaries"]
    assert [item["modelArn"] for item in listed] == [grandchild.arn]
    of_foundation = client.list_custom_models(foundationModelArnEquals=BASE_ARN)["modelSummaries"]
    assert {item["modelArn"] for item in of_foundation} == {parent.arn, child.arn, grandchild.arn}
    assert [item["modelArn"] for item in client.list_custom_models(baseModelArnEquals=BASE_ARN)["modelSummaries"]] == [
        parent.arn
    ]


def test_the_rules_are_those_of_the_foundation_model(server: Bedrock, client: Any, parent: Model) -> None:
    arn = server.create_job(
        client, 2, baseModelIdentifier="model-1", customizationType="CONTINUED_PRE_TRAINING", hyperParameters={}
    )
    job = client.get_model_customization_job(jobIdentifier=arn)
    assert job["customizationType"] == "CONTINUED_PRE_TRAINING"
    assert job["hyperParameters"]["epochCount"] == "5"
    for changes, words in (
        ({"customizationType": "DISTILLATION"}, f"{LONG} can be customized by"),
        ({"hyperParameters": {"epochCount": "11"}}, "'11' at 'hyperParameters.epochCount'"),
    ):
        code, message, _ = refused(server.create_job, client, 3, baseModelIdentifier=parent.arn, **changes)
        assert code == "ValidationException"
        assert words in message


def test_a_parent_stays_until_its_childs_job_is_over(server: Bedrock, client: Any, parent: Model) -> None:
    child = server.create_job(client, 2, baseModelIdentifier=parent.arn)
    for state in ("InProgress", "Stopping"):
        assert client.get_model_customization_job(jobIdentifier=child)["status"] == state
        code, message, status = refused(client.delete_custom_model, modelIdentifier="model-1")
        assert (code, status) == ("ConflictException", 400)
        assert parent.arn in message
        assert child in message
        if state == "InProgress":
            client.stop_model_customization_job(jobIdentifier=child)
    server.rooms.store.jobs.stopped(child, server.clock.tick(), {})
    second = server.complete(server.create_job(client, 3, baseModelIdentifier=parent.arn))
    client.delete_custom_model(modelIdentifier="model-1")
    assert refused(client.get_custom_model, modelIdentifier="model-1")[0] == "ResourceNotFoundException"
    # The child's answers still name what it was made from, as AWS's do.
    assert client.get_custom_model(modelIdentifier=second.arn)["baseModelArn"] == parent.arn


def test_what_is_no_model_of_this_region_and_account_is_no_base(server: Bedrock, client: Any, parent: Model) -> None:
    west = server.client(region="us-west-2")
    for asked, identifier in (
        (west, "model-1"),
        (west, parent.arn),
        (client, f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/nobody"),
        (client, parent.arn.replace(ACCOUNT, "999999999999")),
        (client, f"{parent.arn[:-12]}{'0' * 12}"),
    ):
        code, message, status = refused(server.create_job, asked, 2, baseModelIdentifier=identifier)
        assert (code, status) == ("ValidationException", 400)
        assert "The provided model identifier is invalid" in message
        assert identifier in message


def test_only_an_active_model_is_a_base(server: Bedrock, client: Any, parent: Model) -> None:
    with server.rooms.store.database.write() as connection:
        connection.execute(update(MODELS).where(MODELS.c.arn == parent.arn).values(status="Creating"))
    code, message, _ = refused(server.create_job, client, 2, baseModelIdentifier="model-1")
    assert code == "ValidationException"
    assert "is Creating: only an Active custom model" in message


def test_a_parent_without_weights_is_refused_before_a_job_fails_over_it(
    server: Bedrock, client: Any, parent: Model
) -> None:
    shutil.rmtree(server.rooms.models / parent.id)
    code, message, _ = refused(server.create_job, client, 2, baseModelIdentifier="model-1")
    assert code == "ValidationException"
    assert f"'model-1' at 'baseModelIdentifier' has no weights here: the weights of {parent.arn} are not at" in message


def test_a_model_whose_foundation_left_the_catalogue_is_no_base(server: Bedrock, client: Any, parent: Model) -> None:
    with server.rooms.store.database.write() as connection:
        connection.execute(update(MODELS).where(MODELS.c.arn == parent.arn).values(base_model_id="my.gone-v1"))
    code, message, _ = refused(server.create_job, client, 2, baseModelIdentifier="model-1")
    assert code == "ValidationException"
    assert "my.gone-v1" in message
