"""Copies: CopyObject, and the source side that UploadPartCopy shares.

Knows the call, the store and the disk. A copy whose digests are known costs no bytes: its blob is a second name of the
source's file. Reading the source is a right of its own, asked here because the request's own resource is the target.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from outcrop.api.buckets import check_owner, here
from outcrop.api.call import Call
from outcrop.api.object_members import algorithm_of, attributes_of, checksum, quoted, refuse
from outcrop.api.objects import check_version, instant, keep, lookup, object_arn
from outcrop.objects import faults
from outcrop.objects.conditions import check_copy, check_write
from outcrop.objects.disk import Written
from outcrop.objects.naming import check_key, copy_source
from outcrop.objects.records import Attributes, Blob, StoredObject

COPY_BYTES: Final = 5 * 1024**3
"""Largest source of one CopyObject; larger ones are copied in parts."""


class Source:
    """An object that a copy reads: whole and open inside the `with`, whatever happens to its key meanwhile."""

    def __init__(self, call: Call, params: Mapping[str, Any]) -> None:
        name, key, version = copy_source(params["CopySource"])
        bucket = here(call, {"Bucket": name}, anywhere=True)
        check_owner(call, params.get("ExpectedSourceBucketOwner"))
        call.require("s3:GetObject", object_arn(name, key))
        check_version({"Key": key, "VersionId": version or "null"})
        self._disk = call.rooms.disk
        while True:
            self.stored, self.content = lookup(call, bucket, key)
            check_copy(self.stored, params)
            try:
                self._disk.hold(self.content)
            except FileNotFoundError:
                now = call.rooms.store.objects.get(name, key)
                if now is not None and now.id == self.stored.id:
                    raise  # The row stands and its bytes are gone: the disk lost them.
            else:
                break

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *_fault: object) -> None:
        self._disk.release(self.content)

    def copy(self, algorithm: str, start: int, length: int) -> Written:
        """A new blob of some of the source's bytes; without copying where all of them are wanted and known."""
        stored = self.stored
        if length == stored.size and not stored.parts and stored.algorithm == algorithm:
            return Written(self._disk.link(self.content[0].id), stored.size, stored.etag, stored.checksum)
        with self._disk.open(self.content, start) as file:
            return self._disk.copy(file, length, algorithm)


def copy_object(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make an object the object of another key too, with its attributes or with new ones."""
    bucket, key = here(call, params), params["Key"]
    check_key(key)
    refuse(params)
    with Source(call, params) as source:
        if source.stored.size > COPY_BYTES:
            raise faults.invalid_request(
                f"The specified copy source is larger than the maximum allowable size for a copy source: {COPY_BYTES}"
            )
        attributes = _attributes(source.stored, params)
        if attributes.tags and "Tagging" not in params:
            # Tags in a header were asked about at admission; those of the source travel unnamed.
            call.require("s3:GetObjectTagging", object_arn(source.stored.bucket, source.stored.key))
            call.require("s3:PutObjectTagging", object_arn(bucket.name, key))
        _check_change(source.stored, bucket.name, key, params)
        check_write(call.rooms.store.objects.get(bucket.name, key), key, params)
        algorithm = algorithm_of(params) or source.stored.algorithm
        written = source.copy(algorithm, 0, source.stored.size)
    stored = StoredObject(
        id=uuid4().hex,
        bucket=bucket.name,
        key=key,
        size=written.size,
        etag=written.md5,
        modified=instant(call),
        algorithm=algorithm,
        checksum=written.checksum,
        attributes=attributes,
    )
    blob = Blob(written.id, written.size, written.md5, stored.modified, checksum=written.checksum)
    keep(call, stored, [blob], lambda old: check_write(old, key, params))
    return {"CopyObjectResult": {"ETag": quoted(stored.etag), "LastModified": stored.modified, **checksum(stored)}}


def _attributes(source: StoredObject, params: Mapping[str, Any]) -> Attributes:
    """The copy's attributes: the source's, but for what the directives replace."""
    given = attributes_of(params)
    if params.get("TaggingDirective", "COPY") == "COPY":
        given = replace(given, tags=source.attributes.tags)
    if params.get("MetadataDirective", "COPY") == "COPY":
        given = replace(source.attributes, tags=given.tags)
    return given


def _check_change(source: StoredObject, bucket: str, key: str, params: Mapping[str, Any]) -> None:
    """Raise InvalidRequest for a copy onto itself that would leave everything as it is."""
    replaces = "REPLACE" in (params.get("MetadataDirective"), params.get("TaggingDirective"))
    algorithm = params.get("ChecksumAlgorithm", source.algorithm)
    if (source.bucket, source.key) == (bucket, key) and not replaces and algorithm == source.algorithm:
        raise faults.invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )
