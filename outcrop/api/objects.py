"""Objects: put, got, looked at, deleted.

Knows the call, the store and the disk. A write renames its blob into place, then writes the row in one transaction, and
unlinks what the row freed only after the commit: whoever dies in between leaves a whole object and a file to sweep.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final
from uuid import uuid4

from outcrop.api.buckets import bucket_arn, elsewhere, here, standing
from outcrop.api.call import Call
from outcrop.api.object_members import (
    attributes_of,
    checksum,
    described,
    overridden,
    part_checksum,
    quoted,
    refuse,
)
from outcrop.errors import ServiceError
from outcrop.objects import faults
from outcrop.objects.conditions import Span, check_read, check_write, span
from outcrop.objects.naming import check_key
from outcrop.objects.records import Blob, Bucket, StoredObject
from outcrop.wire.body import FileSlice, Upload
from outcrop.wire.gateway import Reply

PUT_BYTES: Final = 5 * 1024**3
"""Most that one PutObject or part brings (S3 User Guide, "Amazon S3 multipart upload limits")."""
DELETE_KEYS: Final = 1000
"""Keys in one DeleteObjects."""


def object_arn(bucket: str, key: str) -> str:
    """ARN of an object, as policies write it."""
    return f"{bucket_arn(bucket)}/{key}"


def instant(call: Call) -> datetime:
    """Now, in the whole seconds that S3 keeps."""
    return call.rooms.now().replace(microsecond=0)


def lookup(call: Call, bucket: Bucket, key: str) -> tuple[StoredObject, Sequence[Blob]]:
    """What a key holds; raises NoSuchKey, and AccessDenied to those who may not know what the bucket holds."""
    check_key(key)
    found = call.rooms.store.objects.find(bucket.name, key)
    if found is None:
        call.require("s3:ListBucket", bucket_arn(bucket.name))
        raise faults.no_such_key(key)
    return found


def check_version(params: Mapping[str, Any]) -> None:
    """Raise NoSuchVersion for any version but `null`, the one that an unversioned bucket has."""
    if params.get("VersionId", "null") != "null":
        raise faults.no_such_version(params["Key"], params["VersionId"])


def keep(
    call: Call, stored: StoredObject, content: Sequence[Blob], check: Callable[[StoredObject | None], None]
) -> None:
    """Make blobs that lie on disk the object of its key; they are removed again if that fails."""

    def checked(bucket: Bucket | None, old: StoredObject | None) -> None:
        standing(bucket, stored.bucket)
        check(old)

    try:
        dropped = call.rooms.store.objects.put(stored, content, checked)
    except BaseException:
        call.rooms.disk.remove(blob.id for blob in content)
        raise
    call.rooms.disk.remove(dropped)


def received(call: Call, upload: Upload, number: int = 1) -> tuple[Blob, str]:
    """Take a request's body onto the disk: the blob, and the algorithm of its checksum."""
    if upload.size > PUT_BYTES:
        raise faults.entity_too_large(upload.size, PUT_BYTES)
    algorithm, value = next(iter(upload.checksums.items()))
    blob = call.rooms.disk.adopt(upload.path)
    return Blob(blob, upload.size, upload.md5.hex(), instant(call), number, value), algorithm


def check_put(call: Call, params: Mapping[str, Any]) -> None:
    """Raise what put_object would, as far as it can be told before the body is read: to spare the disk."""
    bucket, key = here(call, params), params["Key"]
    check_key(key)
    refuse(params)
    attributes_of(params)
    check_write(call.rooms.store.objects.get(bucket.name, key), key, params)


