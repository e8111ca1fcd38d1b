"""Model customization jobs: what was asked for, how far each is, and the one transaction that ends it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    Row,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
)

from outcrop.lifecycle import JOB, JOB_PART, IllegalMove, check
from outcrop.records import Job, Model, shortened
from outcrop.store.database import Database, Instant, metadata
from outcrop.store.listing import Cursor, Listing
from outcrop.store.models import MODEL_NAMES, MODELS, model_row, require_model
from outcrop.store.refusals import NameTaken
from outcrop.store.resources import Rows
from outcrop.store.tags import TAGS, tag_rows

Part = Literal["validationDetails", "dataProcessingDetails", "trainingDetails"]
PARTS: Final[tuple[Part, ...]] = ("validationDetails", "dataProcessingDetails", "trainingDetails")
UNFINISHED: Final = ("InProgress", "Stopping")
KEPT: Final = ("hyperParameters", "trainingDataConfig", "validationDataConfig", "outputDataConfig", "customizationType")
"""Members of the request that GetCustomModel answers with."""

JOBS: Final = Table(
    "customization_jobs",
    metadata,
    Column("arn", String, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("region", String, nullable=False),
    Column("status", String, nullable=False, index=True),
    Column("base_model_id", String, nullable=False),
    Column("base_arn", String, nullable=False),
    Column("request", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("modified", Instant, nullable=False),
    Column("ended", Instant),
    Column("parts", JSON, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("failure", Text),
    Column("model_arn", String),
    Column("handle", String),
    Column("token", String),
    Column("fingerprint", String, nullable=False),
    # Jobs are never deleted, so a name and a token stay taken for ever.
    UniqueConstraint("region", "name", name="customization_jobs_name"),
    UniqueConstraint("region", "token", name="customization_jobs_token"),
)


def not_started() -> dict[str, dict[str, Any]]:
    """statusDetails of a fresh job."""
    return {part: {"status": "NotStarted"} for part in PARTS}


class JobStore:
    """Every question and change about customization jobs; every move is checked against the lifecycle."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: Job, token: str | None, fingerprint: str) -> Job:
        """Keep a new job with its tags and its hold on the custom model's name.

        The same token with the same fingerprint gives the earlier job. Raises TokenMismatch, NameTaken (member jobName
        or customModelName), Gone when the custom model that it starts from was deleted meanwhile.
        """
        model_name = job.request["customModelName"]
        with self._database.write() as connection:
            if made := ROWS.earlier(connection, job.region, token, fingerprint):
                return made
            _require_room(connection, job)
            job = replace(job, parts=job.parts or not_started())
            ROWS.keep(connection, job, token, fingerprint, job.request.get("jobTags", ()))
            connection.execute(insert(MODEL_NAMES).values(region=job.region, name=model_name, holder=job.arn))
        return job

    def require_room(self, job: Job) -> None:
        """Raise what `add` would raise over the names and the parent of a new job, and keep nothing."""
        with self._database.read() as connection:
            _require_room(connection, job)

    def earlier(self, region: str, token: str | None, fingerprint: str) -> Job | None:
        """The job that this token made before; raises TokenMismatch when it came with another request."""
        with self._database.read() as connection:
            return ROWS.earlier(connection, region, token, fingerprint)

    def find(self, region: str, identifier: str) -> Job | None:
        """The job of this name or ARN in this region."""
        with self._database.read() as connection:
            return ROWS.find(connection, region, identifier)

    def by_arn(self, arn: str) -> Job | None:
        """The job of this ARN, in whatever region."""
        with self._database.read() as connection:
            return ROWS.by_arn(connection, arn)

    def named(self, identifier: str) -> list[Job]:
        """The jobs of this name, ARN or id, of all regions, newest first."""
        wanted = (JOBS.c.arn == identifier) | (JOBS.c.name == identifier) | (JOBS.c.id == identifier)
        with self._database.read() as connection:
            return ROWS.chosen(connection, select(JOBS).where(wanted).order_by(JOBS.c.created.desc()))

    def names(self) -> list[str]:
        """Names of all jobs of all regions, newest first."""
        with self._database.read() as connection:
            return list(connection.execute(select(JOBS.c.name).order_by(JOBS.c.created.desc())).scalars())

    def newest(self) -> Job | None:
        """The newest job that is not over, of all regions; else the newest of all."""
        order = JOBS.c.status.in_(UNFINISHED).desc(), JOBS.c.created.desc(), JOBS.c.arn
        with self._database.read() as connection:
            row = connection.execute(select(JOBS).order_by(*order).limit(1)).first()
        return _job(row) if row else None

    def page(self, region: str, listing: Listing) -> tuple[list[Job], Cursor | None]:
        """One page of the region's jobs, and where the next one starts."""
        with self._database.read() as connection:
            return ROWS.page(connection, region, listing)

    def unfinished(self) -> list[Job]:
        """Jobs InProgress or Stopping in all regions, oldest first."""
        statement = select(JOBS).where(JOBS.c.status.in_(UNFINISHED)).order_by(JOBS.c.created, JOBS.c.arn)
        with self._database.read() as connection:
            return ROWS.chosen(connection, statement)

    def over(self) -> set[str]:
        """Ids of all jobs of all regions that have ended."""
        with self._database.read() as connection:
            return set(connection.execute(select(JOBS.c.id).where(JOBS.c.status.not_in(UNFINISHED))).scalars())

    def started(self, arn: str, handle: str | None, now: datetime) -> Job:
        """Remember the executor's handle of the job's child (None: there is none); IllegalMove when the job is over."""
        with self._database.write() as connection:
            job = ROWS.present(connection, arn)
            if job.status not in UNFINISHED:
                raise IllegalMove("job", arn, job.status, "InProgress")
            return ROWS.save(connection, replace(job, handle=handle, modified=_later(job, now)))

    def part(self, arn: str, part: Part, status: str, now: datetime) -> Job:
        """Move one part of statusDetails.

        Events are read again after a restart: the news that a part began, when it is further already, changes nothing.
        """
        with self._database.write() as connection:
            job = ROWS.present(connection, arn)
            present = job.parts[part]["status"]
            if present == status or (status == "InProgress" and present != "NotStarted"):
                return job
            if job.status not in UNFINISHED:
                raise IllegalMove("job part", f"{arn} {part}", job.status, status)
            check("job part", f"{arn} {part}", present, status)
            return ROWS.save(connection, replace(_moved(job, {part: status}, now), modified=_later(job, now)))

    def fail(self, arn: str, message: str, now: datetime) -> Job:
        """End the job as Failed with a message (cut at 2,048 characters); parts under way fail with it."""
        with self._database.write() as connection:
            job = ROWS.present(connection, arn)
            if job.status == "Failed":
                return job
            job = _ended(job, "Failed", dict.fromkeys(_under_way(job), "Failed"), now)
            _release_name(connection, job)
            return ROWS.save(connection, replace(job, failure=shortened(message)))

    def ask_stop(self, arn: str, now: datetime) -> Job:
        """Move to Stopping; a job that is Stopping stays so; raises IllegalMove when it is over."""
        with self._database.write() as connection:
            job = ROWS.present(connection, arn)
            if job.status == "Stopping":
                return job
            check("job", arn, job.status, "Stopping")
            job = _moved(job, dict.fromkeys(_under_way(job), "Stopping"), now)
            return ROWS.save(connection, replace(job, status="Stopping", modified=_later(job, now)))

    def stopped(self, arn: str, now: datetime, metrics: Mapping[str, Any]) -> Job:
        """End the job as Stopped; every part that is not over stops with it, and its model's name is free again."""
        with self._database.write() as connection:
            job = ROWS.present(connection, arn)
            if job.status == "Stopped":
                return job
            over = {part: "Stopped" for part in PARTS if JOB_PART[job.parts[part]["status"]]}
            job = _ended(job, "Stopped", over, now)
            _release_name(connection, job)
            return ROWS.save(connection, replace(job, metrics=dict(metrics)))

    def complete(self, arn: str, model: Model, metrics: Mapping[str, Any], now: datetime) -> Job:
        """End the job as Completed and write its custom model with its tags, all or nothing; once.

        The model's document gets the members that come from the job; those that it brings itself stay.
        """
        with self._database.write() as connection:
            job = ROWS.present(connection, arn)
            if job.status == "Completed":
                return job
            under_way = [part for part in PARTS if JOB_PART[job.parts[part]["status"]]]
            # A part whose end was not told (the server died between two events) is over all the same: the job is done.
            job = _moved(job, {part: "InProgress" for part in under_way if _is(job, part, "NotStarted")}, now)
            job = _ended(job, "Completed", dict.fromkeys(under_way, "Completed"), now)
            job = replace(job, metrics=dict(metrics), model_arn=model.arn)
            document = _document(job, metrics) | dict(model.document)
            connection.execute(insert(MODELS).values(model_row(replace(model, document=document))))
            if tags := tag_rows(model.arn, job.request.get("customModelTags", ())):
                connection.execute(insert(TAGS), tags)
            return ROWS.save(connection, job)


