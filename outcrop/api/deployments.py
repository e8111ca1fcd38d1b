"""Custom model deployments: Create, Get, List, Update and Delete.

A create or an update writes what is wanted and rings; the fleet loads the model, has it answer once, and says so in the
status. From then on nothing is kept ready: a call loads what it needs.
"""

from collections.abc import Mapping
from typing import Any

from outcrop.api.call import Call
from outcrop.api.models import find_custom
from outcrop.api.paging import listing, page
from outcrop.api.refusals import fingerprint, in_aws_words
from outcrop.api.tags import checked
from outcrop.errors import ResourceNotFoundException, ServiceQuotaExceededException, ValidationException
from outcrop.records import Deployment, Model, new_id
from outcrop.store.refusals import OverQuota


def create_custom_model_deployment(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Deploy a custom model; the deployment is Creating until the model has really answered once."""
    store, token, mark = call.rooms.store.deployments, params.get("clientRequestToken"), fingerprint(params)
    with in_aws_words():
        if earlier := store.earlier(call.region, token, mark):
            return {"customModelDeploymentArn": earlier.arn}
    model, now, deployment_id = _model(call, params["modelArn"]), call.rooms.now(), new_id()
    arn = call.arn("bedrock", f"custom-model-deployment/{deployment_id}")
    deployment = Deployment(
        arn=arn,
        id=deployment_id,
        name=params["modelDeploymentName"],
        region=call.region,
        status="Creating",
        model_arn=model.arn,
        desired_model_arn=model.arn,
        created=now,
        modified=now,
        description=params.get("description"),
    )
    tags, quota = checked(params.get("tags"), "tags", arn), call.rooms.deployments_in_progress
    try:
        with in_aws_words():
            kept = store.add(deployment, token, mark, in_progress=quota, tags=tags)
    except OverQuota as fault:
        raise ServiceQuotaExceededException(
            f"{fault.used} custom model deployments are being created, and {fault.quota} may be at the same time. "
            "Wait until one is Active, or raise the setting deployments_in_progress."
        ) from fault
    call.rooms.wake()
    return {"customModelDeploymentArn": kept.arn}


def get_custom_model_deployment(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What answers now, and how far the deployment and its last update are."""
    found = _find(call, params["customModelDeploymentIdentifier"])
    answer = {
        "customModelDeploymentArn": found.arn,
        "modelDeploymentName": found.name,
        "modelArn": found.model_arn,
        "createdAt": found.created,
        "status": found.status,
        "description": found.description,
        "failureMessage": found.failure,
        "lastUpdatedAt": found.modified,
    }
    if found.update_status is not None:
        answer["updateDetails"] = {"modelArn": found.desired_model_arn, "updateStatus": found.update_status}
    return {name: value for name, value in answer.items() if value is not None}


def list_custom_model_deployments(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One page of the region's deployments."""
    equals = {"status": params.get("statusEquals"), "model_arn": params.get("modelArnEquals")}
    found, following = call.rooms.store.deployments.page(call.region, listing(call, params, equals))
    return page(call, params, "modelDeploymentSummaries", [_summary(item) for item in found], following)


def update_custom_model_deployment(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move it to another custom model; the present one answers until the new one has.

    The operation declares no Conflict, so a state that does not allow it is a ValidationException.
    """
    present = _find(call, params["customModelDeploymentIdentifier"])
    model = _model(call, params["modelArn"])
    with in_aws_words(busy=ValidationException):
        call.rooms.store.deployments.update_asked(present.arn, model.arn, call.rooms.now())
    call.rooms.wake()
    return {"customModelDeploymentArn": present.arn}


def delete_custom_model_deployment(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete a deployment at once; its model stays. Refused while it is being updated."""
    found = _find(call, params["customModelDeploymentIdentifier"])
    with in_aws_words():
        call.rooms.store.deployments.delete(found.arn)
    call.rooms.wake()
    return {}


def _find(call: Call, identifier: str) -> Deployment:
    found = call.rooms.store.deployments.find(call.region, identifier)
    if found is None:
        raise ResourceNotFoundException(f"The custom model deployment '{identifier}' does not exist in {call.region}.")
    return found


def _model(call: Call, arn: str) -> Model:
    """The custom model that is to be deployed."""
    model = find_custom(call, arn)
    if model is None:
        raise ResourceNotFoundException(f"The custom model '{arn}' does not exist in {call.region}.")
    if model.status != "Active":
        raise ValidationException(f"The custom model {arn} is {model.status}; it must be Active to be deployed.")
    row = call.rooms.catalog.find(model.base_model_id)
    if not call.rooms.deploy_all and (row is None or not row.deployable):
        possible = ", ".join(row.long_id for row in call.rooms.catalog.rows if row.deployable)
        raise ValidationException(
            f"The custom model {arn} can't be deployed on demand: its base model is {model.base_model_id}, and the "
            f"setting deployable_models allows {possible}. Provision throughput for it instead."
        )
    return model


def _summary(found: Deployment) -> dict[str, Any]:
    answer = {
        "customModelDeploymentArn": found.arn,
        "customModelDeploymentName": found.name,
        "modelArn": found.model_arn,
        "createdAt": found.created,
        "status": found.status,
        "lastUpdatedAt": found.modified,
        "failureMessage": found.failure,
    }
    return {name: value for name, value in answer.items() if value is not None}
