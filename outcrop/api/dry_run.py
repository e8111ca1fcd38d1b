"""A create that creates nothing: the header that asks for it, and the answer with what the job would do.

Every check of a real create comes first, with the same refusals. Knows the header and the answer's form; what a job
would do is somebody else's to say (`Rooms.rehearse`).
"""

from collections.abc import Mapping
from typing import Final

from outcrop.api.call import Call
from outcrop.api.refusals import in_aws_words
from outcrop.errors import ValidationException
from outcrop.records import Job
from outcrop.wire.gateway import Reply

HEADER: Final = "x-outcrop-dry-run"
MEMBER: Final = "outcropDryRun"
"""Beside AWS's members in the answer; wire/spec_patches.json names it."""


OPERATION: Final = "CreateModelCustomizationJob"


def runs_aside(operation: str, headers: Mapping[str, str]) -> bool:
    """Whether a request is to be rehearsed: that takes long, and fetches its data from this very server."""
    return operation == OPERATION and HEADER in headers


def asked(call: Call) -> bool:
    """Whether the request is to be rehearsed only; raises ValidationException for a header that does not say true."""
    value = call.signed.headers.get(HEADER)
    if value is None:
        return False
    if value.strip().lower() != "true":
        # Whoever meant false or 1 must not get the other thing.
        raise ValidationException(
            f"1 validation error detected: Value '{value[:64]}' at header '{HEADER}' failed to satisfy constraint: "
            "Member must be true; leave the header out to create the job"
        )
    return True


def rehearse(call: Call, job: Job, token: str | None, fingerprint: str) -> Reply:
    """Answer 200 with the report on a job that every check of a create let through; the job is kept nowhere."""
    with in_aws_words():
        # A token that came before with the same request would get the earlier job, whatever its names.
        if call.rooms.store.jobs.earlier(job.region, token, fingerprint) is None:
            call.rooms.store.jobs.require_room(job)
    if call.rooms.rehearse is None:
        raise ValidationException(f"The header '{HEADER}' is not supported by this server.")
    return Reply({MEMBER: call.rooms.rehearse(job)}, status=200)