def _require_room(connection: Connection, job: Job) -> None:
    """Raise NameTaken or Gone where a new job cannot be kept."""
    ROWS.refuse_name(connection, job.region, job.name)
    model_name = job.request["customModelName"]
    holds = MODEL_NAMES.c.region == job.region, MODEL_NAMES.c.name == model_name
    if connection.execute(select(MODEL_NAMES).where(*holds)).first():
        raise NameTaken("customModelName", model_name)
    base_arn = job.request["baseModelIdentifier"]
    require_model(connection, base_arn)


def _release_name(connection: Connection, job: Job) -> None:
    connection.execute(delete(MODEL_NAMES).where(MODEL_NAMES.c.holder == job.arn))


def _is(job: Job, part: str, status: str) -> bool:
    return bool(job.parts[part]["status"] == status)


def _under_way(job: Job) -> list[Part]:
    return [part for part in PARTS if job.parts[part]["status"] in ("InProgress", "Stopping")]


def _later(job: Job, now: datetime) -> datetime:
    """The instant of a change: never before the last one, though a clock may be set back."""
    return max(now, job.modified)


def _ended(job: Job, status: str, parts: Mapping[Part, str], now: datetime) -> Job:
    """The job in a final state, its parts with it."""
    check("job", job.arn, job.status, status)
    assert not JOB[status]
    now = _later(job, now)
    return replace(_moved(job, parts, now), status=status, ended=now, modified=now)


