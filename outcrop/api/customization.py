"""CreateModelCustomizationJob and its Get, List and Stop.

A create checks everything that can be known without reading the data, writes one row and rings; it never runs anything.
The data themselves are read with the role's rights, by the job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from outcrop.api import dry_run
from outcrop.api.call import Call
from outcrop.api.models import find_custom, find_foundation, foundation_arn
from outcrop.api.paging import listing, page
from outcrop.api.refusals import fingerprint, in_aws_words
from outcrop.api.tags import checked
from outcrop.catalog.origin import origin_of_custom
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import ConflictException, OutcropError, ResourceNotFoundException, ValidationException
from outcrop.lifecycle import IllegalMove
from outcrop.records import VALIDATION_FILES, Job, new_id
from outcrop.wire.gateway import Reply

SERVICE: Final = "bedrock.amazonaws.com"
NOT_A_FILE: Final = (
    "Invalid {kind} input data configuration.Check the input data S3 Uris"
    "(Uri should be a file, not a directory) and retry request"
)
UNSUPPORTED: Final = {
    "customModelKmsKeyId": "weights are kept in the data directory as they are; encrypt its disk instead",
    "vpcConfig": "jobs run on this machine, in no VPC",
    "customizationConfig": "it belongs to customization types that are not supported yet",
}
"""Members that promise what would not happen here: refused rather than echoed."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a job starts from."""

    row: FoundationModel
    arn: str
    """The foundation model's, with its long id, or the custom model's."""


def create_model_customization_job(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any] | Reply:
    """Check the request and keep the job; the scheduler finds it. A dry run keeps nothing and answers with a report."""
    store, token, mark = call.rooms.store.jobs, params.get("clientRequestToken"), fingerprint(params)
    rehearsed = dry_run.asked(call)
    with in_aws_words():
        if (earlier := store.earlier(call.region, token, mark)) and not rehearsed:
            return {"jobArn": earlier.arn}
    start = _start(call, params["baseModelIdentifier"])
    job_id = new_id()
    arn = call.arn("bedrock", f"model-customization-job/{start.row.long_id}/{job_id}")
    request = _request(call, params, start, arn)
    call.rooms.identity.check_assumable(
        params["roleArn"], service=SERVICE, source_arn=arn, source_account=call.rooms.account
    )
    now = call.rooms.now()
    job = Job(
        arn=arn,
        id=job_id,
        name=params["jobName"],
        region=call.region,
        status="InProgress",
        base_model_id=start.row.long_id,
        request=request,
        created=now,
        modified=now,
    )
    if rehearsed:
        return dry_run.rehearse(call, job, token, mark)
    with in_aws_words():
        kept = store.add(job, token, mark)
    call.rooms.wake()
    return {"jobArn": kept.arn}


