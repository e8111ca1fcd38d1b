"""What a bucket's sub-resources are: the public access block, which can be set, and all those that cannot.

Buckets here have no versions, ACLs, CORS, life cycle, logging, website, replication, notifications or encryption of
their own; the Get operations say so as AWS says it of a bucket where nothing was configured. Their Put operations do
not exist: what would be ignored is not accepted.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from outcrop.api.buckets import here, owner
from outcrop.api.call import Call
from outcrop.objects import faults
from outcrop.wire.gateway import Reply

Operation = Callable[[Call, Mapping[str, Any]], Mapping[str, Any] | Reply]

BLOCKS: Final = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")

EMPTY: Final = (
    *("GetBucketVersioning", "GetBucketLogging", "GetBucketAccelerateConfiguration"),
    *("GetBucketNotification", "GetBucketNotificationConfiguration"),
)
"""Operations whose answer for a bucket without the thing has no members."""

NO_LISTS: Final = (
    *("ListBucketAnalyticsConfigurations", "ListBucketInventoryConfigurations"),
    *("ListBucketMetricsConfigurations", "ListBucketIntelligentTieringConfigurations"),
)
"""Operations that list configurations, of which there are none."""

MISSING: Final[Mapping[str, tuple[str, str]]] = {
    "GetBucketCors": ("NoSuchCORSConfiguration", "The CORS configuration does not exist"),
    # Blobs lie on the server's disk as they came. To answer AES256, as AWS does, would claim what is not so.
    "GetBucketEncryption": (
        "ServerSideEncryptionConfigurationNotFoundError",
        "The server side encryption configuration was not found",
    ),
    "GetBucketLifecycle": ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    "GetBucketLifecycleConfiguration": ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    "GetBucketReplication": (
        "ReplicationConfigurationNotFoundError",
        "The replication configuration was not found",
    ),
    "GetBucketWebsite": (
        "NoSuchWebsiteConfiguration",
        "The specified bucket does not have a website configuration",
    ),
    "GetObjectLockConfiguration": (
        "ObjectLockConfigurationNotFoundError",
        "Object Lock configuration does not exist for this bucket",
    ),
    "GetBucketAnalyticsConfiguration": ("NoSuchConfiguration", "The specified configuration does not exist."),
    "GetBucketInventoryConfiguration": ("NoSuchConfiguration", "The specified configuration does not exist."),
    "GetBucketMetricsConfiguration": ("NoSuchConfiguration", "The specified configuration does not exist."),
    "GetBucketIntelligentTieringConfiguration": ("NoSuchConfiguration", "The specified configuration does not exist."),
}
"""Operations that answer with an error for a bucket without the thing: code and text."""


def get_bucket_acl(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner has full control and nobody else has any: bucket owner enforced."""
    here(call, params)
    return full_control(call)


def full_control(call: Call) -> Mapping[str, Any]:
    """The only ACL there is."""
    grantee = {"Type": "CanonicalUser", **owner(call)}
    return {"Owner": owner(call), "Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]}


def get_bucket_ownership_controls(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """ACLs do nothing: the bucket's owner owns every object in it."""
    here(call, params)
    return {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}}


def get_bucket_request_payment(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whoever owns the bucket pays for its disk."""
    here(call, params)
    return {"Payer": "BucketOwner"}


def put_public_access_block(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Refuse public policies from now on, or let anonymous callers in by none; ACLs there are not."""
    bucket = here(call, params)
    block = {name: bool(params["PublicAccessBlockConfiguration"].get(name)) for name in BLOCKS}
    _keep(call, bucket.name, block)
    return {}


def get_public_access_block(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The block as it was put."""
    bucket = here(call, params)
    if bucket.access_block is None:
        raise faults.not_configured(
            "NoSuchPublicAccessBlockConfiguration",
            "The public access block configuration was not found",
            bucket.name,
        )
    return {"PublicAccessBlockConfiguration": bucket.access_block}


def delete_public_access_block(call: Call, params: Mapping[str, Any]) -> Reply:
    """Forget the block, if there is one."""
    _keep(call, here(call, params).name, None)
    return Reply({}, status=204)


def _keep(call: Call, name: str, block: Mapping[str, bool] | None) -> None:
    if not call.rooms.store.buckets.set_access_block(name, block):
        raise faults.no_such_bucket(name)


def _always(answer: Mapping[str, Any]) -> Operation:
    """An operation that finds nothing configured and says so with this answer."""

    def operation(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
        here(call, params)
        return answer

    return operation


def _missing(code: str, message: str) -> Operation:
    """An operation that finds nothing configured and says so with this error."""

    def operation(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
        raise faults.not_configured(code, message, here(call, params).name)

    return operation


UNCONFIGURED: Final[Mapping[str, Operation]] = {
    **{name: _always({}) for name in EMPTY},
    **{name: _always({"IsTruncated": False}) for name in NO_LISTS},
    **{name: _missing(*words) for name, words in MISSING.items()},
}
"""Every operation about a thing that buckets here never have."""