def put_object(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make the body the object of its key."""
    bucket, key = here(call, params), params["Key"]
    check_key(key)
    refuse(params)
    attributes = attributes_of(params)
    blob, algorithm = received(call, params["Body"])
    assert blob.checksum is not None
    stored = StoredObject(
        id=uuid4().hex,
        bucket=bucket.name,
        key=key,
        size=blob.size,
        etag=blob.md5,
        modified=blob.modified,
        algorithm=algorithm,
        checksum=blob.checksum,
        attributes=attributes,
    )
    keep(call, stored, [blob], lambda old: check_write(old, key, params))
    return {"ETag": quoted(stored.etag), **checksum(stored)}


@dataclass(frozen=True, slots=True)
class _Portion:
    """The bytes of an object that a GET or HEAD is about, and what the answer says of them."""

    start: int
    length: int
    members: Mapping[str, Any]
    partial: bool


def _portion(stored: StoredObject, content: Sequence[Blob], params: Mapping[str, Any]) -> _Portion:
    """What a Range header or a partNumber leaves of the object."""
    verify = params.get("ChecksumMode") == "ENABLED"
    number = params.get("PartNumber")
    if number is not None:
        if "Range" in params:
            raise faults.invalid_request("Cannot specify both Range header and partNumber query parameter")
        return _part(stored, content, number, verify=verify)
    wanted = span(params.get("Range"), stored.size)
    if wanted is None:
        return _Portion(0, stored.size, checksum(stored) if verify else {}, partial=False)
    # A checksum of the whole would be held against the part of it that is sent.
    return _Portion(wanted.start, wanted.length, {"ContentRange": wanted.content_range(stored.size)}, partial=True)


def _part(stored: StoredObject, content: Sequence[Blob], number: int, *, verify: bool) -> _Portion:
    """One part of a multipart object; the only one of any other."""
    if not 1 <= number <= max(stored.parts, 1):
        raise faults.invalid_part_number(number, max(stored.parts, 1))
    if not stored.parts:
        return _Portion(0, stored.size, checksum(stored) if verify else {}, partial=False)
    part = content[number - 1]
    at = Span(sum(blob.size for blob in content[: number - 1]), part.size)
    members: dict[str, Any] = {"PartsCount": stored.parts}
    if part.size:
        members["ContentRange"] = at.content_range(stored.size)
    if verify and part.checksum is not None:
        members |= {**part_checksum(stored.algorithm, part), "ChecksumType": stored.checksum_type}
    return _Portion(at.start, at.length, members, partial=True)


def get_object(call: Call, params: Mapping[str, Any]) -> Reply:
    """Send an object's bytes, or the ones that Range or partNumber ask for."""
    bucket = here(call, params)
    refuse(params)
    if call.signed.access_key is None and overridden(params):
        raise faults.invalid_request("Request specific response headers cannot be used for anonymous GET requests.")
    check_version(params)
    while True:
        stored, content = lookup(call, bucket, params["Key"])
        if not check_read(stored, params):
            return _not_modified(stored)
        portion = _portion(stored, content, params)
        file = _open(call, stored, content, portion.start)
        if file is not None:
            break
    members = {**described(stored), **overridden(params), **portion.members, "ContentLength": portion.length}
    return Reply({**members, "Body": FileSlice(file, portion.length)}, status=206 if portion.partial else 200)


def _open(call: Call, stored: StoredObject, content: Sequence[Blob], start: int) -> BinaryIO | None:
    """The object's bytes from `start` on; None when it was overwritten or deleted since its row was read."""
    try:
        return call.rooms.disk.open(content, start)
    except FileNotFoundError:
        now = call.rooms.store.objects.get(stored.bucket, stored.key)
        if now is not None and now.id == stored.id:
            raise  # The row stands and its bytes are gone: the disk lost them.
        return None


def head_object(call: Call, params: Mapping[str, Any]) -> Reply:
    """Tell of an object what a GET would, without its bytes."""
    bucket = here(call, params, anywhere=True)
    away = elsewhere(call, bucket)
    if away is not None:
        return away
    refuse(params)
    check_version(params)
    stored, content = lookup(call, bucket, params["Key"])
    if not check_read(stored, params):
        return _not_modified(stored)
    portion = _portion(stored, content, params)
    members = {**described(stored), **overridden(params), **portion.members, "ContentLength": portion.length}
    return Reply(members, status=206 if portion.partial else 200)


def _not_modified(stored: StoredObject) -> Reply:
    """What a caller gets who has the object as it is."""
    return Reply({"ETag": quoted(stored.etag), "LastModified": stored.modified}, status=304)


def get_object_attributes(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Tell those attributes of an object that are asked for."""
    bucket = here(call, params)
    refuse(params)
    check_version(params)
    stored, content = lookup(call, bucket, params["Key"])
    every: dict[str, Callable[[], Any]] = {
        "ETag": lambda: stored.etag,
        "Checksum": lambda: checksum(stored),
        "ObjectParts": lambda: _parts(stored, content, params),
        "StorageClass": lambda: "STANDARD",
        "ObjectSize": lambda: stored.size,
    }
    asked = {name for entry in params["ObjectAttributes"] for name in entry.split(",")}
    if not asked <= every.keys():
        raise faults.invalid_argument(
            "Invalid attribute name specified.", "x-amz-object-attributes", ",".join(sorted(asked - every.keys()))
        )
    answer = {name: tell() for name, tell in every.items() if name in asked and (name != "ObjectParts" or stored.parts)}
    return {"LastModified": stored.modified, **answer}


def _parts(stored: StoredObject, content: Sequence[Blob], params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of the parts that a multipart object was made of."""
    limit, after = min(params.get("MaxParts", 1000), 1000), int(params.get("PartNumberMarker", 0))
    later = [part for part in content if part.number > after]
    page = later[:limit]
    return {
        "TotalPartsCount": stored.parts,
        "PartNumberMarker": after,
        "NextPartNumberMarker": page[-1].number if page else 0,
        "MaxParts": limit,
        "IsTruncated": len(later) > limit,
        "Parts": [
            {"PartNumber": part.number, "Size": part.size, **part_checksum(stored.algorithm, part)} for part in page
        ],
    }


def delete_object(call: Call, params: Mapping[str, Any]) -> Reply:
    """Delete what a key holds; fine when it holds nothing."""
    bucket, key = here(call, params), params["Key"]
    check_key(key)
    refuse(params)
    check_version(params)
    _delete(call, bucket, [key], params)
    return Reply({}, status=204)


def _delete(call: Call, bucket: Bucket, keys: Sequence[str], condition: Mapping[str, Any]) -> None:
    """Delete keys in one transaction, each under the same condition."""

    def check(there: Bucket | None, old: StoredObject | None) -> None:
        standing(there, bucket.name)
        check_write(old, keys[0], condition)

    call.rooms.disk.remove(call.rooms.store.objects.delete(bucket.name, keys, check))


def delete_objects(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Delete up to 1,000 keys; what cannot be deleted is told key by key."""
    bucket = here(call, params)
    refuse(params)
    wanted = params["Delete"]["Objects"]
    if not 1 <= len(wanted) <= DELETE_KEYS:
        raise faults.malformed_xml()
    plain: list[str] = []
    deleted, errors = [], []
    for entry in wanted:
        try:
            _may_delete(call, bucket, entry)
            if "ETag" in entry:
                _delete(call, bucket, [entry["Key"]], {"IfMatch": entry["ETag"]})
            else:
                plain.append(entry["Key"])
        except ServiceError as fault:
            named = {name: entry[name] for name in ("Key", "VersionId") if name in entry}
            errors.append({**named, "Code": fault.code, "Message": fault.message})
            continue
        deleted.append({name: entry[name] for name in ("Key", "VersionId") if name in entry})
    if plain:
        _delete(call, bucket, plain, {})
    answer: dict[str, Any] = {} if params["Delete"].get("Quiet") else {"Deleted": deleted}
    if errors:
        answer["Errors"] = errors
    return answer


def _may_delete(call: Call, bucket: Bucket, entry: Mapping[str, Any]) -> None:
    """Raise what keeps one entry of a DeleteObjects from being done."""
    check_key(entry["Key"])
    call.require("s3:DeleteObject", object_arn(bucket.name, entry["Key"]))
    check_version(entry)
    for name in ("LastModifiedTime", "Size"):
        if name in entry:
            raise faults.not_implemented(name)