def get_model_customization_job(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request as it was kept, and how far the job is; what only some states have is left out of the others."""
    job = _find(call, params["jobIdentifier"])
    request, done = job.request, job.status == "Completed"
    answer = {
        "jobArn": job.arn,
        "jobName": job.name,
        "outputModelName": request["customModelName"],
        "outputModelArn": job.model_arn,
        "clientRequestToken": request.get("clientRequestToken"),
        "roleArn": request["roleArn"],
        "status": job.status,
        "statusDetails": _details(job),
        "failureMessage": job.failure,
        "creationTime": job.created,
        "lastModifiedTime": job.modified,
        "endTime": job.ended,
        "baseModelArn": request["baseModelIdentifier"],
        "hyperParameters": request["hyperParameters"],
        "trainingDataConfig": request["trainingDataConfig"],
        "validationDataConfig": request["validationDataConfig"],
        "outputDataConfig": request["outputDataConfig"],
        "customizationType": request["customizationType"],
        "trainingMetrics": job.metrics.get("trainingMetrics") if done else None,
        "validationMetrics": job.metrics.get("validationMetrics", []) if done else None,
    }
    return {name: value for name, value in answer.items() if value is not None}


def list_model_customization_jobs(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """One page of the region's jobs."""
    wanted = listing(call, params, {"status": params.get("statusEquals")})
    jobs, following = call.rooms.store.jobs.page(call.region, wanted)
    return page(call, params, "modelCustomizationJobSummaries", [_summary(job) for job in jobs], following)


def stop_model_customization_job(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ask a job to stop. Asking again while it is Stopping is no error; a job that is over gives ConflictException."""
    job = _find(call, params["jobIdentifier"])
    try:
        call.rooms.store.jobs.ask_stop(job.arn, call.rooms.now())
    except IllegalMove as fault:
        raise ConflictException(
            f"The model customization job {job.arn} is {fault.start} and can't be stopped: "
            "only a job that is InProgress can be."
        ) from fault
    call.rooms.wake()
    return {}


def _find(call: Call, identifier: str) -> Job:
    job = call.rooms.store.jobs.find(call.region, identifier)
    if job is None:
        raise ResourceNotFoundException(f"The model customization job '{identifier}' does not exist in {call.region}.")
    return job


def _start(call: Call, identifier: str) -> Start:
    """What baseModelIdentifier names: a foundation model by any id or ARN, or a custom model of this region.

    A custom model is customized by the rules of the foundation model that it came from.
    """
    if found := find_foundation(call, identifier):
        return Start(found[0], foundation_arn(call.region, found[0].long_id))
    model = find_custom(call, identifier)
    if model is None:
        raise ValidationException(
            f"The provided model identifier is invalid: '{identifier}' at 'baseModelIdentifier' names no foundation "
            f"model and no custom model in {call.region}."
        )
    row = call.rooms.catalog.find(model.base_model_id)
    if row is None:
        raise ValidationException(
            f"'{identifier}' at 'baseModelIdentifier' was customized from {model.base_model_id}, which the catalogue "
            "has no more: without its row nobody knows how it may be customized."
        )
    if model.status != "Active":
        raise ValidationException(
            f"'{identifier}' at 'baseModelIdentifier' is {model.status}: only an Active custom model can be customized."
        )
    try:
        origin_of_custom(call.rooms.catalog, model, call.rooms.models)
    except OutcropError as fault:
        raise ValidationException(f"'{identifier}' at 'baseModelIdentifier' has no weights here: {fault}") from fault
    return Start(row, model.arn)


def _request(call: Call, params: Mapping[str, Any], start: Start, arn: str) -> dict[str, Any]:
    """The document that is kept: the validated request with its base resolved and every default filled in."""
    for member, reason in UNSUPPORTED.items():
        if params.get(member) is not None:
            raise ValidationException(f"'{member}' is not supported: {reason}.")
    kind = params.get("customizationType") or "FINE_TUNING"
    if kind not in start.row.customizations:
        supported = ", ".join(start.row.customizations) or "none"
        raise ValidationException(
            f"1 validation error detected: Value '{kind}' at 'customizationType' failed to satisfy constraint: "
            f"{start.row.long_id} can be customized by [{supported}]"
        )
    kept = {
        **params,
        "baseModelIdentifier": start.arn,
        "customizationType": kind,
        "trainingDataConfig": _training(params["trainingDataConfig"]),
        "validationDataConfig": {"validators": _validators(params.get("validationDataConfig") or {})},
        "hyperParameters": call.rooms.catalog.hyperparameters(start.row, kind, params.get("hyperParameters") or {}),
        "jobTags": checked(params.get("jobTags"), "jobTags", arn),
        "customModelTags": checked(params.get("customModelTags"), "customModelTags", arn),
    }
    return {name: value for name, value in kept.items() if value is not None}


def _training(config: Mapping[str, Any]) -> dict[str, str]:
    if config.get("invocationLogsConfig") is not None:
        raise ValidationException(
            "'trainingDataConfig.invocationLogsConfig' is not supported: it belongs to the customization type "
            "DISTILLATION. Give 'trainingDataConfig.s3Uri'."
        )
    uri = config.get("s3Uri")
    if uri is None:
        raise ValidationException(
            "1 validation error detected: Value at 'trainingDataConfig.s3Uri' failed to satisfy constraint: "
            "Member must not be null"
        )
    return {"s3Uri": _file(uri, "training")}


def _validators(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Validators in their order; the documents' own {"s3Uri": …} is one validator."""
    uris = [validator["s3Uri"] for validator in config.get("validators") or ()]
    if (single := config.get("s3Uri")) is not None:
        if uris:
            raise ValidationException("'validationDataConfig' may have either 's3Uri' or 'validators', not both.")
        uris = [single]
    if len(uris) > VALIDATION_FILES:
        raise ValidationException(
            f"1 validation error detected: Value at 'validationDataConfig.validators' failed to satisfy constraint: "
            f"Member must have length less than or equal to {VALIDATION_FILES}"
        )
    return [{"s3Uri": _file(uri, "validation")} for uri in uris]


def _file(uri: str, kind: str) -> str:
    """An s3:// URI that can name an object: it has a key, and the key does not end in a slash."""
    _, _, key = uri.removeprefix("s3://").partition("/")
    if not key or key.endswith("/"):
        raise ValidationException(NOT_A_FILE.format(kind=kind))
    return uri


def _details(job: Job) -> dict[str, dict[str, Any]]:
    """statusDetails, with instants for the wire."""
    return {
        part: {name: value if name == "status" else datetime.fromisoformat(value) for name, value in details.items()}
        for part, details in job.parts.items()
    }


def _summary(job: Job) -> dict[str, Any]:
    answer = {
        "jobArn": job.arn,
        "baseModelArn": job.request["baseModelIdentifier"],
        "jobName": job.name,
        "status": job.status,
        "statusDetails": _details(job),
        "lastModifiedTime": job.modified,
        "creationTime": job.created,
        "endTime": job.ended,
        "customModelArn": job.model_arn,
        "customModelName": job.request["customModelName"],
        "customizationType": job.request["customizationType"],
    }
    return {name: value for name, value in answer.items() if value is not None}
