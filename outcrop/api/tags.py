"""TagResource, UntagResource, ListTagsForResource: tags of jobs, custom models, throughputs and deployments."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.errors import ResourceNotFoundException, TooManyTagsException, ValidationException
from outcrop.records import Arn
from outcrop.store.refusals import OverQuota

LIMIT: Final = 50
"""Tags of one resource (AWS: "Tags per resource"; the list's shape would take 200)."""
RESERVED: Final = "aws:"


def checked(tags: Sequence[Mapping[str, str]] | None, member: str, resource: str) -> list[dict[str, str]]:
    """A create request's tags, if they may be put on a fresh resource.

    Raises ValidationException for keys that are reserved or come twice, TooManyTagsException above 50.
    """
    wanted = [dict(tag) for tag in tags or ()]
    seen: set[str] = set()
    for place, tag in enumerate(wanted, start=1):
        key = tag["key"]
        if key.lower().startswith(RESERVED):
            rule = f"Member must not begin with '{RESERVED}', which is reserved for AWS"
        elif key in seen:
            rule = "Member must be unique: each key may come once"
        else:
            seen.add(key)
            continue
        raise ValidationException(
            f"1 validation error detected: Value '{key}' at '{member}.{place}.member.key' "
            f"failed to satisfy constraint: {rule}"
        )
    if len(wanted) > LIMIT:
        raise _too_many(resource, len(wanted))
    return wanted


def tag_resource(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add tags, or replace the values of those that are there."""
    arn = _existing(call, params["resourceARN"])
    tags = checked(params["tags"], "tags", arn)
    try:
        call.rooms.store.tags.put(arn, tags, LIMIT)
    except OverQuota as fault:
        raise _too_many(arn, fault.used + len(tags)) from fault
    return {}


def untag_resource(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take tags off; keys that are not there change nothing."""
    call.rooms.store.tags.remove(_existing(call, params["resourceARN"]), params["tagKeys"])
    return {}


def list_tags_for_resource(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """All tags of one resource."""
    return {"tags": call.rooms.store.tags.of(_existing(call, params["resourceARN"]))}


def _too_many(resource: str, count: int) -> TooManyTagsException:
    return TooManyTagsException(
        f"The resource would have {count} tags; it may have at most {LIMIT}.", resourceName=resource
    )


def _existing(call: Call, arn: str) -> str:
    """The ARN, if it names a resource of this region that can be tagged; ResourceNotFoundException otherwise."""
    store = call.rooms.store
    kinds = {
        "model-customization-job": store.jobs.find,
        "custom-model": store.models.find,
        "custom-model-deployment": store.deployments.find,
        "provisioned-model": store.throughputs.find,
    }
    try:
        find = kinds.get(Arn.parse(arn).resource.partition("/")[0])
    except ValueError:
        find = None
    found = find(call.region, arn) if find else None
    if found is None or found.arn != arn:
        raise ResourceNotFoundException(f"The resource {arn} does not exist in {call.region}.")
    return arn
