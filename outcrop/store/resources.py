"""What jobs, throughputs and deployments share as rows: found by name or ARN, made once for a token, locked to change.

Knows columns that the three tables share (arn, region, name, token, fingerprint); nothing of what their rows mean.
"""

from typing import Any

from sqlalchemy import Connection, Row, Table, delete, select

from outcrop.store.refusals import Gone, NameTaken, TokenMismatch
from outcrop.store.tags import TAGS


def by_arn(connection: Connection, table: Table, arn: str) -> Row[Any] | None:
    """The row of this ARN, in whatever region."""
    return connection.execute(select(table).where(table.c.arn == arn)).first()


def by_name_or_arn(connection: Connection, table: Table, region: str, identifier: str) -> Row[Any] | None:
    """The row of this name or ARN in this region."""
    wanted = table.c.arn == identifier if identifier.startswith("arn:") else table.c.name == identifier
    return connection.execute(select(table).where(table.c.region == region, wanted)).first()


def earlier(connection: Connection, table: Table, region: str, token: str | None, fingerprint: str) -> Row[Any] | None:
    """The row that this token made before; raises TokenMismatch when it came with another request."""
    if token is None:
        return None
    row = connection.execute(select(table).where(table.c.region == region, table.c.token == token)).first()
    if row is not None and row.fingerprint != fingerprint:
        raise TokenMismatch(token)
    return row


def locked(connection: Connection, table: Table, arn: str) -> Row[Any]:
    """The row of this ARN, nobody else's to change until the transaction ends; raises Gone."""
    row = connection.execute(select(table).where(table.c.arn == arn)).first()
    if row is None:
        raise Gone(arn)
    return row


def refuse_name(connection: Connection, table: Table, region: str, name: str, *, member: str) -> None:
    """Raise NameTaken, which names the request's member, where the region has a row of this name."""
    if connection.execute(select(table.c.arn).where(table.c.region == region, table.c.name == name)).first():
        raise NameTaken(member, name)


def drop(connection: Connection, table: Table, arn: str) -> None:
    """Delete a row and its tags."""
    connection.execute(delete(table).where(table.c.arn == arn))
    connection.execute(delete(TAGS).where(TAGS.c.arn == arn))
