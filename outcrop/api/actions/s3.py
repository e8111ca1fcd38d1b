"""Actions on buckets and objects.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3".
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

from outcrop.api.actions.need import Need, Target, Values


def all_buckets(_target: Target) -> str:
    """What ListAllMyBuckets is asked for."""
    return "arn:aws:s3:::*"


def bucket(target: Target) -> str:
    """The bucket."""
    return f"arn:aws:s3:::{target.params['Bucket']}"


def entry(target: Target) -> str:
    """The object."""
    return f"arn:aws:s3:::{target.params['Bucket']}/{target.params['Key']}"


def listing(target: Target) -> Values:
    """s3:prefix, s3:delimiter, s3:max-keys, as far as they were sent."""
    members = {"s3:prefix": "Prefix", "s3:delimiter": "Delimiter", "s3:max-keys": "MaxKeys"}
    return {key: str(target.params[name]) for key, name in members.items() if target.params.get(name) is not None}


def location(target: Target) -> Values:
    """s3:LocationConstraint of a new bucket."""
    constraint = (target.params.get("CreateBucketConfiguration") or {}).get("LocationConstraint")
    return {"s3:LocationConstraint": constraint} if constraint else {}


def object_tags(target: Target) -> Values:
    """s3:RequestObjectTag/… of tags that come with an object: in a header (text) or as TagSet."""
    tagging = target.params.get("Tagging") or {}
    if isinstance(tagging, str):
        pairs = dict(parse_qsl(tagging, keep_blank_values=True))
    else:
        pairs = {tag["Key"]: tag["Value"] for tag in tagging.get("TagSet", [])}
    if not pairs:
        return {}
    return {f"s3:RequestObjectTag/{key}": value for key, value in pairs.items()} | {
        "s3:RequestObjectTagKeys": list(pairs)
    }


def written(target: Target) -> Values:
    """Of a new object: its tags, and s3:x-amz-server-side-encryption as it was sent, which policies like to demand."""
    encryption = target.params.get("ServerSideEncryption")
    return {**object_tags(target), **({"s3:x-amz-server-side-encryption": encryption} if encryption else {})}


def _bucket_needs(**actions: str) -> dict[str, tuple[Need, ...]]:
    """Operations that need one action on the bucket."""
    return {operation: (Need(action, bucket),) for operation, action in actions.items()}


LIST_BUCKET: Final = (Need("s3:ListBucket", bucket, listing),)
PUT_OBJECT: Final = (
    Need("s3:PutObject", entry, written),
    Need("s3:PutObjectTagging", entry, object_tags, when="Tagging"),
    Need("s3:PutObjectAcl", entry, when="ACL"),
)
S3: Final[Mapping[str, tuple[Need, ...]]] = {
    "ListBuckets": (Need("s3:ListAllMyBuckets", all_buckets),),
    "CreateBucket": (Need("s3:CreateBucket", bucket, location),),
    "HeadBucket": LIST_BUCKET,
    "ListObjects": LIST_BUCKET,
    "ListObjectsV2": LIST_BUCKET,
    "ListObjectVersions": (Need("s3:ListBucketVersions", bucket, listing),),
    "ListMultipartUploads": (Need("s3:ListBucketMultipartUploads", bucket, listing),),
    "GetObject": (Need("s3:GetObject", entry),),
    "HeadObject": (Need("s3:GetObject", entry),),
    "GetObjectAttributes": (Need("s3:GetObject", entry), Need("s3:GetObjectAttributes", entry)),
    "GetObjectAcl": (Need("s3:GetObjectAcl", entry),),
    "GetObjectTagging": (Need("s3:GetObjectTagging", entry),),
    "GetObjectLegalHold": (Need("s3:GetObjectLegalHold", entry),),
    "GetObjectRetention": (Need("s3:GetObjectRetention", entry),),
    "PutObject": PUT_OBJECT,
    # The source of a copy is another object, whose reading the operation itself asks for.
    "CopyObject": PUT_OBJECT,
    "CreateMultipartUpload": PUT_OBJECT,
    "UploadPart": (Need("s3:PutObject", entry),),
    "UploadPartCopy": (Need("s3:PutObject", entry),),
    "CompleteMultipartUpload": (Need("s3:PutObject", entry),),
    "AbortMultipartUpload": (Need("s3:AbortMultipartUpload", entry),),
    "ListParts": (Need("s3:ListMultipartUploadParts", entry),),
    "PutObjectAcl": (Need("s3:PutObjectAcl", entry),),
    "PutObjectTagging": (Need("s3:PutObjectTagging", entry, object_tags),),
    "DeleteObjectTagging": (Need("s3:DeleteObjectTagging", entry),),
    "DeleteObject": (Need("s3:DeleteObject", entry),),
    # Each key has an answer of its own, so the operation asks for each.
    "DeleteObjects": (),
    **_bucket_needs(
        DeleteBucket="s3:DeleteBucket",
        GetBucketLocation="s3:GetBucketLocation",
        GetBucketPolicy="s3:GetBucketPolicy",
        PutBucketPolicy="s3:PutBucketPolicy",
        DeleteBucketPolicy="s3:DeleteBucketPolicy",
        GetBucketPolicyStatus="s3:GetBucketPolicyStatus",
        GetBucketTagging="s3:GetBucketTagging",
        PutBucketTagging="s3:PutBucketTagging",
        DeleteBucketTagging="s3:PutBucketTagging",
        GetPublicAccessBlock="s3:GetBucketPublicAccessBlock",
        PutPublicAccessBlock="s3:PutBucketPublicAccessBlock",
        DeletePublicAccessBlock="s3:PutBucketPublicAccessBlock",
        GetBucketAcl="s3:GetBucketAcl",
        PutBucketAcl="s3:PutBucketAcl",
        GetBucketVersioning="s3:GetBucketVersioning",
        PutBucketVersioning="s3:PutBucketVersioning",
        GetBucketCors="s3:GetBucketCORS",
        PutBucketCors="s3:PutBucketCORS",
        DeleteBucketCors="s3:PutBucketCORS",
        GetBucketEncryption="s3:GetEncryptionConfiguration",
        PutBucketEncryption="s3:PutEncryptionConfiguration",
        DeleteBucketEncryption="s3:PutEncryptionConfiguration",
        GetBucketLifecycle="s3:GetLifecycleConfiguration",
        GetBucketLifecycleConfiguration="s3:GetLifecycleConfiguration",
        PutBucketLifecycleConfiguration="s3:PutLifecycleConfiguration",
        DeleteBucketLifecycle="s3:PutLifecycleConfiguration",
        GetBucketLogging="s3:GetBucketLogging",
        GetBucketWebsite="s3:GetBucketWebsite",
        DeleteBucketWebsite="s3:DeleteBucketWebsite",
        GetBucketReplication="s3:GetReplicationConfiguration",
        DeleteBucketReplication="s3:PutReplicationConfiguration",
        GetBucketRequestPayment="s3:GetBucketRequestPayment",
        GetBucketAccelerateConfiguration="s3:GetAccelerateConfiguration",
        GetObjectLockConfiguration="s3:GetBucketObjectLockConfiguration",
        GetBucketOwnershipControls="s3:GetBucketOwnershipControls",
        PutBucketOwnershipControls="s3:PutBucketOwnershipControls",
        DeleteBucketOwnershipControls="s3:PutBucketOwnershipControls",
        GetBucketNotification="s3:GetBucketNotification",
        GetBucketNotificationConfiguration="s3:GetBucketNotification",
        PutBucketNotificationConfiguration="s3:PutBucketNotification",
        GetBucketAnalyticsConfiguration="s3:GetAnalyticsConfiguration",
        ListBucketAnalyticsConfigurations="s3:GetAnalyticsConfiguration",
        GetBucketIntelligentTieringConfiguration="s3:GetIntelligentTieringConfiguration",
        ListBucketIntelligentTieringConfigurations="s3:GetIntelligentTieringConfiguration",
        GetBucketInventoryConfiguration="s3:GetInventoryConfiguration",
        ListBucketInventoryConfigurations="s3:GetInventoryConfiguration",
        GetBucketMetricsConfiguration="s3:GetMetricsConfiguration",
        ListBucketMetricsConfigurations="s3:GetMetricsConfiguration",
    ),
}
