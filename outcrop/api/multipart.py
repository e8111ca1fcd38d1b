"""Multipart uploads: begun, filled part by part, completed into one object or given up.

Knows the call, the store and the disk. Completing copies no byte: the object is the list of its parts' blobs, and its
checksums are joined from theirs.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from outcrop.api.buckets import here, owner, standing
from outcrop.api.call import Call
from outcrop.api.copies import Source
from outcrop.api.object_members import (
    algorithm_of,
    attributes_of,
    checksum,
    part_checksum,
    quoted,
    refuse,
)
from outcrop.api.objects import PUT_BYTES, instant, received
from outcrop.objects import faults
from outcrop.objects.checksums import ALGORITHMS, CRCS, DEFAULT, composite, whole
from outcrop.objects.conditions import check_write, copy_span
from outcrop.objects.naming import check_key, new_upload_id
from outcrop.objects.records import Blob, Bucket, MultipartUpload, StoredObject
from outcrop.wire.gateway import Reply

PARTS: Final = 10_000
PART_BYTES: Final = 5 * 1024**2
"""Least size of every part but the last (S3 User Guide, "Amazon S3 multipart upload limits")."""
OBJECT_BYTES: Final = 5 * 1024**4
PAGE: Final = 1000
COMPOSITE: Final = "COMPOSITE"
FULL: Final = "FULL_OBJECT"


def create_multipart_upload(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Begin an upload; what is said of the object here becomes true when it is completed."""
    bucket, key = here(call, params), params["Key"]
    check_key(key)
    refuse(params)
    attributes = attributes_of(params)
    named = algorithm_of(params)
    algorithm = named or DEFAULT
    kind = params.get("ChecksumType") or (FULL if algorithm == DEFAULT else COMPOSITE)
    if (kind == FULL and algorithm not in CRCS) or (kind == COMPOSITE and algorithm == DEFAULT):
        raise faults.invalid_request(
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm."
        )
    if named is None and "ChecksumType" in params:
        raise faults.invalid_request(
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
        )
    upload = MultipartUpload(
        id=new_upload_id(call.rooms.now()),
        bucket=bucket.name,
        key=key,
        initiated=instant(call),
        algorithm=algorithm,
        checksum_type=kind,
        declared=named is not None,
        attributes=attributes,
    )

    def check(there: Bucket | None, _old: StoredObject | None) -> None:
        standing(there, bucket.name)

    call.rooms.store.uploads.create(upload, check)
    answer = {"Bucket": bucket.name, "Key": key, "UploadId": upload.id}
    return answer | ({"ChecksumAlgorithm": algorithm, "ChecksumType": kind} if named else {})


def _begun(call: Call, params: Mapping[str, Any]) -> MultipartUpload:
    """The upload that a request is about; raises NoSuchUpload."""
    bucket = here(call, params)
    check_key(params["Key"])
    upload = call.rooms.store.uploads.get(bucket.name, params["Key"], params["UploadId"])
    if upload is None:
        raise faults.no_such_upload(params["UploadId"])
    return upload


def _check_number(params: Mapping[str, Any]) -> None:
    """Raise InvalidArgument for a part number that no part may have."""
    if not 1 <= params["PartNumber"] <= PARTS:
        raise faults.invalid_argument(
            f"Part number must be an integer between 1 and {PARTS}, inclusive", "partNumber", params["PartNumber"]
        )


def check_part(call: Call, params: Mapping[str, Any]) -> None:
    """Raise what upload_part would, as far as it can be told before the body is read."""
    _begun(call, params)
    _check_number(params)
    refuse(params)


