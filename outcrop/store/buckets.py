"""Buckets in the database: their rows, their policies and their tags.

Knows tables only. What AWS says when a rule is broken is the caller's: it hands in a `check` that is asked inside the
transaction, so that what it saw is still true when the change is committed.
"""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import delete, exists, insert, select, update

from outcrop.objects.records import Bucket
from outcrop.store.database import Database
from outcrop.store.object_tables import bucket_now, bucket_of, buckets, drop_blobs, objects, uploads


class BucketStore:
    """Questions and changes about buckets."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, bucket: Bucket, check: Callable[[Bucket | None], None]) -> None:
        """Make the bucket after `check(the one of its name)`; one that is there stays as it is."""
        with self._database.write() as connection:
            old = bucket_now(connection, bucket.name)
            check(old)
            if old is None:
                values = {"name": bucket.name, "region": bucket.region, "created": bucket.created, "tags": bucket.tags}
                connection.execute(insert(buckets).values(values))

    def get(self, name: str) -> Bucket | None:
        """The bucket of this name."""
        with self._database.read() as connection:
            return bucket_now(connection, name)

    def list(self, *, prefix: str, region: str | None, after: str, limit: int) -> Sequence[Bucket]:
        """At most `limit` buckets in the order of their names, from the first one behind `after`."""
        query = select(buckets).where(buckets.c.name > after).order_by(buckets.c.name).limit(limit)
        if prefix:
            query = query.where(buckets.c.name.startswith(prefix, autoescape=True))
        if region is not None:
            query = query.where(buckets.c.region == region)
        with self._database.read() as connection:
            return [bucket_of(row) for row in connection.execute(query)]

    def delete(self, name: str, check: Callable[[Bucket | None, bool], None]) -> Sequence[str]:
        """Delete the bucket after `check(bucket, whether it holds objects)`; the blobs of uploads that end with it."""
        with self._database.write() as connection:
            held = connection.execute(select(exists().where(objects.c.bucket == name))).scalar()
            check(bucket_now(connection, name), bool(held))
            dropped: list[str] = []
            for upload in connection.execute(select(uploads.c.id).where(uploads.c.bucket == name)).scalars().all():
                dropped += drop_blobs(connection, upload)
            connection.execute(delete(uploads).where(uploads.c.bucket == name))
            connection.execute(delete(buckets).where(buckets.c.name == name))
            return dropped

    def policy(self, name: str) -> str | None:
        """The bucket's policy as JSON text; None for a bucket without one, or none of that name."""
        with self._database.read() as connection:
            return connection.execute(select(buckets.c.policy).where(buckets.c.name == name)).scalar_one_or_none()

    def set_policy(self, name: str, policy: str | None) -> bool:
        """Put or remove the policy; False when there is no such bucket."""
        return self._set(name, policy=policy)

    def set_tags(self, name: str, tags: Mapping[str, str] | None) -> bool:
        """Put or remove the tags; False when there is no such bucket."""
        return self._set(name, tags=tags)

    def set_access_block(self, name: str, block: Mapping[str, bool] | None) -> bool:
        """Put or remove the public access block; False when there is no such bucket."""
        return self._set(name, access_block=block)

    def _set(self, name: str, **values: object) -> bool:
        """Change columns of one bucket's row."""
        with self._database.write() as connection:
            return connection.execute(update(buckets).where(buckets.c.name == name).values(**values)).rowcount == 1
