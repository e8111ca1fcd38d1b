"""The four tables of object storage and the steps on them that several verbs share, inside a caller's transaction.

Knows SQLAlchemy and the records; the verbs stand in buckets.py, objects.py and uploads.py. A change tells which blobs
nobody needs any more; whoever asked for it unlinks them after the commit, so that a row never points at a missing file.
"""

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    delete,
    insert,
    select,
)

from outcrop.objects.records import Attributes, Blob, Bucket, MultipartUpload, StoredObject
from outcrop.store.database import Instant, metadata

# S3 lists keys in the order of their UTF-8 bytes: SQLite's own order, and PostgreSQL's under the C collation.
Key: Final = Text().with_variant(Text(collation="C"), "postgresql")

buckets: Final = Table(
    "buckets",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("region", String(32), nullable=False),
    Column("created", Instant, nullable=False),
    Column("policy", Text),
    Column("tags", JSON(none_as_null=True)),
    Column("access_block", JSON(none_as_null=True)),
)

objects: Final = Table(
    "objects",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("bucket", String(63), ForeignKey("buckets.name"), nullable=False),
    Column("key", Key, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", String(40), nullable=False),
    Column("modified", Instant, nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("checksum", String(64), nullable=False),
    Column("checksum_type", String(16), nullable=False),
    Column("parts", Integer, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("user_metadata", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    UniqueConstraint("bucket", "key", name="objects_bucket_key"),
)

uploads: Final = Table(
    "multipart_uploads",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("bucket", String(63), ForeignKey("buckets.name"), nullable=False),
    Column("key", Key, nullable=False),
    Column("initiated", Instant, nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("checksum_type", String(16), nullable=False),
    Column("declared", Boolean, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("user_metadata", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Index("multipart_uploads_bucket_key", "bucket", "key"),
)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("id", String(32), primary_key=True),
    # An object's id, or that of an upload under way: completing an upload moves no row.
    Column("owner", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("md5", String(32), nullable=False),
    Column("checksum", String(64)),
    Column("modified", Instant, nullable=False),
    UniqueConstraint("owner", "number", name="blobs_owner_number"),
)


def bucket_of(row: Any) -> Bucket:
    """The record of a row of `buckets`."""
    return Bucket(
        name=row.name,
        region=row.region,
        created=row.created,
        policy=row.policy,
        tags=row.tags,
        access_block=row.access_block,
    )


def object_of(row: Any) -> StoredObject:
    """The record of a row of `objects`."""
    return StoredObject(
        id=row.id,
        bucket=row.bucket,
        key=row.key,
        size=row.size,
        etag=row.etag,
        modified=row.modified,
        algorithm=row.algorithm,
        checksum=row.checksum,
        checksum_type=row.checksum_type,
        parts=row.parts,
        attributes=Attributes(headers=row.headers, metadata=row.user_metadata, tags=row.tags),
    )


def upload_of(row: Any) -> MultipartUpload:
    """The record of a row of `multipart_uploads`."""
    return MultipartUpload(
        id=row.id,
        bucket=row.bucket,
        key=row.key,
        initiated=row.initiated,
        algorithm=row.algorithm,
        checksum_type=row.checksum_type,
        declared=row.declared,
        attributes=Attributes(headers=row.headers, metadata=row.user_metadata, tags=row.tags),
    )


def blob_of(row: Any) -> Blob:
    """The record of a row of `blobs`."""
    return Blob(id=row.id, size=row.size, md5=row.md5, modified=row.modified, number=row.number, checksum=row.checksum)


def bucket_now(connection: Connection, name: str) -> Bucket | None:
    """The bucket of this name."""
    row = connection.execute(select(buckets).where(buckets.c.name == name)).one_or_none()
    return bucket_of(row) if row else None


def object_now(connection: Connection, bucket: str, key: str) -> StoredObject | None:
    """What a key holds."""
    row = connection.execute(select(objects).where(objects.c.bucket == bucket, objects.c.key == key)).one_or_none()
    return object_of(row) if row else None


def upload_now(connection: Connection, bucket: str, key: str, upload: str) -> MultipartUpload | None:
    """The upload of this id, if it is one to this key."""
    where = (uploads.c.id == upload, uploads.c.bucket == bucket, uploads.c.key == key)
    row = connection.execute(select(uploads).where(*where)).one_or_none()
    return upload_of(row) if row else None


def blobs_of(connection: Connection, owner: str) -> list[Blob]:
    """The blobs of an object or upload in their order."""
    query = select(blobs).where(blobs.c.owner == owner).order_by(blobs.c.number)
    return [blob_of(row) for row in connection.execute(query)]


def add_blob(connection: Connection, owner: str, blob: Blob) -> None:
    """Write a blob's row."""
    connection.execute(
        insert(blobs).values(
            id=blob.id,
            owner=owner,
            number=blob.number,
            size=blob.size,
            md5=blob.md5,
            checksum=blob.checksum,
            modified=blob.modified,
        )
    )


def drop_blobs(connection: Connection, owner: str) -> list[str]:
    """Delete the rows of all blobs of an owner; their ids."""
    dropped = list(connection.execute(select(blobs.c.id).where(blobs.c.owner == owner)).scalars())
    connection.execute(delete(blobs).where(blobs.c.owner == owner))
    return dropped


def drop_object(connection: Connection, stored: StoredObject) -> list[str]:
    """Delete an object's row and those of its blobs; the blobs' ids."""
    connection.execute(delete(objects).where(objects.c.id == stored.id))
    return drop_blobs(connection, stored.id)


def add_object(connection: Connection, stored: StoredObject) -> None:
    """Write an object's row; the key must be free."""
    connection.execute(
        insert(objects).values(
            id=stored.id,
            bucket=stored.bucket,
            key=stored.key,
            size=stored.size,
            etag=stored.etag,
            modified=stored.modified,
            algorithm=stored.algorithm,
            checksum=stored.checksum,
            checksum_type=stored.checksum_type,
            parts=stored.parts,
            headers=dict(stored.attributes.headers),
            user_metadata=dict(stored.attributes.metadata),
            tags=dict(stored.attributes.tags),
        )
    )
