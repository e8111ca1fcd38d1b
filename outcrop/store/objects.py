"""Objects in the database: what a key holds, and which blobs hold its bytes.

Knows tables only: no disk and no AWS words. A change gives back the blobs that nobody needs any more.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Column, Select, select, update

from outcrop.objects.records import Blob, Bucket, StoredObject
from outcrop.store.database import Database
from outcrop.store.object_tables import (
    add_blob,
    add_object,
    blobs,
    blobs_of,
    bucket_now,
    drop_object,
    object_now,
    object_of,
    objects,
)
from outcrop.store.pages import Bound, Page, Query, gather, successor

Check = Callable[[Bucket | None, StoredObject | None], None]
"""Asked inside the transaction with the bucket and the object there now; raises to leave everything as it is."""

# Values bound in one statement; SQLite's limit was 999 for long.
IDS_A_QUERY: Final = 500


class ObjectStore:
    """Questions and changes about objects."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, bucket: str, key: str) -> StoredObject | None:
        """What a key holds."""
        with self._database.read() as connection:
            return object_now(connection, bucket, key)

    def find(self, bucket: str, key: str) -> tuple[StoredObject, Sequence[Blob]] | None:
        """What a key holds, with the blobs of its bytes in their order."""
        with self._database.read() as connection:
            stored = object_now(connection, bucket, key)
            return (stored, blobs_of(connection, stored.id)) if stored else None

    def put(self, stored: StoredObject, content: Iterable[Blob], check: Check) -> Sequence[str]:
        """Make this the object of its key after `check`; the blobs that nobody needs any more."""
        with self._database.write() as connection:
            old = object_now(connection, stored.bucket, stored.key)
            check(bucket_now(connection, stored.bucket), old)
            dropped = drop_object(connection, old) if old else []
            add_object(connection, stored)
            for blob in content:
                add_blob(connection, stored.id, blob)
            return dropped

    def delete(self, bucket: str, keys: Sequence[str], check: Check) -> Sequence[str]:
        """Delete the objects of these keys, each after `check`; the blobs that nobody needs any more."""
        dropped: list[str] = []
        with self._database.write() as connection:
            there = bucket_now(connection, bucket)
            for key in keys:
                old = object_now(connection, bucket, key)
                check(there, old)
                if old is not None:
                    dropped += drop_object(connection, old)
        return dropped

    def set_tags(self, bucket: str, key: str, tags: Mapping[str, str]) -> bool:
        """Replace an object's tags; False when there is no such object."""
        change = update(objects).where(objects.c.bucket == bucket, objects.c.key == key).values(tags=dict(tags))
        with self._database.write() as connection:
            return connection.execute(change).rowcount == 1

    def list(self, bucket: str, query: Query) -> Page[StoredObject]:
        """A page of a bucket's objects in the order of their keys, grouped by the query's delimiter."""
        with self._database.read() as connection:

            def fetch(bound: Bound, count: int) -> Sequence[StoredObject]:
                rows = within(select(objects).where(objects.c.bucket == bucket), objects.c.key, query, bound)
                return [object_of(row) for row in connection.execute(rows.order_by(objects.c.key).limit(count))]

            return gather(fetch, lambda stored: stored.key, query)

    def known(self, ids: Sequence[str]) -> set[str]:
        """Which of these blobs belong to an object or an upload."""
        found: set[str] = set()
        with self._database.read() as connection:
            for start in range(0, len(ids), IDS_A_QUERY):
                batch = ids[start : start + IDS_A_QUERY]
                found.update(connection.execute(select(blobs.c.id).where(blobs.c.id.in_(batch))).scalars())
        return found


def within(rows: Select[Any], key: Column[Any], query: Query, bound: Bound) -> Select[Any]:
    """Keep a selection to the keys from a bound on that have the query's prefix."""
    rows = rows.where(key >= bound.key if bound.inclusive else key > bound.key)
    end = successor(query.prefix)
    return rows if end is None else rows.where(key < end)
