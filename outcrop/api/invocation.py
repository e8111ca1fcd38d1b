"""What a caller of the runtime names, and which of its options can be had: for InvokeModel, Converse and their kin."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import (
    InternalServerException,
    ModelErrorException,
    ModelNotReadyException,
    ResourceNotFoundException,
    ServiceError,
    ValidationException,
)
from outcrop.records import CUSTOM_MODEL, DEPLOYMENT, PROVISIONED_MODEL, Arn, Deployment, Throughput, kind_of
from outcrop.serve.dialects.family import Terms

UNKNOWN: Final = "The provided model identifier is invalid."
"""AWS's text, full stop included."""

NO_GUARDRAIL: Final = "The guardrail identifier or version provided in the request does not exist."

JSON_TYPES: Final = frozenset({"application/json", "application/octet-stream"})
"""The second is what AWS's JavaScript SDK says of a body whose type nobody named."""


ACCEPTED: Final = frozenset({"application/json", "application/*", "*/*"})


@dataclass(frozen=True, slots=True)
class Invoked:
    """What is asked: the fleet's target and the catalogue row whose dialect it speaks."""

    target: str
    row: FoundationModel
    custom: bool = False
    """Whether the weights were customized, or are the foundation model's own."""


def resolve(call: Call, identifier: str, *, converse: bool = False) -> Invoked:
    """Find what an identifier names: a throughput (ARN or name), a deployment (ARN), or a foundation model on demand.

    converse: a context variant is told in Converse's words, which are not InvokeModel's. Raises AWS's errors:
    ValidationException for an unknown id and for a model that needs throughput, in AWS's words;
    ResourceNotFoundException for a throughput or deployment that is not (or no more) there. What one that is still
    Creating answers is not known (open fact C3): ModelNotReadyException is chosen, since SDKs try it again themselves.
    """
    store, catalog = call.rooms.store, call.rooms.catalog
    find = store.throughputs.find if call.patient else store.throughputs.glance
    throughput = find(call.region, identifier)
    if throughput is not None:
        return _of_throughput(call, throughput)
    kind = kind_of(identifier)
    if kind == PROVISIONED_MODEL:
        raise ResourceNotFoundException(f"The provisioned model {identifier} does not exist in {call.region}.")
    if kind == DEPLOYMENT:
        call.may_wait()
        return _of_deployment(call, store.deployments.find(call.region, identifier), identifier)
    row = catalog.find(identifier)
    if row is not None and _in_region(call, identifier):
        model_id = identifier.rpartition("/")[2]
        if "ON_DEMAND" not in row.inference_types(model_id):
            raise ResourceNotFoundException("Model not found.") if converse else _needs_throughput(identifier)
        return Invoked(row.long_id, row)
    call.may_wait()
    if store.models.find(call.region, identifier) is not None:
        raise _needs_throughput(identifier)
    raise ValidationException(UNKNOWN)


def terms(call: Call, invoked: Invoked) -> Terms:
    """What the model allows within its family."""
    return Terms(invoked.row.inference.max_tokens, invoked.row.id, call.rooms.strict_stop_sequences)


def check_options(params: Mapping[str, Any]) -> None:
    """Refuse what a caller asks for beside the answer and cannot have here; nothing is ignored silently."""
    content_type = str(params.get("contentType") or "application/json")
    if content_type.partition(";")[0].strip().lower() not in JSON_TYPES:
        raise ValidationException(f"The content type {content_type} is not supported. Send application/json.")
    accept = str(params.get("accept") or "*/*")
    ranges = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    if not ranges & ACCEPTED:
        raise ValidationException(f"The accept type {accept} is not supported. Accept application/json.")
    if params.get("guardrailIdentifier"):
        raise ValidationException(NO_GUARDRAIL)
    usual("performanceConfigLatency", params.get("performanceConfigLatency"), "standard")
    usual("serviceTier", params.get("serviceTier"), "default")


def usual(name: str, value: str | None, only: str) -> None:
    """Refuse any value of an option but its usual one."""
    if value is not None and value != only:
        raise ValidationException(f"Value '{value}' at {name} is not supported for this model.")


def _of_throughput(call: Call, throughput: Throughput) -> Invoked:
    if throughput.status == "Creating":
        raise ModelNotReadyException(
            f"The provisioned model {throughput.name} is still being created. Wait until its status is InService."
        )
    if throughput.status == "Failed":
        raise ModelErrorException(
            f"The provisioned model {throughput.name} failed: {throughput.failure}",
            originalStatusCode=424,
            resourceName=throughput.arn,
        )
    return _of_base(
        call, throughput.arn, throughput.base_model_id, custom=kind_of(throughput.model_arn) == CUSTOM_MODEL
    )


def _of_deployment(call: Call, deployment: Deployment | None, identifier: str) -> Invoked:
    # A model that is deployed cannot be deleted, so it goes only after its deployment.
    model = None if deployment is None else call.rooms.store.models.by_arn(deployment.model_arn)
    if deployment is None or model is None:
        raise ResourceNotFoundException(f"The custom model deployment {identifier} does not exist in {call.region}.")
    if deployment.status == "Creating":
        raise ModelNotReadyException(
            f"The custom model deployment {deployment.name} is still being created. Wait until its status is Active."
        )
    if deployment.status == "Failed":
        raise ModelErrorException(
            f"The custom model deployment {deployment.name} failed: {deployment.failure}",
            originalStatusCode=424,
            resourceName=deployment.arn,
        )
    return _of_base(call, deployment.arn, model.base_model_id, custom=True)


def _of_base(call: Call, target: str, base_model_id: str, *, custom: bool) -> Invoked:
    row = call.rooms.catalog.find(base_model_id)
    if row is None:
        raise InternalServerException(f"the catalogue has lost {base_model_id}")
    return Invoked(target, row, custom)


def _in_region(call: Call, identifier: str) -> bool:
    return not identifier.startswith("arn:") or Arn.parse(identifier).region == call.region


def _needs_throughput(identifier: str) -> ServiceError:
    return ValidationException(
        f"Invocation of model ID {identifier} with on-demand throughput isn’t supported. Retry your request with the "
        "ID or ARN of an inference profile that contains this model."
    )