def upload_part(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take the body as a part, in the place of an earlier one of its number."""
    upload = _begun(call, params)
    _check_number(params)
    refuse(params)
    sent = params["Body"].checksums
    declared = "ChecksumAlgorithm" in params or any(f"Checksum{name}" in params for name in ALGORITHMS)
    if upload.declared and declared and upload.algorithm not in sent:
        # boto3 declares one of its own for every part, so only a contradiction is an error, not an addition.
        raise faults.invalid_request(
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, "
            f"actual checksum Type: {next(iter(sent)).lower()}"
        )
    blob, algorithm = received(call, params["Body"], params["PartNumber"])
    if algorithm != upload.algorithm:
        value = sent.get(upload.algorithm) or call.rooms.disk.digest(blob.id, blob.size, upload.algorithm)
        blob = Blob(blob.id, blob.size, blob.md5, blob.modified, blob.number, value)
    _keep_part(call, upload, blob)
    # What was sent and found true is told, also where the upload keeps another one.
    sums = {f"Checksum{algorithm}": sent[algorithm]} if declared else part_checksum(upload.algorithm, blob)
    return {"ETag": quoted(blob.md5), **sums}


def upload_part_copy(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Take an object, or a range of one, as a part."""
    upload = _begun(call, params)
    _check_number(params)
    refuse(params)
    with Source(call, params) as source:
        span = copy_span(params.get("CopySourceRange"), source.stored.size)
        if span.length > PUT_BYTES:
            raise faults.invalid_request(
                f"The specified copy source is larger than the maximum allowable size for a copy source: {PUT_BYTES}"
            )
        written = source.copy(upload.algorithm, span.start, span.length)
    part = Blob(written.id, written.size, written.md5, instant(call), params["PartNumber"], written.checksum)
    _keep_part(call, upload, part)
    result = {"ETag": quoted(part.md5), "LastModified": part.modified, **part_checksum(upload.algorithm, part)}
    return {"CopyPartResult": result}


def _keep_part(call: Call, upload: MultipartUpload, part: Blob) -> None:
    """Write a part's row; its blob is removed again if the upload ended meanwhile."""
    try:
        dropped = call.rooms.store.uploads.put_part(upload, part)
    except BaseException:
        call.rooms.disk.remove([part.id])
        raise
    if dropped is None:
        call.rooms.disk.remove([part.id])
        raise faults.no_such_upload(upload.id)
    call.rooms.disk.remove(dropped)


def complete_multipart_upload(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make one object of the listed parts; repeating a completion that was done gives the same answer."""
    bucket, key = here(call, params), params["Key"]
    check_key(key)
    refuse(params)
    listed = params.get("MultipartUpload", {}).get("Parts", [])
    if not listed:
        raise faults.malformed_xml()

    def choose(
        upload: MultipartUpload, parts: Sequence[Blob], old: StoredObject | None
    ) -> tuple[StoredObject, Sequence[Blob]]:
        check_write(old, key, params)
        kept = _listed(upload, parts, listed)
        stored = _joined(call, upload, kept)
        _check_whole(stored, params)
        return stored, kept

    done = call.rooms.store.uploads.complete(bucket.name, key, params["UploadId"], choose)
    if done is None:
        # The answer to an earlier try may have been lost on its way; the object keeps its upload's id.
        stored = call.rooms.store.objects.get(bucket.name, key)
        if stored is None or stored.id != params["UploadId"]:
            raise faults.no_such_upload(params["UploadId"])
    else:
        stored, dropped = done
        call.rooms.disk.remove(dropped)
    scheme = "https" if call.signed.secure else "http"
    location = f"{scheme}://{call.signed.host}/{bucket.name}/{key}"
    return {
        "Location": location,
        "Bucket": bucket.name,
        "Key": key,
        "ETag": quoted(stored.etag),
        **checksum(stored),
    }


def _listed(upload: MultipartUpload, parts: Sequence[Blob], listed: Sequence[Mapping[str, Any]]) -> list[Blob]:
    """The parts that a completion lists, checked against those that were uploaded."""
    there = {part.number: part for part in parts}
    kept: list[Blob] = []
    for entry in listed:
        number, etag = entry.get("PartNumber"), entry.get("ETag", "").strip('"')
        if number is None:
            raise faults.malformed_xml()
        if kept and number <= kept[-1].number:
            raise faults.invalid_part_order(upload.id)
        part = there.get(number)
        if part is None or part.md5 != etag:
            raise faults.invalid_part(upload.id, number, etag)
        given = entry.get(f"Checksum{upload.algorithm}")
        if given is not None and given != part.checksum:
            raise faults.invalid_part(upload.id, number, etag)
        if given is None and upload.declared and upload.checksum_type == COMPOSITE:
            raise faults.invalid_request(
                f"The upload was created using a {upload.algorithm.lower()} checksum. The complete request must "
                f"include the checksum for each part. It was missing for part {number} in the request."
            )
        kept.append(part)
    for part in kept[:-1]:
        if part.size < PART_BYTES:
            raise faults.entity_too_small(part.number, part.md5, part.size, PART_BYTES)
    return kept


def _joined(call: Call, upload: MultipartUpload, parts: Sequence[Blob]) -> StoredObject:
    """The object that parts become."""
    size = sum(part.size for part in parts)
    if size > OBJECT_BYTES:
        raise faults.entity_too_large(size, OBJECT_BYTES)
    digests = b"".join(bytes.fromhex(part.md5) for part in parts)
    sums = [(part.checksum, part.size) for part in parts if part.checksum is not None]
    if upload.checksum_type == FULL:
        value = whole(upload.algorithm, sums)
    else:
        value = composite(upload.algorithm, [one for one, _ in sums])
    return StoredObject(
        id=upload.id,
        bucket=upload.bucket,
        key=upload.key,
        size=size,
        etag=f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}",
        modified=instant(call),
        algorithm=upload.algorithm,
        checksum=value,
        checksum_type=upload.checksum_type,
        parts=len(parts),
        attributes=upload.attributes,
    )


def _check_whole(stored: StoredObject, params: Mapping[str, Any]) -> None:
    """Raise when the whole is not what the completion says of it."""
    if "MpuObjectSize" in params and int(params["MpuObjectSize"]) != stored.size:
        raise faults.invalid_request(
            f"The provided 'x-amz-mp-object-size' header value {params['MpuObjectSize']} does not match what was "
            f"computed: {stored.size}"
        )
    kind = params.get("ChecksumType", stored.checksum_type)
    given = {name: params[f"Checksum{name}"] for name in ALGORITHMS if f"Checksum{name}" in params}
    if kind != stored.checksum_type or not given.keys() <= {stored.algorithm}:
        raise faults.invalid_request(
            f"Checksum Type mismatch occurred, expected checksum Type: {stored.algorithm.lower()}, "
            f"actual checksum Type: {next(iter(given), kind).lower()}"
        )
    value = given.get(stored.algorithm, stored.checksum)
    if value.partition("-")[0] != stored.checksum.partition("-")[0]:
        raise faults.bad_digest(stored.algorithm)


def abort_multipart_upload(call: Call, params: Mapping[str, Any]) -> Reply:
    """Give an upload up; its parts go with it."""
    bucket = here(call, params)
    dropped = call.rooms.store.uploads.abort(bucket.name, params["Key"], params["UploadId"])
    if dropped is None:
        raise faults.no_such_upload(params["UploadId"])
    call.rooms.disk.remove(dropped)
    return Reply({}, status=204)


def list_parts(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of an upload's parts in their order."""
    upload = _begun(call, params)
    limit, after = min(params.get("MaxParts", PAGE), PAGE), int(params.get("PartNumberMarker", 0))
    if limit < 0:
        raise faults.invalid_argument(
            "Argument maxParts must be an integer between 0 and 2147483647", "maxParts", limit
        )
    found = call.rooms.store.uploads.parts(upload.id, after=after, limit=limit + 1)
    page = found[:limit]
    return {
        "Bucket": upload.bucket,
        "Key": upload.key,
        "UploadId": upload.id,
        "PartNumberMarker": after,
        "NextPartNumberMarker": page[-1].number if page else 0,
        "MaxParts": limit,
        "IsTruncated": len(found) > limit > 0,
        "Parts": [
            {
                "PartNumber": part.number,
                "LastModified": part.modified,
                "ETag": quoted(part.md5),
                "Size": part.size,
                **part_checksum(upload.algorithm, part),
            }
            for part in page
        ],
        "Initiator": {"ID": call.caller.arn},
        "Owner": owner(call),
        "StorageClass": "STANDARD",
        "ChecksumAlgorithm": upload.algorithm,
        "ChecksumType": upload.checksum_type,
    }
