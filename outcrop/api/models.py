"""Foundation models, as the catalogue has them, and custom models, as finished jobs left them."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from outcrop.api.call import Call
from outcrop.api.paging import listing, page
from outcrop.api.refusals import in_aws_words
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import ResourceNotFoundException
from outcrop.records import Arn, Model

log = structlog.get_logger()


def foundation_arn(region: str, model_id: str) -> str:
    """ARN of a foundation model: no account owns it."""
    return str(Arn(service="bedrock", region=region, account="", resource=f"foundation-model/{model_id}"))


def find_foundation(call: Call, identifier: str) -> tuple[FoundationModel, str] | None:
    """The row behind an id or an ARN of this region, and the id as it was sent (short, long or a variant)."""
    row = call.rooms.catalog.find(identifier)
    if row is None:
        return None
    if not identifier.startswith("arn:"):
        return row, identifier
    arn = Arn.parse(identifier)
    return (row, arn.id) if arn.region == call.region else None


def find_custom(call: Call, identifier: str) -> Model | None:
    """The custom model of this name, ARN, or (as the documents write it) …:custom-model/<name>, in this region."""
    if identifier.startswith("arn:"):
        try:
            arn = Arn.parse(identifier)
        except ValueError:
            return None
        if (arn.service, arn.region, arn.account) != ("bedrock", call.region, call.rooms.account):
            return None
    return call.rooms.store.models.find(call.region, identifier)


def list_foundation_models(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """All ids of all rows that pass the filters, on one page; provider names count without letter case."""
    summaries = [_details(call, row, model_id) for row in call.rooms.catalog.rows for model_id in row.ids]
    provider = params.get("byProvider")
    if provider is not None:
        summaries = [item for item in summaries if item["providerName"].lower() == provider.lower()]
    for filtered, member in (
        ("byCustomizationType", "customizationsSupported"),
        ("byOutputModality", "outputModalities"),
        ("byInferenceType", "inferenceTypesSupported"),
    ):
        wanted = params.get(filtered)
        if wanted is not None:
            summaries = [item for item in summaries if wanted in item[member]]
    return {"modelSummaries": summaries}


def get_foundation_model(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One foundation model by short id, context variant or ARN."""
    identifier = params["modelIdentifier"]
    found = find_foundation(call, identifier)
    if found is None:
        raise ResourceNotFoundException(
            "Could not resolve the foundation model from the provided model identifier: "
            f"'{identifier}' in {call.region}."
        )
    return {"modelDetails": _details(call, *found)}


def _details(call: Call, row: FoundationModel, model_id: str) -> dict[str, Any]:
    return {
        "modelArn": foundation_arn(call.region, model_id),
        "modelId": model_id,
        "modelName": row.name,
        "providerName": row.provider,
        "inputModalities": list(row.input_modalities),
        "outputModalities": list(row.output_modalities),
        "responseStreamingSupported": row.streaming,
        "customizationsSupported": list(row.customizations_of(model_id)),
        "inferenceTypesSupported": list(row.inference_types(model_id)),
        "modelLifecycle": {"status": row.lifecycle},
    }


def get_custom_model(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One custom model: the job's document and metrics under the model's own name."""
    model = _custom(call, params["modelIdentifier"])
    answer = {
        **model.document,
        "modelArn": model.arn,
        "modelName": model.name,
        "jobArn": model.job_arn,
        "creationTime": model.created,
        "modelStatus": model.status,
    }
    return {name: value for name, value in answer.items() if value is not None}


def list_custom_models(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One page of the custom models; none but the account's own exist, so isOwned=false is an empty list."""
    if params.get("isOwned") is False:
        return {"modelSummaries": []}
    equals = {
        "status": params.get("modelStatus"),
        "base_arn": _long_arn(call, params.get("baseModelArnEquals")),
        "base_model_id": _long_id(call, params.get("foundationModelArnEquals")),
    }
    models, following = call.rooms.store.models.page(call.region, listing(call, params, equals))
    return page(call, params, "modelSummaries", [_summary(call, model) for model in models], following)


def delete_custom_model(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete a custom model and its weights; refused while it is served or a job starts from it."""
    model = _custom(call, params["modelIdentifier"])
    with in_aws_words():
        call.rooms.store.models.delete(model.arn)
    _remove(call.rooms.models / model.id)
    call.rooms.wake()
    return {}


def _remove(folder: Path) -> None:
    """Take the weights off the disk after their row: a folder without a row is garbage, the other way round a lie."""
    try:
        shutil.rmtree(folder)
    except OSError as fault:
        # The model is deleted all the same; what is left on the disk is for the person who reads the log.
        log.warning("weights of a deleted model stay on the disk", folder=str(folder), reason=str(fault))


def _custom(call: Call, identifier: str) -> Model:
    model = find_custom(call, identifier)
    if model is None:
        raise ResourceNotFoundException(f"The custom model '{identifier}' does not exist in {call.region}.")
    return model


def _summary(call: Call, model: Model) -> dict[str, Any]:
    row = call.rooms.catalog.find(model.base_model_id)
    return {
        "modelArn": model.arn,
        "modelName": model.name,
        "creationTime": model.created,
        "baseModelArn": model.document["baseModelArn"],
        "baseModelName": row.name if row else "",
        "customizationType": model.document.get("customizationType", "FINE_TUNING"),
        "ownerAccountId": call.rooms.account,
        "modelStatus": model.status,
    }


def _long_id(call: Call, arn: str | None) -> str | None:
    """The long id behind a foundation model's ARN; one that names nothing here matches nothing."""
    found = find_foundation(call, arn) if arn is not None else None
    return found[0].long_id if found else arn


def _long_arn(call: Call, arn: str | None) -> str | None:
    """A foundation model's ARN with its long id, as models carry it; another ARN as it is."""
    found = find_foundation(call, arn) if arn is not None else None
    return foundation_arn(call.region, found[0].long_id) if found else arn
