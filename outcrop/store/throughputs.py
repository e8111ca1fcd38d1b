"""Provisioned throughput: model units promised for one model, and how far the fleet is with them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)

from outcrop.lifecycle import check
from outcrop.records import Throughput, shortened
from outcrop.store.database import Database, Instant, metadata
from outcrop.store.listing import Cursor, Listing
from outcrop.store.lookup import Lookup
from outcrop.store.models import require_model
from outcrop.store.refusals import Busy, Committed, OverQuota
from outcrop.store.resources import rows_of_fields

THROUGHPUTS: Final = Table(
    "throughputs",
    metadata,
    Column("arn", String, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("region", String, nullable=False),
    Column("status", String, nullable=False),
    Column("units", Integer, nullable=False),
    Column("desired_units", Integer, nullable=False),
    Column("model_arn", String, nullable=False, index=True),
    Column("desired_model_arn", String, nullable=False, index=True),
    Column("base_model_id", String, nullable=False),
    Column("made_for", String, nullable=False),
    Column("created", Instant, nullable=False),
    Column("modified", Instant, nullable=False),
    Column("commitment", String),
    Column("commitment_ends", Instant),
    Column("failure", Text),
    Column("token", String),
    Column("fingerprint", String, nullable=False),
    UniqueConstraint("region", "name", name="throughputs_name"),
    UniqueConstraint("region", "token", name="throughputs_token"),
)
ROWS: Final = rows_of_fields(THROUGHPUTS, Throughput, "provisionedModelName")


class ThroughputStore:
    """Every question and change about provisioned throughput; every move is checked against the lifecycle."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lookup = Lookup(database, THROUGHPUTS, Throughput)

    def add(
        self,
        throughput: Throughput,
        token: str | None = None,
        fingerprint: str = "",
        *,
        quota: int | None = None,
        tags: Iterable[Mapping[str, str]] = (),
    ) -> Throughput:
        """Keep a new throughput with its tags.

        The same token with the same fingerprint gives the earlier one. Raises TokenMismatch, NameTaken, Gone (the
        custom model was deleted meanwhile), OverQuota when all units of all regions would pass the quota.
        """
        with self._database.write() as connection:
            if made := ROWS.earlier(connection, throughput.region, token, fingerprint):
                return made
            ROWS.refuse_name(connection, throughput.region, throughput.name)
            require_model(connection, throughput.model_arn)
            used = connection.execute(select(func.coalesce(func.sum(THROUGHPUTS.c.units), 0))).scalar_one()
            if quota is not None and used + throughput.units > quota:
                raise OverQuota(used, quota)
            ROWS.keep(connection, throughput, token, fingerprint, tags)
        return throughput

    def earlier(self, region: str, token: str | None, fingerprint: str) -> Throughput | None:
        """The throughput that this token made before; raises TokenMismatch when it came with another request."""
        with self._database.read() as connection:
            return ROWS.earlier(connection, region, token, fingerprint)

    def find(self, region: str, identifier: str) -> Throughput | None:
        """The throughput of this name or ARN in this region."""
        return self._lookup.find(region, identifier)

    def glance(self, region: str, identifier: str) -> Throughput | None:
        """As `find`, for an event loop; raises MustWait where the database could take long to answer."""
        return self._lookup.glance(region, identifier)

    def by_arn(self, arn: str) -> Throughput | None:
        """The throughput of this ARN, in whatever region."""
        with self._database.read() as connection:
            return ROWS.by_arn(connection, arn)

    def page(self, region: str, listing: Listing) -> tuple[list[Throughput], Cursor | None]:
        """One page of the region's throughputs, and where the next one starts."""
        with self._database.read() as connection:
            return ROWS.page(connection, region, listing)

    def wanted(self) -> list[Throughput]:
        """Everything that the fleet should serve or try to serve, of all regions, oldest first."""
        statement = select(THROUGHPUTS).where(THROUGHPUTS.c.status != "Failed")
        with self._database.read() as connection:
            return ROWS.chosen(connection, statement.order_by(THROUGHPUTS.c.created, THROUGHPUTS.c.arn))

    def in_service(self, arn: str, now: datetime) -> Throughput:
        """An engine really serves what was created; one that is InService stays so. Raises IllegalMove, Gone."""
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            if present.status == "InService":
                return present
            if present.status == "Updating":
                raise Busy(arn, present.status)
            return _move(connection, present, "InService", now)

    def failed(self, arn: str, message: str, now: datetime) -> Throughput:
        """It cannot be served: Failed with a message (cut at 2,048 characters). Raises IllegalMove, Gone."""
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            if present.status == "Failed":
                return present
            return _move(connection, replace(present, failure=shortened(message)), "Failed", now)

    def update_asked(self, arn: str, *, name: str | None, model_arn: str | None, now: datetime) -> Throughput:
        """Take a new name at once, and start moving to another model.

        Raises Busy while it is Creating or Updating, NameTaken, Gone (it, or the model, was deleted meanwhile).
        """
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            if present.status in ("Creating", "Updating"):
                raise Busy(arn, present.status)
            if name is not None and name != present.name:
                ROWS.refuse_name(connection, present.region, name)
                present = replace(present, name=name)
            if model_arn is None or (model_arn == present.model_arn and present.status == "InService"):
                return _move(connection, present, present.status, now)
            require_model(connection, model_arn)
            return _move(connection, replace(present, desired_model_arn=model_arn, failure=None), "Updating", now)

    def updated(self, arn: str, now: datetime) -> Throughput:
        """An engine really serves the desired model: it is the present one now. Raises IllegalMove, Gone."""
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            if present.status == "InService" and present.model_arn == present.desired_model_arn:
                return present
            check("throughput", arn, "Updating", "InService")
            if present.status != "Updating":
                raise Busy(arn, present.status)
            return _move(connection, replace(present, model_arn=present.desired_model_arn), "InService", now)

    def delete(self, arn: str, now: datetime) -> None:
        """Delete a throughput and its tags; raises Busy while it is Updating, Committed inside its term, Gone."""
        with self._database.write() as connection:
            present = ROWS.present(connection, arn)
            if present.status == "Updating":
                raise Busy(arn, present.status)
            if present.commitment_ends is not None and now < present.commitment_ends:
                raise Committed(arn, present.commitment_ends.isoformat(timespec="seconds"))
            ROWS.drop(connection, arn)


def _move(connection: Connection, throughput: Throughput, status: str, now: datetime) -> Throughput:
    check("throughput", throughput.arn, throughput.status, status)
    moved = replace(throughput, status=status, modified=max(now, throughput.modified))
    return ROWS.save(connection, moved)
