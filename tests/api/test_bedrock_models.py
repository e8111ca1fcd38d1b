"""Foundation models and custom models through boto3 against a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.api.bedrock_server import ACCOUNT, BASE_ARN, EXPRESS, LONG, REGION, Bedrock, bedrock_over, refused

TITAN_IDS = [
    "amazon.titan-text-express-v1:0:8k",
    "amazon.titan-text-express-v1",
    "amazon.titan-text-lite-v1:0:4k",
    "amazon.titan-text-lite-v1",
    "amazon.titan-text-premier-v1:0:32k",
    "amazon.titan-text-premier-v1:0",
]
PROVISIONED = TITAN_IDS[::2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Bedrock]:
    with bedrock_over(tmp_path) as running:
        yield running


@pytest.fixture
def client(server: Bedrock) -> Any:
    return server.client()


def ids(client: Any, **filters: str) -> list[str]:
    return [item["modelId"] for item in client.list_foundation_models(**filters)["modelSummaries"]]


def test_the_catalogue_as_aws_lists_it(server: Bedrock, client: Any) -> None:
    assert [item for item in ids(client) if item.startswith("amazon.titan-text-")] == TITAN_IDS
    express, short = client.list_foundation_models()["modelSummaries"][:2]
    assert express == {
        "modelArn": BASE_ARN,
        "modelId": LONG,
        "modelName": "Titan Text G1 - Express",
        "providerName": "Amazon",
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "customizationsSupported": ["FINE_TUNING", "CONTINUED_PRE_TRAINING"],
        "inferenceTypesSupported": ["PROVISIONED"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
    assert short["modelId"] == EXPRESS
    assert (short["customizationsSupported"], short["inferenceTypesSupported"]) == ([], ["ON_DEMAND"])


def test_filters_of_foundation_models(server: Bedrock, client: Any) -> None:
    assert set(TITAN_IDS) <= set(ids(client, byProvider="amazon"))
    assert ids(client, byProvider="Nobody") == []
    assert set(PROVISIONED) <= set(ids(client, byCustomizationType="FINE_TUNING"))
    assert EXPRESS not in ids(client, byCustomizationType="FINE_TUNING")
    on_demand = ids(client, byInferenceType="ON_DEMAND", byProvider="AMAZON")
    assert set(TITAN_IDS) & set(on_demand) == set(TITAN_IDS) - set(PROVISIONED)
    assert set(PROVISIONED) <= set(ids(client, byInferenceType="PROVISIONED", byOutputModality="TEXT"))
    assert EXPRESS not in ids(client, byOutputModality="EMBEDDING")
    code, message, _ = refused(lambda: client.list_foundation_models(byOutputModality="SMELL"))
    assert code == "ValidationException"
    assert "'SMELL' at 'byOutputModality'" in message


def test_every_row_is_listed_by_all_its_ids_and_got_by_each(server: Bedrock, client: Any) -> None:
    rows = server.rooms.catalog.rows
    assert ids(client) == [model_id for row in rows for model_id in row.ids]
    for summary in client.list_foundation_models()["modelSummaries"]:
        for identifier in (summary["modelId"], summary["modelArn"]):
            assert client.get_foundation_model(modelIdentifier=identifier)["modelDetails"] == summary


def test_what_is_beyond_aws_is_not_told(server: Bedrock, client: Any) -> None:
    assert ids(client, byCustomizationType="CONTINUED_PRE_TRAINING") == [LONG, "amazon.titan-text-lite-v1:0:4k"]
    assert len(ids(client, byCustomizationType="FINE_TUNING")) == len(server.rooms.catalog.rows)
    changes = {"customizationType": "CONTINUED_PRE_TRAINING", "baseModelIdentifier": "meta.llama3-1-8b-instruct-v1:0"}
    arn = server.create_job(client, 1, **changes)
    assert server.job(arn).request["customizationType"] == "CONTINUED_PRE_TRAINING"


@pytest.mark.parametrize("identifier", [EXPRESS, LONG, BASE_ARN, BASE_ARN.removesuffix(":0:8k")])
def test_get_foundation_model(server: Bedrock, client: Any, identifier: str) -> None:
    details = client.get_foundation_model(modelIdentifier=identifier)["modelDetails"]
    assert details["modelId"] == identifier.removeprefix(f"arn:aws:bedrock:{REGION}::foundation-model/")
    assert details["modelArn"].endswith(f"/{details['modelId']}")


def test_unknown_foundation_models(server: Bedrock, client: Any) -> None:
    for identifier in ("amazon.titan-text-huge-v1", BASE_ARN.replace(REGION, "us-west-2")):
        code, message, status = refused(client.get_foundation_model, modelIdentifier=identifier)
        assert (code, status) == ("ResourceNotFoundException", 404)
        assert identifier in message


def test_other_regions_spell_their_own_arns(server: Bedrock) -> None:
    west = server.client(region="us-west-2")
    assert west.get_foundation_model(modelIdentifier=LONG)["modelDetails"]["modelArn"] == BASE_ARN.replace(
        REGION, "us-west-2"
    )


def test_get_custom_model(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client, hyperParameters={"epochCount": "3"})
    model = server.complete(arn)
    answer = client.get_custom_model(modelIdentifier="model-1")
    del answer["ResponseMetadata"]
    assert answer == {
        "modelArn": model.arn,
        "modelName": "model-1",
        "jobName": "job-1",
        "jobArn": arn,
        "baseModelArn": BASE_ARN,
        "customizationType": "FINE_TUNING",
        "hyperParameters": {
            "epochCount": "3",
            "batchSize": "1",
            "learningRate": "1.0E-5",
            "learningRateWarmupSteps": "5",
        },
        "trainingDataConfig": {"s3Uri": "s3://my-bucket/training/train.jsonl"},
        "validationDataConfig": {"validators": []},
        "outputDataConfig": {"s3Uri": "s3://my-bucket/output/"},
        "trainingMetrics": {"trainingLoss": 1.71},
        "validationMetrics": [],
        "creationTime": server.clock.time,
        "modelStatus": "Active",
    }
    named = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:custom-model/model-1"
    for path in (model.arn, named):
        assert server.raw("GET", f"/custom-models/{quote(path, safe='')}").json()["modelArn"] == model.arn


def test_a_model_exists_only_when_its_job_is_completed(server: Bedrock, client: Any) -> None:
    server.create_job(client)
    code, message, status = refused(lambda: client.get_custom_model(modelIdentifier="model-1"))
    assert (code, status) == ("ResourceNotFoundException", 404)
    assert "'model-1'" in message
    assert client.list_custom_models()["modelSummaries"] == []


def test_custom_models_of_other_regions_and_accounts(server: Bedrock, client: Any) -> None:
    model = server.complete(server.create_job(client))
    west = server.client(region="us-west-2")
    for asked, identifier in (
        (west, "model-1"),
        (west, model.arn),
        (client, f"arn:aws:bedrock:{REGION}:999999999999:custom-model/model-1"),
        (client, f"{model.arn[:-12]}{'0' * 12}"),
    ):
        code, _, status = refused(asked.get_custom_model, modelIdentifier=identifier)
        assert (code, status) == ("ResourceNotFoundException", 404)


def test_list_custom_models(server: Bedrock, client: Any) -> None:
    first, second = (server.complete(server.create_job(client, number)) for number in (1, 2))
    summaries = client.list_custom_models()["modelSummaries"]
    assert [item["modelArn"] for item in summaries] == [second.arn, first.arn]
    assert summaries[0] == {
        "modelArn": second.arn,
        "modelName": "model-2",
        "creationTime": second.created,
        "baseModelArn": BASE_ARN,
        "baseModelName": "Titan Text G1 - Express",
        "customizationType": "FINE_TUNING",
        "ownerAccountId": ACCOUNT,
        "modelStatus": "Active",
    }

    def names(**filters: Any) -> list[str]:
        return [item["modelName"] for item in client.list_custom_models(**filters)["modelSummaries"]]

    assert names(nameContains="el-1") == ["model-1"]
    assert names(isOwned=True) == ["model-2", "model-1"]
    assert names(isOwned=False) == []
    assert names(modelStatus="Active") == ["model-2", "model-1"]
    assert names(modelStatus="Creating") == []
    assert names(sortBy="CreationTime", sortOrder="Ascending") == ["model-1", "model-2"]
    assert names(creationTimeAfter=first.created) == ["model-2"]
    assert names(creationTimeBefore=second.created) == ["model-1"]
    for arn in (BASE_ARN, BASE_ARN.removesuffix(":0:8k")):
        assert names(baseModelArnEquals=arn) == ["model-2", "model-1"]
        assert names(foundationModelArnEquals=arn) == ["model-2", "model-1"]
    lite = f"arn:aws:bedrock:{REGION}::foundation-model/amazon.titan-text-lite-v1"
    for arn in (lite, BASE_ARN.replace(REGION, "us-west-2")):
        assert names(baseModelArnEquals=arn) == []
        assert names(foundationModelArnEquals=arn) == []
    assert names(baseModelArnEquals=first.arn) == []


def test_delete_takes_the_weights_and_leaves_the_job(server: Bedrock, client: Any) -> None:
    arn = server.create_job(client)
    model = server.complete(arn)
    folder = server.rooms.models / model.id
    assert folder.is_dir()
    server.bells.clear()
    assert set(client.delete_custom_model(modelIdentifier=model.arn)) == {"ResponseMetadata"}
    assert not folder.exists()
    assert server.bells == ["ring"]
    assert client.get_model_customization_job(jobIdentifier=arn)["status"] == "Completed"
    assert refused(lambda: client.delete_custom_model(modelIdentifier="model-1"))[0] == "ResourceNotFoundException"
    # The model's name is free again, the job's never.
    server.create_job(client, 2, customModelName="model-1")


def test_delete_is_refused_under_a_throughput(server: Bedrock, client: Any) -> None:
    model = server.complete(server.create_job(client))
    arn = client.create_provisioned_model_throughput(modelUnits=1, provisionedModelName="holder", modelId="model-1")[
        "provisionedModelArn"
    ]
    code, message, status = refused(lambda: client.delete_custom_model(modelIdentifier="model-1"))
    assert (code, status) == ("ConflictException", 400)
    for part in (model.arn, "'holder'", arn):
        assert part in message
    assert (server.rooms.models / model.id).is_dir()
    client.delete_provisioned_model_throughput(provisionedModelId=arn)
    client.delete_custom_model(modelIdentifier="model-1")


def test_weights_that_cannot_be_removed_do_not_keep_the_model(server: Bedrock, client: Any) -> None:
    model = server.complete(server.create_job(client))
    folder = server.rooms.models / model.id
    (folder / "adapter_config.json").unlink()
    folder.rmdir()
    folder.write_text("a file where a folder should be")
    client.delete_custom_model(modelIdentifier="model-1")
    assert client.list_custom_models()["modelSummaries"] == []
    assert folder.exists()