def _moved(job: Job, parts: Mapping[Part, str], now: datetime) -> Job:
    """The job with parts in new states, their instants kept as the wire shows them."""
    instant = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    details = dict(job.parts)
    for part, status in parts.items():
        check("job part", f"{job.arn} {part}", details[part]["status"], status)
        began = details[part].get("creationTime", instant)
        details[part] = {"status": status, "creationTime": began, "lastModifiedTime": instant}
    return replace(job, parts=details)


def _document(job: Job, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """GetCustomModel's members that come from the job."""
    kept = {name: job.request[name] for name in KEPT if name in job.request}
    told = {name: metrics[name] for name in ("trainingMetrics", "validationMetrics") if name in metrics}
    return {"jobName": job.name, "baseModelArn": job.request["baseModelIdentifier"], **kept, **told}


def _row(job: Job) -> dict[str, Any]:
    return {
        "arn": job.arn,
        "id": job.id,
        "name": job.name,
        "region": job.region,
        "status": job.status,
        "base_model_id": job.base_model_id,
        "base_arn": job.request["baseModelIdentifier"],
        "request": dict(job.request),
        "created": job.created,
        "modified": job.modified,
        "ended": job.ended,
        "parts": {name: dict(part) for name, part in job.parts.items()},
        "metrics": dict(job.metrics),
        "failure": job.failure,
        "model_arn": job.model_arn,
        "handle": job.handle,
    }


def _job(row: Row[Any]) -> Job:
    return Job(
        arn=row.arn,
        id=row.id,
        name=row.name,
        region=row.region,
        status=row.status,
        base_model_id=row.base_model_id,
        request=row.request,
        created=row.created,
        modified=row.modified,
        ended=row.ended,
        parts=row.parts,
        metrics=row.metrics,
        failure=row.failure,
        model_arn=row.model_arn,
        handle=row.handle,
    )


ROWS: Final = Rows(JOBS, "jobName", _job, _row)
