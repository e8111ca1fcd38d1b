"""Multipart uploads under way, in the database: their rows and those of their parts.

Knows tables only. A part is a blob whose owner is the upload; the object that an upload becomes keeps the upload's id,
so that completing moves no row and a repeated completion can be recognised.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import and_, delete, insert, or_, select

from outcrop.objects.records import Blob, MultipartUpload, StoredObject
from outcrop.store.database import Database
from outcrop.store.object_tables import (
    add_blob,
    add_object,
    blob_of,
    blobs,
    blobs_of,
    bucket_now,
    drop_blobs,
    drop_object,
    object_now,
    upload_now,
    upload_of,
    uploads,
)
from outcrop.store.objects import Check, within
from outcrop.store.pages import Bound, Page, Query, gather

Choose = Callable[[MultipartUpload, Sequence[Blob], StoredObject | None], tuple[StoredObject, Sequence[Blob]]]
"""Asked inside the transaction with the upload, its parts and the object there now: what to make, of which parts."""


class UploadStore:
    """Questions and changes about multipart uploads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, upload: MultipartUpload, check: Check) -> None:
        """Begin an upload after `check`."""
        with self._database.write() as connection:
            check(bucket_now(connection, upload.bucket), object_now(connection, upload.bucket, upload.key))
            connection.execute(
                insert(uploads).values(
                    id=upload.id,
                    bucket=upload.bucket,
                    key=upload.key,
                    initiated=upload.initiated,
                    algorithm=upload.algorithm,
                    checksum_type=upload.checksum_type,
                    declared=upload.declared,
                    headers=dict(upload.attributes.headers),
                    user_metadata=dict(upload.attributes.metadata),
                    tags=dict(upload.attributes.tags),
                )
            )

    def get(self, bucket: str, key: str, upload: str) -> MultipartUpload | None:
        """The upload of this id, if it is one to this key."""
        with self._database.read() as connection:
            return upload_now(connection, bucket, key, upload)

    def put_part(self, upload: MultipartUpload, part: Blob) -> Sequence[str] | None:
        """Add a part, or put it in the place of an earlier one; the blobs it frees, None when the upload is gone."""
        with self._database.write() as connection:
            if upload_now(connection, upload.bucket, upload.key, upload.id) is None:
                return None
            earlier = (blobs.c.owner == upload.id, blobs.c.number == part.number)
            dropped = list(connection.execute(select(blobs.c.id).where(*earlier)).scalars())
            connection.execute(delete(blobs).where(*earlier))
            add_blob(connection, upload.id, part)
            return dropped

    def parts(self, upload: str, *, after: int, limit: int) -> Sequence[Blob]:
        """At most `limit` parts in their order, from the first one whose number is over `after`."""
        query = select(blobs).where(blobs.c.owner == upload, blobs.c.number > after).order_by(blobs.c.number)
        with self._database.read() as connection:
            return [blob_of(row) for row in connection.execute(query.limit(limit))]

    def complete(self, bucket: str, key: str, upload: str, choose: Choose) -> tuple[StoredObject, Sequence[str]] | None:
        """Make an object of the upload as `choose` says; it and the blobs it frees, None when the upload is gone."""
        with self._database.write() as connection:
            found = upload_now(connection, bucket, key, upload)
            if found is None:
                return None
            parts = blobs_of(connection, upload)
            old = object_now(connection, bucket, key)
            stored, kept = choose(found, parts, old)
            unused = {part.id for part in parts} - {part.id for part in kept}
            for blob in unused:
                connection.execute(delete(blobs).where(blobs.c.id == blob))
            dropped = drop_object(connection, old) if old else []
            connection.execute(delete(uploads).where(uploads.c.id == upload))
            add_object(connection, stored)
            return stored, [*dropped, *unused]

    def abort(self, bucket: str, key: str, upload: str) -> Sequence[str] | None:
        """End an upload; the blobs of its parts, None when there is no such upload."""
        with self._database.write() as connection:
            if upload_now(connection, bucket, key, upload) is None:
                return None
            connection.execute(delete(uploads).where(uploads.c.id == upload))
            return drop_blobs(connection, upload)

    def list(self, bucket: str, query: Query, upload_after: str | None) -> Page[MultipartUpload]:
        """A page of a bucket's uploads in the order of key and id, grouped by the query's delimiter.

        upload_after: the id behind which to go on among the uploads to the key `query.after`.
        """
        rows = select(uploads).where(uploads.c.bucket == bucket).order_by(uploads.c.key, uploads.c.id)
        if upload_after is not None:
            same = and_(uploads.c.key == query.after, uploads.c.id > upload_after)
            rows = rows.where(or_(uploads.c.key > query.after, same))
            query = replace(query, after="")
        with self._database.read() as connection:

            def fetch(bound: Bound, _count: int) -> Sequence[MultipartUpload]:
                # Not cut to the count: the uploads to one key must come in one batch. Uploads under way are few.
                return [upload_of(row) for row in connection.execute(within(rows, uploads.c.key, query, bound))]

            return gather(fetch, lambda upload: upload.key, query)
