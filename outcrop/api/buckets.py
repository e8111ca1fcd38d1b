"""Buckets: made, looked at, deleted, listed; their policies, tags and public access block.

Knows the call and the store. What was never set on a bucket is told in bucket_settings.py.
"""

from collections.abc import Mapping
from typing import Any, Final

import botocore.session

from outcrop.api.call import Call
from outcrop.objects import faults
from outcrop.objects.naming import (
    BUCKET_TAGS,
    check_bucket_name,
    check_new_bucket_name,
    owner_id,
    tag_set,
    tags_of,
)
from outcrop.objects.records import Bucket
from outcrop.policy.document import MalformedPolicy, read_bucket_policy
from outcrop.policy.public import is_public
from outcrop.wire.gateway import Reply

FIRST_REGION: Final = "us-east-1"
LIST_LIMIT: Final = 10_000
"""Buckets in one answer; ListBuckets' MaxBuckets goes no higher."""

POLICY_BYTES: Final = 20 * 1024
"""Bucket policies are limited to 20 KB (S3 User Guide, "Policies and permissions in Amazon S3")."""


def bucket_arn(name: str) -> str:
    """ARN of a bucket, as policies write it."""
    return f"arn:aws:s3:::{name}"


def owner(call: Call) -> dict[str, str]:
    """The account as S3 names it."""
    return {"ID": owner_id(call.rooms.account)}


def standing(bucket: Bucket | None, name: str) -> Bucket:
    """The bucket; raises NoSuchBucket where there is none."""
    if bucket is None:
        raise faults.no_such_bucket(name)
    return bucket


def here(call: Call, params: Mapping[str, Any], *, anywhere: bool = False) -> Bucket:
    """The bucket that a request is about.

    Raises NoSuchBucket, AccessDenied for another account's expected, and AuthorizationHeaderMalformed for a request
    signed for another region than the bucket's (which SDKs follow), unless it may come from `anywhere`.
    """
    name = params["Bucket"]
    check_bucket_name(name)
    bucket = standing(call.rooms.store.buckets.get(name), name)
    check_owner(call, params.get("ExpectedBucketOwner"))
    if not anywhere and call.signed.region_named and bucket.region != call.region:
        raise faults.wrong_region(call.region, bucket.region)
    # An anonymous caller came in by the policy; a public one lets in the account's own callers only when so restricted.
    restricted = bool(bucket.access_block and bucket.access_block["RestrictPublicBuckets"])
    if restricted and call.signed.access_key is None and bucket.policy is not None and is_public(bucket.policy):
        raise faults.access_denied()
    return bucket


def check_owner(call: Call, expected: str | None) -> None:
    """Raise AccessDenied when the caller believes that a bucket is another account's."""
    if expected is not None and expected != call.rooms.account:
        raise faults.access_denied()


