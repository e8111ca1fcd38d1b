"""The nouns of object storage: buckets, objects, the blobs they are made of, and uploads under way.

Plain frozen values. They know nothing of the database that keeps the rows or of the disk that keeps the bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and what was set on it; None where nothing was."""

    name: str
    region: str
    created: datetime
    policy: str | None = None
    """The policy's JSON text, as it was put."""
    tags: Mapping[str, str] | None = None
    access_block: Mapping[str, bool] | None = None
    """PublicAccessBlockConfiguration."""


@dataclass(frozen=True, slots=True)
class Blob:
    """A file of bytes on disk: a whole object, or one part of a multipart one."""

    id: str
    """32 hexadecimal digits: the name of the file."""
    size: int
    md5: str
    """32 hexadecimal digits."""
    modified: datetime
    number: int = 1
    """Part number, 1 to 10,000; blobs of one object follow each other in this order."""
    checksum: str | None = None
    """Base64, by the algorithm of the object or upload it belongs to."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a client says about an object beside its bytes."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """By AWS's member: ContentType, ContentEncoding, …, Expires (as an HTTP date)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """x-amz-meta-*: names in lower case."""
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as its row tells it."""

    id: str
    """Owner of its blobs; for a multipart object the upload's id."""
    bucket: str
    key: str
    size: int
    etag: str
    """Without the quotes that the wire puts around it."""
    modified: datetime
    """In whole seconds, as S3 keeps it: HTTP dates know no more."""
    algorithm: str
    """CRC32, CRC32C, CRC64NVME, SHA1 or SHA256."""
    checksum: str
    """Base64; with -N for a composite one."""
    checksum_type: str = "FULL_OBJECT"
    """FULL_OBJECT or COMPOSITE."""
    parts: int = 0
    """How many parts a multipart upload gave it; 0 for an object put at once."""
    attributes: Attributes = Attributes()


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """An upload whose parts come one by one."""

    id: str
    bucket: str
    key: str
    initiated: datetime
    algorithm: str
    checksum_type: str
    declared: bool
    """Whether the caller named the algorithm: then parts must keep to it."""
    attributes: Attributes = Attributes()
