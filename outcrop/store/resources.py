"""What jobs, throughputs and deployments share as rows: found by name or ARN, made once for a token, changed, dropped.

Knows columns that the three tables share (arn, region, name, token, fingerprint); nothing of what their rows mean.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection, Row, Select, Table, delete, insert, select, update

from outcrop.store.listing import Cursor, Listing, cut, page_of
from outcrop.store.refusals import Gone, NameTaken, TokenMismatch
from outcrop.store.tags import TAGS, tag_rows


class Resource(Protocol):
    """A record of one of the tables."""

    @property
    def arn(self) -> str:
        """Its key."""
        ...

    @property
    def name(self) -> str:
        """Unique in its region."""
        ...

    @property
    def region(self) -> str:
        """Where it was made."""
        ...


Record = TypeVar("Record", bound=Resource)


@dataclass(frozen=True, slots=True)
class Rows(Generic[Record]):
    """The rows of one table as records; every verb works inside its caller's transaction."""

    table: Table
    member: str
    """What a request calls the name."""
    record: Callable[[Row[Any]], Record]
    columns: Callable[[Record], dict[str, Any]]

    def by_arn(self, connection: Connection, arn: str) -> Record | None:
        """The record of this ARN, in whatever region."""
        return self._first(connection, select(self.table).where(self.table.c.arn == arn))

    def find(self, connection: Connection, region: str, identifier: str) -> Record | None:
        """The record of this name or ARN in this region."""
        columns = self.table.c
        wanted = columns.arn == identifier if identifier.startswith("arn:") else columns.name == identifier
        return self._first(connection, select(self.table).where(columns.region == region, wanted))

    def chosen(self, connection: Connection, statement: Select[Any]) -> list[Record]:
        """The records of a statement over the whole table."""
        return [self.record(row) for row in connection.execute(statement)]

    def page(self, connection: Connection, region: str, listing: Listing) -> tuple[list[Record], Cursor | None]:
        """One page of the region's records, and where the next one starts."""
        rows, following = cut(connection.execute(page_of(self.table, region, listing)).all(), listing.limit)
        return [self.record(row) for row in rows], following

    def earlier(self, connection: Connection, region: str, token: str | None, fingerprint: str) -> Record | None:
        """The record that this token made before; raises TokenMismatch when it came with another request."""
        if token is None:
            return None
        columns = self.table.c
        same = select(self.table).where(columns.region == region, columns.token == token)
        row = connection.execute(same).first()
        if row is not None and row.fingerprint != fingerprint:
            raise TokenMismatch(token)
        return None if row is None else self.record(row)

    def present(self, connection: Connection, arn: str) -> Record:
        """The record of this ARN, which a writer is about to change; raises Gone."""
        found = self.by_arn(connection, arn)
        if found is None:
            raise Gone(arn)
        return found

    def refuse_name(self, connection: Connection, region: str, name: str) -> None:
        """Raise NameTaken, which names the request's member, where the region has a row of this name."""
        columns = self.table.c
        if connection.execute(select(columns.arn).where(columns.region == region, columns.name == name)).first():
            raise NameTaken(self.member, name)

    def keep(
        self,
        connection: Connection,
        record: Record,
        token: str | None,
        fingerprint: str,
        tags: Iterable[Mapping[str, str]],
    ) -> None:
        """Add a record with its tags, the token that made it and what was asked with that."""
        values = self.columns(record)
        connection.execute(insert(self.table).values(**values, token=token, fingerprint=fingerprint))
        if rows := tag_rows(record.arn, tags):
            connection.execute(insert(TAGS), rows)

    def save(self, connection: Connection, record: Record) -> Record:
        """Write a changed record in place of the present one."""
        connection.execute(update(self.table).where(self.table.c.arn == record.arn).values(self.columns(record)))
        return record

    def drop(self, connection: Connection, arn: str) -> None:
        """Delete a record and its tags."""
        connection.execute(delete(self.table).where(self.table.c.arn == arn))
        connection.execute(delete(TAGS).where(TAGS.c.arn == arn))

    def _first(self, connection: Connection, statement: Select[Any]) -> Record | None:
        row = connection.execute(statement).first()
        return None if row is None else self.record(row)


def rows_of_fields(table: Table, kind: type[Record], member: str) -> Rows[Record]:
    """The rows of a table whose columns are the record's fields, by their names."""
    fields = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    return Rows(
        table,
        member,
        lambda row: kind(**{name: getattr(row, name) for name in fields}),
        lambda record: {name: getattr(record, name) for name in fields},
    )
