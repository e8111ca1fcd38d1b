"""What was never set on a bucket is told as AWS tells it, and what would be ignored is not accepted."""

from typing import Any

import pytest

from tests.api.s3.conftest import Refused

MISSING = {
    "get_bucket_cors": "NoSuchCORSConfiguration",
    "get_bucket_encryption": "ServerSideEncryptionConfigurationNotFoundError",
    "get_bucket_lifecycle_configuration": "NoSuchLifecycleConfiguration",
    "get_bucket_lifecycle": "NoSuchLifecycleConfiguration",
    "get_bucket_policy": "NoSuchBucketPolicy",
    "get_bucket_replication": "ReplicationConfigurationNotFoundError",
    "get_bucket_tagging": "NoSuchTagSet",
    "get_bucket_website": "NoSuchWebsiteConfiguration",
    "get_object_lock_configuration": "ObjectLockConfigurationNotFoundError",
    "get_public_access_block": "NoSuchPublicAccessBlockConfiguration",
}

EMPTY: dict[str, dict[str, Any]] = {
    "get_bucket_versioning": {},
    "get_bucket_logging": {},
    "get_bucket_accelerate_configuration": {},
    "get_bucket_notification_configuration": {},
    "get_bucket_request_payment": {"Payer": "BucketOwner"},
    "get_bucket_ownership_controls": {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
    "list_bucket_analytics_configurations": {"IsTruncated": False},
    "list_bucket_inventory_configurations": {"IsTruncated": False},
    "list_bucket_metrics_configurations": {"IsTruncated": False},
    "list_bucket_intelligent_tiering_configurations": {"IsTruncated": False},
}


@pytest.mark.parametrize(("operation", "code"), MISSING.items())
def test_what_is_not_there_is_an_error_of_its_own(
    client: Any, bucket: str, refused: Refused, operation: str, code: str
) -> None:
    error = refused(404, code, getattr(client, operation), Bucket=bucket)
    assert error["BucketName"] == bucket
    refused(404, "NoSuchBucket", getattr(client, operation), Bucket=f"{bucket}-gone")


@pytest.mark.parametrize(("operation", "answer"), EMPTY.items())
def test_what_is_not_there_is_an_empty_answer(
    client: Any, bucket: str, refused: Refused, operation: str, answer: dict[str, Any]
) -> None:
    told = getattr(client, operation)(Bucket=bucket)
    told.pop("ResponseMetadata")
    assert told == answer
    refused(404, "NoSuchBucket", getattr(client, operation), Bucket=f"{bucket}-gone")


def test_configurations_by_id_are_not_there(client: Any, bucket: str, refused: Refused) -> None:
    for kind in ("analytics", "inventory", "metrics", "intelligent_tiering"):
        operation = getattr(client, f"get_bucket_{kind}_configuration")
        refused(404, "NoSuchConfiguration", operation, Bucket=bucket, Id="x")


def test_the_owner_has_full_control(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    for told in (client.get_bucket_acl(Bucket=bucket), client.get_object_acl(Bucket=bucket, Key="k")):
        (grant,) = told["Grants"]
        assert grant["Permission"] == "FULL_CONTROL"
        assert grant["Grantee"] == {"Type": "CanonicalUser", "ID": told["Owner"]["ID"]}


def test_what_would_be_ignored_is_not_accepted(client: Any, bucket: str, refused: Refused) -> None:
    versioning = {"Status": "Enabled"}
    refused(501, "NotImplemented", client.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=versioning)
    cors = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    refused(501, "NotImplemented", client.put_bucket_cors, Bucket=bucket, CORSConfiguration=cors)
    assert "Status" not in client.get_bucket_versioning(Bucket=bucket)


def test_there_are_no_locks(client: Any, bucket: str, refused: Refused) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    refused(400, "InvalidRequest", client.get_object_retention, Bucket=bucket, Key="k")
    refused(400, "InvalidRequest", client.get_object_legal_hold, Bucket=bucket, Key="k")
