"""Lists of what a bucket holds: objects (both versions of the call), their versions, and uploads under way.

Knows the call and the store's pages.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from outcrop.api.buckets import here, owner
from outcrop.api.call import Call
from outcrop.api.object_members import quoted
from outcrop.objects import faults
from outcrop.objects.records import MultipartUpload, StoredObject
from outcrop.store.pages import Query

PAGE: Final = 1000
"""Entries in one answer, whatever is asked."""


def _limit(params: Mapping[str, Any], name: str, argument: str) -> int:
    """How many entries an answer may have; raises InvalidArgument."""
    asked: int = params.get(name, PAGE)
    if asked < 0:
        raise faults.invalid_argument(
            f"Argument {argument} must be an integer between 0 and 2147483647", argument, asked
        )
    return min(asked, PAGE)


def _encoder(params: Mapping[str, Any]) -> Any:
    """How keys are written: percent-encoded when asked for, as XML 1.0 cannot carry every character."""
    kind = params.get("EncodingType")
    if kind not in (None, "url"):
        raise faults.invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", kind)
    return (lambda text: quote(text, safe="/")) if kind else (lambda text: text)


def _entry(stored: StoredObject, encode: Any) -> dict[str, Any]:
    """An object as lists show it."""
    return {
        "Key": encode(stored.key),
        "LastModified": stored.modified,
        "ETag": quoted(stored.etag),
        "ChecksumAlgorithm": [stored.algorithm],
        "ChecksumType": stored.checksum_type,
        "Size": stored.size,
        "StorageClass": "STANDARD",
    }


def _shared(params: Mapping[str, Any], query: Query, encode: Any) -> dict[str, Any]:
    """The members that every list gives back of its request."""
    members: dict[str, Any] = {"Prefix": encode(query.prefix)}
    if query.delimiter:
        members["Delimiter"] = encode(query.delimiter)
    if "EncodingType" in params:
        members["EncodingType"] = params["EncodingType"]
    return members


def list_objects(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of objects, version 1 of the call: goes on behind a key."""
    bucket, encode = here(call, params), _encoder(params)
    query = Query(
        prefix=params.get("Prefix", ""),
        delimiter=params.get("Delimiter", ""),
        after=params.get("Marker", ""),
        limit=_limit(params, "MaxKeys", "maxKeys"),
    )
    page = call.rooms.store.objects.list(bucket.name, query)
    answer: dict[str, Any] = {
        "Name": bucket.name,
        "Marker": encode(query.after),
        "MaxKeys": query.limit,
        "IsTruncated": page.last is not None,
        "Contents": [{**_entry(stored, encode), "Owner": owner(call)} for stored in page.entries],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
        **_shared(params, query, encode),
    }
    # Without a delimiter the last key is the marker, and S3 does not repeat it.
    if page.last is not None and query.delimiter:
        answer["NextMarker"] = encode(page.last)
    return answer


def list_objects_v2(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of objects, version 2 of the call: goes on by a token."""
    bucket, encode = here(call, params), _encoder(params)
    token = params.get("ContinuationToken")
    query = Query(
        prefix=params.get("Prefix", ""),
        delimiter=params.get("Delimiter", ""),
        after=params.get("StartAfter", "") if token is None else _untoken(token),
        limit=_limit(params, "MaxKeys", "maxKeys"),
    )
    page = call.rooms.store.objects.list(bucket.name, query)
    owned = {"Owner": owner(call)} if params.get("FetchOwner") else {}
    answer: dict[str, Any] = {
        "Name": bucket.name,
        "MaxKeys": query.limit,
        "KeyCount": len(page.entries) + len(page.prefixes),
        "IsTruncated": page.last is not None,
        "Contents": [{**_entry(stored, encode), **owned} for stored in page.entries],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
        **_shared(params, query, encode),
    }
    if token is not None:
        answer["ContinuationToken"] = token
    if "StartAfter" in params:
        answer["StartAfter"] = encode(params["StartAfter"])
    if page.last is not None:
        answer["NextContinuationToken"] = base64.urlsafe_b64encode(page.last.encode()).decode()
    return answer


def _untoken(token: str) -> str:
    """The key behind a continuation token; raises InvalidArgument for what is none."""
    try:
        return base64.urlsafe_b64decode(token.encode()).decode()
    except (binascii.Error, UnicodeError) as fault:
        raise faults.invalid_argument(
            "The continuation token provided is incorrect", "continuation-token", token
        ) from fault


def list_object_versions(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of objects as versions: of each, the one that an unversioned bucket has, called null."""
    bucket, encode = here(call, params), _encoder(params)
    query = Query(
        prefix=params.get("Prefix", ""),
        delimiter=params.get("Delimiter", ""),
        after=params.get("KeyMarker", ""),
        limit=_limit(params, "MaxKeys", "maxKeys"),
    )
    page = call.rooms.store.objects.list(bucket.name, query)
    only = {"VersionId": "null", "IsLatest": True, "Owner": owner(call)}
    answer: dict[str, Any] = {
        "Name": bucket.name,
        "KeyMarker": encode(query.after),
        "VersionIdMarker": params.get("VersionIdMarker", ""),
        "MaxKeys": query.limit,
        "IsTruncated": page.last is not None,
        "Versions": [{**_entry(stored, encode), **only} for stored in page.entries],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
        **_shared(params, query, encode),
    }
    if page.last is not None:
        answer["NextKeyMarker"] = encode(page.last)
        # A common prefix has no version to go on behind.
        if page.entries and page.entries[-1].key == page.last:
            answer["NextVersionIdMarker"] = "null"
    return answer


def list_multipart_uploads(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """A page of the uploads under way in a bucket."""
    bucket, encode = here(call, params), _encoder(params)
    query = Query(
        prefix=params.get("Prefix", ""),
        delimiter=params.get("Delimiter", ""),
        after=params.get("KeyMarker", ""),
        limit=_limit(params, "MaxUploads", "max-uploads"),
    )
    # S3 ignores an id without a key.
    marker = params.get("UploadIdMarker") if query.after else None
    page = call.rooms.store.uploads.list(bucket.name, query, marker or None)
    answer: dict[str, Any] = {
        "Bucket": bucket.name,
        "KeyMarker": encode(query.after),
        "UploadIdMarker": marker or "",
        "MaxUploads": query.limit,
        "IsTruncated": page.last is not None,
        "Uploads": [_upload(call, upload, encode) for upload in page.entries],
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
        **_shared(params, query, encode),
    }
    if page.last is not None:
        answer["NextKeyMarker"] = encode(page.last)
        if page.entries and page.entries[-1].key == page.last:
            answer["NextUploadIdMarker"] = page.entries[-1].id
    return answer


def _upload(call: Call, upload: MultipartUpload, encode: Any) -> dict[str, Any]:
    """An upload as lists show it."""
    return {
        "UploadId": upload.id,
        "Key": encode(upload.key),
        "Initiated": upload.initiated,
        "StorageClass": "STANDARD",
        "Owner": owner(call),
        # Who began it is not kept: everybody's uploads are the account's.
        "Initiator": owner(call),
        "ChecksumAlgorithm": upload.algorithm,
        "ChecksumType": upload.checksum_type,
    }
