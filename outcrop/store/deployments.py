"""Custom model deployments: custom models served on demand, and how far the fleet is with them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)

from outcrop.lifecycle import check
from outcrop.records import Deployment, shortened
from outcrop.store.database import Database, Instant, metadata
from outcrop.store.listing import Cursor, Listing
from outcrop.store.lookup import Lookup
from outcrop.store.models import require_model
from outcrop.store.refusals import Busy, OverQuota
from outcrop.store.resources import rows_of_fields

DEPLOYMENTS: Final = Table(
    "deployments",
    metadata,
    Column("arn", String, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("region", String, nullable=False),
    Column("status", String, nullable=False),
    Column("model_arn", String, nullable=False, index=True),
    Column("desired_model_arn", String, nullable=False, index=True),
    Column("created", Instant, nullable=False),
    Column("modified", Instant, nullable=False),
    Column("description", Text),
    Column("update_status", String),
    Column("failure", Text),
    Column("token", String),
    Column("fingerprint", String, nullable=False),
    UniqueConstraint("region", "name", name="deployments_name"),
    UniqueConstraint("region", "token", name="deployments_token"),
)
ROWS: Final = rows_of_fields(DEPLOYMENTS, Deployment, "modelDeploymentName")


class DeploymentStore:
    """Every question and change about deployments; every move is checked against the lifecycle."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lookup = Lookup(database, DEPLOYMENTS, Deployment)

    def add(
        self,
        deployment: Deployment,
        token: str | None = None,
        fingerprint: str = "",
        *,
        in_progress: int | None = None,
        tags: Iterable[Mapping[str, str]] = (),
    ) -> Deployment:
        """Keep a new deployment with its tags.

        The same token with the same fingerprint gives the earlier one. Raises TokenMismatch, NameTaken, Gone (the
        custom model was deleted meanwhile), OverQuota when more than `in_progress` of all regions would be Creating.
        """
        with self._database.write() as connection:
            if made := ROWS.earlier(connection, deployment.region, token, fingerprint):
                return made
            ROWS.refuse_name(connection, deployment.region, deployment.name)
            require_model(connection, deployment.model_arn)
            creating = connection.execute(select(func.count()).where(DEPLOYMENTS.c.status == "Creating")).scalar_one()
            if in_progress is not None and creating >= in_progress:
                raise OverQuota(creating, in_progress)
            ROWS.keep(connection, deployment, token, fingerprint, tags)
        return deployment

    def earlier(self, region: str, token: str | None, fingerprint: str) -> Deployment | None:
        """The deployment that this token made before; raises TokenMismatch when it came with another request."""
        with self._database.read() as connection:
            return ROWS.earlier(connection, region, token, fingerprint)

    def find(self, region: str, identifier: str) -> Deployment | None:
        """The deployment of this name or ARN in this region."""
        return self._lookup.find(region, identifier)

    def by_arn(self, arn: str) -> Deployment | None:
        """The deployment of this ARN, in whatever region."""
        with self._database.read() as connection:
            return ROWS.by_arn(connection, arn)

    def page(self, region: str, listing: Listing) -> tuple[list[Deployment], Cursor | None]:
        """One page of the region's deployments, and where the next one starts."""
        with self._database.read() as connection:
            return ROWS.page(connection, region, listing)

    def wanted(self, asked: Iterable[str]) -> list[Deployment]:
        """What the fleet should prove, and those of the ARNs in `asked` that are there, oldest first."""
        columns = DEPLOYMENTS.c
        settling = (columns.status == "Creating") | (columns.update_status == "Updating")
        statement = select(DEPLOYMENTS).where(settling | columns.arn.in_(list(asked)))
        with self._database.read() as connection:
            return ROWS.chosen(connection, statement.order_by(columns.created, columns.arn))

    def proven(self, arn: str, now: datetime) -> Deployment:
        """The model that it waited for really answers: Active, and an update completed. Raises IllegalMove, Gone."""
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            if present.update_status == "Updating":
                moved = replace(present, model_arn=present.desired_model_arn, failure=None)
                return _move(connection, moved, "Active", "UpdateCompleted", now)
            return present if present.status == "Active" else _move(connection, present, "Active", None, now)

    def failed(self, arn: str, message: str, now: datetime) -> Deployment:
        """What it waited for cannot be served; an update leaves the old model in its place. Raises IllegalMove, Gone.

        message: cut at 2,048 characters.
        """
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            told = replace(present, failure=shortened(message))
            if present.update_status == "Updating":
                return _move(connection, told, present.status, "UpdateFailed", now)
            return present if present.status == "Failed" else _move(connection, told, "Failed", None, now)

    def update_asked(self, arn: str, model_arn: str, now: datetime) -> Deployment:
        """Start moving to another model; the present one answers meanwhile.

        Raises Busy while it is Creating or being updated, Gone (it, or the model, was deleted meanwhile).
        """
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            _refuse_busy(present, "Creating", "Updating")
            require_model(connection, model_arn)
            moved = replace(present, desired_model_arn=model_arn, failure=None)
            return _move(connection, moved, present.status, "Updating", now)

    def delete(self, arn: str) -> None:
        """Delete a deployment and its tags; raises Busy while it is being updated, Gone."""
        with self._database.write() as connection:
            _refuse_busy(ROWS.present(connection, arn), "Updating")
            ROWS.drop(connection, arn)


def _refuse_busy(present: Deployment, *states: str) -> None:
    for state in states:
        if state in (present.status, present.update_status):
            raise Busy(present.arn, state, "Active and no update is under way")


def _move(
    connection: Connection, deployment: Deployment, status: str, update_status: str | None, now: datetime
) -> Deployment:
    check("deployment", deployment.arn, deployment.status, status)
    if update_status is not None and deployment.update_status is not None:
        check("deployment update", deployment.arn, deployment.update_status, update_status)
    moved = replace(deployment, status=status, update_status=update_status, modified=max(now, deployment.modified))
    return ROWS.save(connection, moved)
