"""The store's refusals in AWS's words, all at one place.

Only the sentence about job names is AWS's own for certain (clients match it); where AWS's text or code is unknown the
sentence is ours and names value, member and rule. CreateProvisionedModelThroughput and Update declare no Conflict, so a
taken name or token is a ValidationException everywhere.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from outcrop.errors import (
    ConflictException,
    ResourceNotFoundException,
    ServiceError,
    ValidationException,
)
from outcrop.store.refusals import Busy, Committed, Gone, InUse, NameTaken, TokenMismatch

TAKEN: Final = {
    "jobName": "The provided job name is currently in use.",
    "customModelName": "The provided custom model name is currently in use: '{name}' at 'customModelName'.",
    "modelDeploymentName": "The provided model deployment name is currently in use: '{name}'.",
    "provisionedModelName": "The provided provisioned model name is currently in use: '{name}'.",
}


def fingerprint(params: Mapping[str, Any]) -> str:
    """What makes two requests the same request: all their members but the idempotency token."""
    told = {name: value for name, value in params.items() if name != "clientRequestToken"}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def in_aws_words(busy: type[ServiceError] = ConflictException) -> Iterator[None]:
    """Turn what the store refuses inside into the exception that the caller gets.

    busy: for a state that does not allow it; operations that declare no Conflict give ValidationException.
    """
    try:
        yield
    except NameTaken as fault:
        raise ValidationException(TAKEN[fault.member].format(name=fault.name)) from fault
    except TokenMismatch as fault:
        raise ValidationException(
            f"Value '{fault.token}' at 'clientRequestToken' failed to satisfy constraint: the token was used before, "
            "with other parameters. Send the same request again, or a new token."
        ) from fault
    except Gone as fault:
        raise ResourceNotFoundException(f"The resource {fault.arn} does not exist.") from fault
    except InUse as fault:
        raise ConflictException(
            f"{fault.arn} is in use by '{fault.name}' ({fault.user}) and can't be deleted. Delete or stop that first."
        ) from fault
    except Committed as fault:
        raise ConflictException(f"{fault.arn} can't be deleted before its commitment ends, at {fault.ends}.") from fault
    except Busy as fault:
        raise busy(f"{fault.arn} is {fault.status}: wait until it is {fault.until}.") from fault
