"""Provisioned Throughput: Create, Get, List, Update and Delete.

A create or an update writes what is wanted and rings; the fleet makes it true and says so in the status.
"""

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.api.models import find_custom, find_foundation, foundation_arn
from outcrop.api.paging import listing, page
from outcrop.api.refusals import fingerprint, in_aws_words
from outcrop.api.tags import checked
from outcrop.errors import ResourceNotFoundException, ServiceQuotaExceededException, ValidationException
from outcrop.records import CUSTOM_MODEL, Throughput, kind_of, new_id
from outcrop.store.refusals import OverQuota

NO_UNITS: Final = "Your account does not currently have {} no commitment model units reserved for {}."
"""AWS's text, as one user saw it."""

MONTHS: Final = {"OneMonth": 1, "SixMonths": 6}


@dataclass(frozen=True, slots=True)
class Served:
    """What a throughput serves."""

    arn: str
    base_model_id: str
    """The long id of the foundation model, also for a custom one."""


def create_provisioned_model_throughput(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Promise model units; the throughput is Creating until an engine really serves the model."""
    store, token, mark = call.rooms.store.throughputs, params.get("clientRequestToken"), fingerprint(params)
    with in_aws_words():
        if earlier := store.earlier(call.region, token, mark):
            return {"provisionedModelArn": earlier.arn}
    served = _served(call, params["modelId"], "modelId")
    units, commitment, now = params["modelUnits"], params.get("commitmentDuration"), call.rooms.now()
    if excess := call.rooms.fleet.excess(served.arn, served.base_model_id, units):
        raise ServiceQuotaExceededException(f"{NO_UNITS.format('these', served.base_model_id)} {excess}.")
    throughput_id = new_id()
    arn = call.arn("bedrock", f"provisioned-model/{throughput_id}")
    throughput = Throughput(
        arn=arn,
        id=throughput_id,
        name=params["provisionedModelName"],
        region=call.region,
        status="Creating",
        units=units,
        desired_units=units,
        model_arn=served.arn,
        desired_model_arn=served.arn,
        base_model_id=served.base_model_id,
        made_for=served.arn,
        created=now,
        modified=now,
        commitment=commitment,
        commitment_ends=_months_after(now, MONTHS[commitment]) if commitment else None,
    )
    tags = checked(params.get("tags"), "tags", arn)
    try:
        with in_aws_words():
            kept = store.add(throughput, token, mark, quota=call.rooms.model_units, tags=tags)
    except OverQuota as fault:
        raise _no_units(fault, units, served) from fault
    call.rooms.wake()
    return {"provisionedModelArn": kept.arn}


def get_provisioned_model_throughput(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was asked, what serves now, and how far it is."""
    throughput = _find(call, params["provisionedModelId"])
    return {**_summary(call, throughput), **({"failureMessage": throughput.failure} if throughput.failure else {})}


def list_provisioned_model_throughputs(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One page of the region's throughputs."""
    equals = {"status": params.get("statusEquals"), "model_arn": _filter(call, params.get("modelArnEquals"))}
    found, following = call.rooms.store.throughputs.page(call.region, listing(call, params, equals))
    return page(call, params, "provisionedModelSummaries", [_summary(call, item) for item in found], following)


def update_provisioned_model_throughput(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rename it, or move it to another model of the same base; the old model answers until the new one is loaded.

    The operation declares no Conflict, so a state that does not allow it is a ValidationException.
    """
    present = _find(call, params["provisionedModelId"])
    wanted = params.get("desiredModelId")
    served = None if wanted is None else _served(call, wanted, "desiredModelId")
    if served is not None:
        _refuse_move(present, served)
    with in_aws_words(busy=ValidationException):
        call.rooms.store.throughputs.update_asked(
            present.arn,
            name=params.get("desiredProvisionedModelName"),
            model_arn=served.arn if served else None,
            now=call.rooms.now(),
        )
    call.rooms.wake()
    return {}


def delete_provisioned_model_throughput(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give the model units back at once; the model stays. Refused while Updating and inside a commitment's term."""
    throughput = _find(call, params["provisionedModelId"])
    with in_aws_words():
        call.rooms.store.throughputs.delete(throughput.arn, call.rooms.now())
    call.rooms.wake()
    return {}


def _find(call: Call, identifier: str) -> Throughput:
    throughput = call.rooms.store.throughputs.find(call.region, identifier)
    if throughput is None:
        raise ResourceNotFoundException(
            f"The provisioned model throughput '{identifier}' does not exist in {call.region}."
        )
    return throughput


def _served(call: Call, identifier: str, member: str) -> Served:
    """What an identifier names: a foundation model (its short id stands for the long one) or a custom model."""
    if found := find_foundation(call, identifier):
        row, model_id = found
        variant = model_id if model_id in row.provisioned_ids else row.long_id
        return Served(foundation_arn(call.region, variant), row.long_id)
    model = find_custom(call, identifier)
    if model is None:
        raise ValidationException(
            f"The provided model identifier is invalid: '{identifier}' at '{member}' names no foundation model and no "
            f"custom model in {call.region}."
        )
    return Served(model.arn, model.base_model_id)


def _refuse_move(present: Throughput, served: Served) -> None:
    """Raise ValidationException unless the throughput may change from its model to this one."""
    if served.arn == present.model_arn:
        return
    start = f"The provisioned model throughput {present.arn} can't move to {served.arn}: "
    if kind_of(present.made_for) != CUSTOM_MODEL:
        raise ValidationException(f"{start}it was made for a foundation model, and that can't be changed.")
    if served.base_model_id != present.base_model_id:
        raise ValidationException(
            f"{start}that is based on {served.base_model_id}; it must be {present.base_model_id} itself or a custom "
            "model of it."
        )


def _no_units(fault: OverQuota, units: int, served: Served) -> ServiceQuotaExceededException:
    missing = "any" if fault.used >= fault.quota else str(units)
    return ServiceQuotaExceededException(
        f"{NO_UNITS.format(missing, served.base_model_id)} {fault.used} of {fault.quota} model units are in use: "
        "delete a provisioned model throughput, or raise the setting model_units."
    )


def _filter(call: Call, arn: str | None) -> str | None:
    """modelArnEquals with a foundation model's short id spelled as throughputs carry it."""
    found = find_foundation(call, arn) if arn is not None else None
    if found is None or found[1] in found[0].provisioned_ids:
        return arn
    return foundation_arn(call.region, found[0].long_id)


def _months_after(start: datetime, months: int) -> datetime:
    """The same day and time some months later, or that month's last day."""
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    return start.replace(year=year, month=month, day=min(start.day, calendar.monthrange(year, month)[1]))


def _summary(call: Call, throughput: Throughput) -> dict[str, Any]:
    answer = {
        "provisionedModelName": throughput.name,
        "provisionedModelArn": throughput.arn,
        "modelArn": throughput.model_arn,
        "desiredModelArn": throughput.desired_model_arn,
        "foundationModelArn": foundation_arn(call.region, throughput.base_model_id),
        "modelUnits": throughput.units,
        "desiredModelUnits": throughput.desired_units,
        "status": throughput.status,
        "commitmentDuration": throughput.commitment,
        "commitmentExpirationTime": throughput.commitment_ends,
        "creationTime": throughput.created,
        "lastModifiedTime": throughput.modified,
    }
    return {name: value for name, value in answer.items() if value is not None}