def create_bucket(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a bucket in the region of its location constraint, or in that of the request."""
    name = params["Bucket"]
    check_new_bucket_name(name)
    wanted = params.get("CreateBucketConfiguration", {})
    _refuse_at_create(params, wanted)
    region = _location(call.region, wanted.get("LocationConstraint"))
    tags = tags_of(wanted["Tags"], BUCKET_TAGS) if wanted.get("Tags") else None

    def check(old: Bucket | None) -> None:
        # Repeating oneself is an error everywhere but in the oldest region, where it never was one.
        if old is not None and (old.region, region) != (FIRST_REGION, FIRST_REGION):
            raise faults.already_owned(name)

    call.rooms.store.buckets.create(Bucket(name, region, call.rooms.now(), tags=tags), check)
    scheme = "https" if call.signed.secure else "http"
    location = f"/{name}" if region == FIRST_REGION else f"{scheme}://{call.signed.host}/{name}"
    return {"Location": location, "BucketArn": bucket_arn(name)}


def _refuse_at_create(params: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise for what a bucket here cannot be: shared by ACLs, locked, or of one zone."""
    if params.get("ACL", "private") != "private" or any(name.startswith("Grant") for name in params):
        raise faults.bucket_acl_not_supported()
    if params.get("ObjectOwnership", "BucketOwnerEnforced") != "BucketOwnerEnforced":
        raise faults.not_implemented("x-amz-object-ownership")
    if params.get("ObjectLockEnabledForBucket"):
        raise faults.not_implemented("x-amz-bucket-object-lock-enabled")
    if params.get("BucketNamespace", "global") != "global":
        raise faults.not_implemented("x-amz-bucket-namespace")
    if "Location" in wanted or "Bucket" in wanted:
        raise faults.not_implemented("CreateBucketConfiguration.Location")


def _location(signed_for: str, constraint: str | None) -> str:
    """The region of a new bucket; raises S3's two errors about constraints."""
    if not constraint:
        if signed_for != FIRST_REGION:
            raise faults.incompatible_location("unspecified")
        return FIRST_REGION
    region = "eu-west-1" if constraint == "EU" else constraint
    # us-east-1 is where a bucket without a constraint goes: naming it is an error.
    if region == FIRST_REGION or region not in botocore.session.get_session().get_available_regions("s3"):
        raise faults.invalid_location(constraint)
    if signed_for not in (FIRST_REGION, region):
        raise faults.incompatible_location(constraint)
    return region


def elsewhere(call: Call, bucket: Bucket) -> Reply | None:
    """What a HEAD gets that was signed for another region than the bucket's: a header is all that it can tell."""
    if not call.signed.region_named or bucket.region == call.region:
        return None
    return Reply({}, status=400, headers={"x-amz-bucket-region": bucket.region})


def head_bucket(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any] | Reply:
    """Say that the bucket is there, and where."""
    bucket = here(call, params, anywhere=True)
    there = {"BucketRegion": bucket.region, "BucketArn": bucket_arn(bucket.name), "AccessPointAlias": False}
    return elsewhere(call, bucket) or there


def get_bucket_location(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Say where the bucket is; us-east-1 is told by saying nothing."""
    bucket = here(call, params, anywhere=True)
    return {} if bucket.region == FIRST_REGION else {"LocationConstraint": bucket.region}


def delete_bucket(call: Call, params: Mapping[str, Any]) -> Reply:
    """Delete a bucket that holds no object; uploads under way end with it."""
    name = here(call, params).name

    def check(bucket: Bucket | None, held: bool) -> None:
        standing(bucket, name)
        if held:
            raise faults.bucket_not_empty(name)

    call.rooms.disk.remove(call.rooms.store.buckets.delete(name, check))
    return Reply({}, status=204)


def list_buckets(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The account's buckets in the order of their names, of all regions unless one is asked for."""
    limit = params.get("MaxBuckets", LIST_LIMIT)
    if not 1 <= limit <= LIST_LIMIT:
        raise faults.invalid_argument(
            f"Argument max-buckets must be an integer between 1 and {LIST_LIMIT}", "max-buckets", limit
        )
    found = call.rooms.store.buckets.list(
        prefix=params.get("Prefix", ""),
        region=params.get("BucketRegion"),
        after=params.get("ContinuationToken", ""),
        limit=limit + 1,
    )
    # AWS tells the region only to callers who use one of the parameters; older ones may know no such member.
    tell_region = bool(params.keys() & {"MaxBuckets", "Prefix", "BucketRegion", "ContinuationToken"})
    answer: dict[str, Any] = {
        "Buckets": [
            {"Name": bucket.name, "CreationDate": bucket.created, "BucketArn": bucket_arn(bucket.name)}
            | ({"BucketRegion": bucket.region} if tell_region else {})
            for bucket in found[:limit]
        ],
        "Owner": owner(call),
    }
    if "Prefix" in params:
        answer["Prefix"] = params["Prefix"]
    if len(found) > limit:
        answer["ContinuationToken"] = found[limit - 1].name
    return answer


def put_bucket_policy(call: Call, params: Mapping[str, Any]) -> Reply:
    """Keep a policy that reads as one; from then on it is asked at every request for the bucket."""
    bucket = here(call, params)
    size = len(params["Policy"].encode())
    if size > POLICY_BYTES:
        raise faults.policy_too_large(size, POLICY_BYTES)
    try:
        read_bucket_policy(params["Policy"], bucket.name)
    except MalformedPolicy as fault:
        raise faults.malformed_policy(str(fault)) from fault
    if (bucket.access_block or {}).get("BlockPublicPolicy") and is_public(params["Policy"]):
        raise faults.public_policy_blocked(call.caller.arn, bucket_arn(bucket.name))
    _kept(call.rooms.store.buckets.set_policy(bucket.name, params["Policy"]), bucket)
    return Reply({}, status=204)


def get_bucket_policy(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The policy as it was put."""
    return {"Policy": _policy(here(call, params))}


def get_bucket_policy_status(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whether the policy lets everybody in."""
    return {"PolicyStatus": {"IsPublic": is_public(_policy(here(call, params)))}}


def delete_bucket_policy(call: Call, params: Mapping[str, Any]) -> Reply:
    """Forget the policy, if there is one."""
    bucket = here(call, params)
    _kept(call.rooms.store.buckets.set_policy(bucket.name, None), bucket)
    return Reply({}, status=204)


def put_bucket_tagging(call: Call, params: Mapping[str, Any]) -> Reply:
    """Replace the bucket's tags."""
    bucket = here(call, params)
    _kept(call.rooms.store.buckets.set_tags(bucket.name, tags_of(params["Tagging"]["TagSet"], BUCKET_TAGS)), bucket)
    return Reply({}, status=204)


def get_bucket_tagging(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The bucket's tags."""
    bucket = here(call, params)
    if bucket.tags is None:
        raise faults.not_configured("NoSuchTagSet", "The TagSet does not exist", bucket.name)
    return {"TagSet": tag_set(bucket.tags)}


def delete_bucket_tagging(call: Call, params: Mapping[str, Any]) -> Reply:
    """Forget the bucket's tags, if it has any."""
    bucket = here(call, params)
    _kept(call.rooms.store.buckets.set_tags(bucket.name, None), bucket)
    return Reply({}, status=204)


def _policy(bucket: Bucket) -> str:
    """The bucket's policy; raises NoSuchBucketPolicy."""
    if bucket.policy is None:
        raise faults.not_configured("NoSuchBucketPolicy", "The bucket policy does not exist", bucket.name)
    return bucket.policy


def _kept(done: bool, bucket: Bucket) -> None:
    """Raise NoSuchBucket when the bucket went away between the question and the change."""
    if not done:
        raise faults.no_such_bucket(bucket.name)
