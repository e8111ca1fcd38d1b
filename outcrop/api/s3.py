"""Every S3 operation that is answered, as one literal table; any other one answers as unknown."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from outcrop.api import bucket_settings, buckets, copies, listing, multipart, object_tags, objects
from outcrop.api.call import Call
from outcrop.wire.gateway import Reply

OPERATIONS: Final[Mapping[str, Callable[[Call, Mapping[str, Any]], Mapping[str, Any] | Reply]]] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "CopyObject": copies.copy_object,
    "CreateBucket": buckets.create_bucket,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "DeleteBucket": buckets.delete_bucket,
    "DeleteBucketPolicy": buckets.delete_bucket_policy,
    "DeleteBucketTagging": buckets.delete_bucket_tagging,
    "DeleteObject": objects.delete_object,
    "DeleteObjectTagging": object_tags.delete_object_tagging,
    "DeleteObjects": objects.delete_objects,
    "DeletePublicAccessBlock": bucket_settings.delete_public_access_block,
    "GetBucketAcl": bucket_settings.get_bucket_acl,
    "GetBucketLocation": buckets.get_bucket_location,
    "GetBucketOwnershipControls": bucket_settings.get_bucket_ownership_controls,
    "GetBucketPolicy": buckets.get_bucket_policy,
    "GetBucketPolicyStatus": buckets.get_bucket_policy_status,
    "GetBucketRequestPayment": bucket_settings.get_bucket_request_payment,
    "GetBucketTagging": buckets.get_bucket_tagging,
    "GetObject": objects.get_object,
    "GetObjectAcl": object_tags.get_object_acl,
    "GetObjectAttributes": objects.get_object_attributes,
    "GetObjectLegalHold": object_tags.no_lock,
    "GetObjectRetention": object_tags.no_lock,
    "GetObjectTagging": object_tags.get_object_tagging,
    "GetPublicAccessBlock": bucket_settings.get_public_access_block,
    "HeadBucket": buckets.head_bucket,
    "HeadObject": objects.head_object,
    "ListBuckets": buckets.list_buckets,
    "ListMultipartUploads": listing.list_multipart_uploads,
    "ListObjectVersions": listing.list_object_versions,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListParts": multipart.list_parts,
    "PutBucketPolicy": buckets.put_bucket_policy,
    "PutBucketTagging": buckets.put_bucket_tagging,
    "PutObject": objects.put_object,
    "PutObjectTagging": object_tags.put_object_tagging,
    "PutPublicAccessBlock": bucket_settings.put_public_access_block,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": multipart.upload_part_copy,
    **bucket_settings.UNCONFIGURED,
}

UPLOADS: Final[Mapping[str, Callable[[Call, Mapping[str, Any]], None]]] = {
    "PutObject": objects.check_put,
    "UploadPart": multipart.check_part,
}
"""What is asked of an upload before its body is read."""
