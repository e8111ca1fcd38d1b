"""Between AWS's members and a stored object: what a request says about an object, and what an answer tells of it.

Knows names and values only. A member that asks for something which is not done here is refused, never ignored.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from outcrop.objects import faults
from outcrop.objects.checksums import ALGORITHMS
from outcrop.objects.naming import metadata_of, metadata_out, tags_of_header
from outcrop.objects.records import Attributes, Blob, StoredObject

HEADERS: Final = (
    *("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType"),
    "WebsiteRedirectLocation",
)
"""Members that are kept and given back as they came; Expires, an instant, is the other one."""

CONTENT_TYPE: Final = "binary/octet-stream"
"""What S3 calls bytes of which nobody said what they are."""

DEFAULT_ENCRYPTION: Final = "AES256"
"""What AWS does with every object since 2023, asked or not. It may be asked for here, and no answer says that it was
done: encrypting the disk is its owner's (docs/decisions/objects.md).
"""

REFUSED: Final[Mapping[str, str]] = {
    "SSECustomerAlgorithm": "x-amz-server-side-encryption-customer-algorithm",
    "SSECustomerKey": "x-amz-server-side-encryption-customer-key",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "SSEKMSEncryptionContext": "x-amz-server-side-encryption-context",
    "BucketKeyEnabled": "x-amz-server-side-encryption-bucket-key-enabled",
    "CopySourceSSECustomerAlgorithm": "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "CopySourceSSECustomerKey": "x-amz-copy-source-server-side-encryption-customer-key",
    "ObjectLockMode": "x-amz-object-lock-mode",
    "ObjectLockRetainUntilDate": "x-amz-object-lock-retain-until-date",
    "ObjectLockLegalHoldStatus": "x-amz-object-lock-legal-hold",
    "WriteOffsetBytes": "x-amz-write-offset-bytes",
    "MFA": "x-amz-mfa",
    "BypassGovernanceRetention": "x-amz-bypass-governance-retention",
    "IfMatchLastModifiedTime": "x-amz-if-match-last-modified-time",
    "IfMatchSize": "x-amz-if-match-size",
    "ChecksumSHA512": "x-amz-checksum-sha512",
    "ChecksumMD5": "x-amz-checksum-md5",
    "ChecksumXXHASH64": "x-amz-checksum-xxhash64",
    "ChecksumXXHASH3": "x-amz-checksum-xxhash3",
    "ChecksumXXHASH128": "x-amz-checksum-xxhash128",
}
"""Members that ask for what is not done here, with their headers."""

OVERRIDES: Final[Mapping[str, str]] = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}
"""Query parameters of a GET, and the member of the answer that each one takes the place of."""


def refuse(params: Mapping[str, Any]) -> None:
    """Raise NotImplemented or AccessControlListNotSupported for members that would be ignored otherwise."""
    for member, header in REFUSED.items():
        if member in params:
            raise faults.not_implemented(header)
    if params.get("ServerSideEncryption", DEFAULT_ENCRYPTION) != DEFAULT_ENCRYPTION:
        raise faults.not_implemented(
            "x-amz-server-side-encryption", f"There are no keys of KMS here: send {DEFAULT_ENCRYPTION} or leave it out."
        )
    if params.get("StorageClass", "STANDARD") != "STANDARD":
        raise faults.not_implemented("x-amz-storage-class")
    # With bucket owner enforced, only the ACL that says the same may be named.
    if params.get("ACL", "bucket-owner-full-control") != "bucket-owner-full-control":
        raise faults.acl_not_supported()
    if any(member.startswith("Grant") for member in params):
        raise faults.acl_not_supported()


def algorithm_of(params: Mapping[str, Any]) -> str | None:
    """The checksum algorithm that a request names; None for none."""
    name: str | None = params.get("ChecksumAlgorithm")
    if name is not None and name not in ALGORITHMS:
        raise faults.not_implemented("x-amz-checksum-algorithm")
    return name


def attributes_of(params: Mapping[str, Any]) -> Attributes:
    """What a write says about its object."""
    headers = {name: params[name] for name in HEADERS if params.get(name)}
    if params.get("Expires") is not None:
        expires = params["Expires"]
        headers["Expires"] = expires.isoformat() if isinstance(expires, datetime) else expires
    tags = tags_of_header(params["Tagging"]) if params.get("Tagging") else {}
    return Attributes(headers=headers, metadata=metadata_of(params.get("Metadata", {})), tags=tags)


def described(stored: StoredObject) -> dict[str, Any]:
    """The members of a GET or HEAD answer that come from the object, whatever bytes of it are sent."""
    headers = dict(stored.attributes.headers)
    expires = headers.pop("Expires", None)
    members: dict[str, Any] = {
        "AcceptRanges": "bytes",
        "LastModified": stored.modified,
        "ETag": quoted(stored.etag),
        "ContentType": CONTENT_TYPE,
        **headers,
        "Metadata": metadata_out(stored.attributes.metadata),
    }
    if expires is not None:
        members["Expires"] = datetime.fromisoformat(expires)
    if stored.attributes.tags:
        members["TagCount"] = len(stored.attributes.tags)
    return members


def overridden(params: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a GET or HEAD answer that the caller wants otherwise."""
    return {member: params[name] for name, member in OVERRIDES.items() if name in params}


def checksum(stored: StoredObject) -> dict[str, str]:
    """The checksum members of an object."""
    return {f"Checksum{stored.algorithm}": stored.checksum, "ChecksumType": stored.checksum_type}


def part_checksum(algorithm: str, part: Blob) -> dict[str, str]:
    """The checksum member of a part, if it has one."""
    return {} if part.checksum is None else {f"Checksum{algorithm}": part.checksum}


def quoted(etag: str) -> str:
    """An etag as HTTP writes it."""
    return f'"{etag}"'
