"""Conditional requests, ranges and part numbers: what RFC 9110 and S3 make of them.

Pure: an object's etag, age and size in; go on, or an error of `faults` out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outcrop.objects import faults
from outcrop.objects.records import StoredObject


@dataclass(frozen=True, slots=True)
class Span:
    """Some bytes of an object."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        """The Content-Range header's value."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def check_read(stored: StoredObject, params: Mapping[str, Any]) -> bool:
    """Whether a GET or HEAD with these If-… members gets the object; False: 304. Raises PreconditionFailed."""
    if "IfMatch" in params:
        if not _matches(stored, params["IfMatch"]):
            raise faults.precondition_failed("If-Match")
    elif "IfUnmodifiedSince" in params and stored.modified > params["IfUnmodifiedSince"]:
        raise faults.precondition_failed("If-Unmodified-Since")
    if "IfNoneMatch" in params:
        return not _matches(stored, params["IfNoneMatch"])
    return "IfModifiedSince" not in params or bool(stored.modified > params["IfModifiedSince"])


def check_copy(stored: StoredObject, params: Mapping[str, Any]) -> None:
    """Raise what a copy from this source gets when its x-amz-copy-source-if-… members do not hold: always 412."""
    if "CopySourceIfMatch" in params:
        if not _matches(stored, params["CopySourceIfMatch"]):
            raise faults.precondition_failed("x-amz-copy-source-If-Match")
    elif "CopySourceIfUnmodifiedSince" in params and stored.modified > params["CopySourceIfUnmodifiedSince"]:
        raise faults.precondition_failed("x-amz-copy-source-If-Unmodified-Since")
    if "CopySourceIfNoneMatch" in params:
        if _matches(stored, params["CopySourceIfNoneMatch"]):
            raise faults.precondition_failed("x-amz-copy-source-If-None-Match")
    elif "CopySourceIfModifiedSince" in params and stored.modified <= params["CopySourceIfModifiedSince"]:
        raise faults.precondition_failed("x-amz-copy-source-If-Modified-Since")


def check_write(stored: StoredObject | None, key: str, params: Mapping[str, Any]) -> None:
    """Raise what a write with If-Match or If-None-Match gets when the key does not hold what it asks for."""
    if "IfNoneMatch" in params:
        # S3 takes no etag here: only "write if nothing is there".
        if params["IfNoneMatch"] != "*":
            raise faults.not_implemented("If-None-Match")
        if stored is not None:
            raise faults.precondition_failed("If-None-Match")
    if "IfMatch" in params:
        if stored is None:
            raise faults.no_such_key(key)
        if not _matches(stored, params["IfMatch"]):
            raise faults.precondition_failed("If-Match")


def span(text: str | None, size: int) -> Span | None:
    """The bytes that a Range header asks for; None for all of them.

    A header that is not one range of bytes is ignored, as RFC 9110 wants it and S3 does.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip()) if text else None
    if found is None or text is None or found.group() == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        if length == 0:
            raise faults.invalid_range(text, size)
        return Span(size - length, length)
    start = int(first)
    end = min(int(last), size - 1) if last else size - 1
    if last and int(last) < start:
        return None
    if start >= size:
        raise faults.invalid_range(text, size)
    return Span(start, end - start + 1)


def copy_span(text: str | None, size: int) -> Span:
    """The bytes that x-amz-copy-source-range asks for: both ends named and inside the source."""
    if text is None:
        return Span(0, size)
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", text)
    if found is None or int(found.group(2)) < int(found.group(1)):
        raise faults.invalid_argument(
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            "x-amz-copy-source-range",
            text,
        )
    first, last = int(found.group(1)), int(found.group(2))
    if last >= size:
        raise faults.invalid_argument(
            f"Range specified is not valid for source object of size: {size}", "x-amz-copy-source-range", text
        )
    return Span(first, last - first + 1)


def _matches(stored: StoredObject, header: str) -> bool:
    """Whether an If-Match list names the object: `*`, or its etag with or without quotes."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return "*" in tags or stored.etag in tags
