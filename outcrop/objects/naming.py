"""The rules of names: buckets, keys, tags, user metadata, and the ids that go with them.

Pure: text in, the same text or an error of `faults` out.
"""

import hashlib
import ipaddress
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.header import Header
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from outcrop.objects import faults

KEY_BYTES: Final = 1024
METADATA_BYTES: Final = 2048
"""Sum of names and values; S3's PutObject page."""
OBJECT_TAGS: Final = 10
BUCKET_TAGS: Final = 50

BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
RESERVED_PREFIXES: Final = ("xn--", "sthree-", "amzn-s3-demo-")
RESERVED_SUFFIXES: Final = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> None:
    """Raise InvalidBucketName for what can be no bucket of anybody's."""
    if not BUCKET_NAME.fullmatch(name) or ".." in name or _is_address(name):
        raise faults.invalid_bucket_name(name)


def check_new_bucket_name(name: str) -> None:
    """Raise InvalidBucketName for what nobody may call a new bucket."""
    check_bucket_name(name)
    if name.startswith(RESERVED_PREFIXES) or name.endswith(RESERVED_SUFFIXES):
        raise faults.invalid_bucket_name(name)


def check_key(key: str) -> None:
    """Raise KeyTooLongError for a key of more than 1,024 bytes of UTF-8."""
    size = len(key.encode("utf-8", "surrogatepass"))
    if size > KEY_BYTES:
        raise faults.key_too_long(size, KEY_BYTES)


def tags_of(pairs: Iterable[Mapping[str, Any]], limit: int) -> dict[str, str]:
    """The tags of a TagSet, checked; raises InvalidTag or BadRequest."""
    tags: dict[str, str] = {}
    for pair in pairs:
        key, value = pair["Key"], pair["Value"]
        if key in tags:
            raise faults.invalid_tag("Cannot provide multiple Tags with the same key", key)
        if not key or len(key) > 128:
            raise faults.invalid_tag("The TagKey you have provided is invalid", key)
        if len(value) > 256:
            raise faults.invalid_tag("The TagValue you have provided is invalid", key)
        if key.startswith("aws:"):
            raise faults.invalid_tag("System tags cannot be added/updated by requester", key)
        tags[key] = value
    if len(tags) > limit:
        raise faults.too_many_tags(limit)
    return tags


def tags_of_header(text: str) -> dict[str, str]:
    """The tags of an x-amz-tagging header: a query string."""
    return tags_of(
        ({"Key": key, "Value": value} for key, value in parse_qsl(text, keep_blank_values=True)), OBJECT_TAGS
    )


def tag_set(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as AWS lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def metadata_of(given: Mapping[str, str]) -> dict[str, str]:
    """User metadata as it is kept: names in lower case; raises MetadataTooLarge."""
    kept = {name.lower(): _unmangled(value) for name, value in given.items()}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in kept.items())
    if size > METADATA_BYTES:
        raise faults.metadata_too_large(size, METADATA_BYTES)
    return kept


def metadata_out(kept: Mapping[str, str]) -> dict[str, str]:
    """User metadata as headers can carry it: what is not ASCII goes as RFC 2047 words, as from S3."""
    return {
        name: value if value.isascii() else Header(value, "utf-8", maxlinelen=2**31).encode()
        for name, value in kept.items()
    }


def copy_source(text: str) -> tuple[str, str, str | None]:
    """Bucket, key and version of an x-amz-copy-source header: /bucket/key?versionId=…, percent-encoded."""
    path, _, version = text.partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise faults.invalid_argument(
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey", "x-amz-copy-source", text
        )
    return bucket, key, version or None


def owner_id(account: str) -> str:
    """The canonical user id of an account: 64 hexadecimal digits that stay the same."""
    return hashlib.sha256(f"canonical user of {account}".encode()).hexdigest()


def new_upload_id(now: datetime) -> str:
    """A fresh upload id; later ones sort behind earlier ones, so that listings can go on behind one."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(20)}"


def _is_address(name: str) -> bool:
    """Whether the name looks like an IPv4 address."""
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _unmangled(value: str) -> str:
    """Text whose UTF-8 came through a header as Latin-1, made whole again."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
