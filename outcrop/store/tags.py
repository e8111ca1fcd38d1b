"""Tags of bedrock's resources, by ARN."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import Column, String, Table, delete, func, insert, select

from outcrop.store.database import Database, metadata
from outcrop.store.refusals import OverQuota

TAGS: Final = Table(
    "tags",
    metadata,
    Column("arn", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("value", String, nullable=False),
)


def tag_rows(arn: str, tags: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Rows for a fresh resource, from AWS's list of {key, value}; a nameless list of none is empty."""
    return [{"arn": arn, "key": tag["key"], "value": tag["value"]} for tag in tags]


class TagStore:
    """Every question and change about tags."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, arn: str) -> list[dict[str, str]]:
        """AWS's list of {key, value} of one resource, by key."""
        with self._database.read() as connection:
            rows = connection.execute(select(TAGS).where(TAGS.c.arn == arn).order_by(TAGS.c.key))
            return [{"key": row.key, "value": row.value} for row in rows]

    def put(self, arn: str, tags: Iterable[Mapping[str, str]], limit: int) -> None:
        """Add tags or replace their values; raises OverQuota when the resource would have more than `limit`."""
        rows = tag_rows(arn, tags)
        if not rows:
            return
        with self._database.write() as connection:
            keys = [row["key"] for row in rows]
            connection.execute(delete(TAGS).where(TAGS.c.arn == arn, TAGS.c.key.in_(keys)))
            kept = connection.execute(select(func.count()).where(TAGS.c.arn == arn)).scalar_one()
            if kept + len(rows) > limit:
                raise OverQuota(kept, limit)
            connection.execute(insert(TAGS), rows)

    def remove(self, arn: str, keys: Iterable[str]) -> None:
        """Take tags off; keys that are not there are none of its business."""
        with self._database.write() as connection:
            connection.execute(delete(TAGS).where(TAGS.c.arn == arn, TAGS.c.key.in_(list(keys))))
