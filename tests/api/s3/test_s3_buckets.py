"""Buckets through boto3: names, regions, owners, policies, tags and the public access block."""

import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from botocore.exceptions import ClientError

from outcrop.objects.naming import owner_id
from tests.api.s3.conftest import Refused
from tests.api.s3.server import ACCOUNT, S3Server


def fresh() -> str:
    return f"test-{uuid4().hex[:20]}"


@pytest.mark.parametrize(
    "name",
    ["has_underscore", "Upper", "192.168.5.4", "two..dots", "-first", "xn--name", "amzn-s3-demo-x", "ends-s3alias"],
)
def test_names_that_break_the_rules_make_no_bucket(client: Any, refused: Refused, name: str) -> None:
    error = refused(400, "InvalidBucketName", client.create_bucket, Bucket=name)
    assert error["BucketName"] == name
    assert error["Message"] == "The specified bucket is not valid."


def test_creating_again_is_fine_in_the_first_region_only(server: S3Server, client: Any, refused: Refused) -> None:
    name = fresh()
    assert client.create_bucket(Bucket=name)["Location"] == f"/{name}"
    client.put_object(Bucket=name, Key="k", Body=b"kept")
    assert client.create_bucket(Bucket=name)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert client.get_object(Bucket=name, Key="k")["Body"].read() == b"kept"
    west, name = server.client("us-west-2"), fresh()
    place = {"LocationConstraint": "us-west-2"}
    west.create_bucket(Bucket=name, CreateBucketConfiguration=place)
    error = refused(409, "BucketAlreadyOwnedByYou", west.create_bucket, Bucket=name, CreateBucketConfiguration=place)
    assert error["BucketName"] == name
    refused(409, "BucketAlreadyOwnedByYou", client.create_bucket, Bucket=name)


def test_the_location_constraint_is_held_against_the_region_of_the_request(
    server: S3Server, client: Any, refused: Refused
) -> None:
    west, name = server.client("us-west-2"), fresh()

    def constrained(region: str) -> dict[str, Any]:
        return {"Bucket": name, "CreateBucketConfiguration": {"LocationConstraint": region}}

    error = refused(400, "IllegalLocationConstraintException", west.create_bucket, Bucket=name)
    assert error["Message"].startswith("The unspecified location constraint is incompatible")
    error = refused(400, "IllegalLocationConstraintException", west.create_bucket, **constrained("eu-west-1"))
    assert error["Message"].startswith("The eu-west-1 location constraint is incompatible")
    refused(400, "InvalidLocationConstraint", client.create_bucket, **constrained("us-east-1"))
    refused(400, "InvalidLocationConstraint", client.create_bucket, **constrained("moon-1"))
    client.create_bucket(**constrained("EU"))
    assert client.get_bucket_location(Bucket=name)["LocationConstraint"] == "eu-west-1"
    assert client.head_bucket(Bucket=name)["BucketRegion"] == "eu-west-1"


def test_a_client_of_another_region_is_redirected(server: S3Server) -> None:
    west, name = server.client("us-west-2"), fresh()
    west.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    # A fresh client each time: a client remembers where a bucket is.
    server.client().put_object(Bucket=name, Key="k", Body=b"far")
    assert server.client().get_object(Bucket=name, Key="k")["Body"].read() == b"far"
    assert server.client().head_object(Bucket=name, Key="k")["ContentLength"] == 3
    assert server.client().get_bucket_location(Bucket=name)["LocationConstraint"] == "us-west-2"
    # A URL of version 2, boto3's default for an endpoint of one's own, names no region.
    url = server.client().generate_presigned_url("get_object", Params={"Bucket": name, "Key": "k"})
    assert "X-Amz-Credential" not in url
    assert httpx.get(url).content == b"far"


def test_a_request_signed_for_the_wrong_region_is_told_the_right_one(server: S3Server) -> None:
    west, name = server.client("us-west-2"), fresh()
    west.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    seen = []
    east = server.client()
    east.meta.events.register("after-call.s3", lambda parsed, **_: seen.append(parsed))
    east.meta.events.register("needs-retry.s3.ListObjectsV2", lambda response, **_: seen.append(response[1]))
    east.list_objects_v2(Bucket=name)
    error = next(one["Error"] for one in seen if "Error" in one)
    assert error["Code"] == "AuthorizationHeaderMalformed"
    assert error["Region"] == "us-west-2"
    assert error["Message"] == (
        "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'us-west-2'"
    )


def test_a_bucket_goes_only_when_it_is_empty(client: Any, refused: Refused, bucket: str, server: S3Server) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"")
    error = refused(409, "BucketNotEmpty", client.delete_bucket, Bucket=bucket)
    assert error["Message"] == "The bucket you tried to delete is not empty"
    client.delete_object(Bucket=bucket, Key="k")
    upload = client.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    client.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"under way")
    before = blobs(server)
    assert client.delete_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert blobs(server) == before - 1
    refused(404, "NoSuchBucket", client.delete_bucket, Bucket=bucket)
    error = refused(404, "NoSuchBucket", client.list_objects_v2, Bucket=bucket)
    assert (error["Message"], error["BucketName"]) == ("The specified bucket does not exist", bucket)
    refused(404, "404", client.head_bucket, Bucket=bucket)


def blobs(server: S3Server) -> int:
    return sum(1 for path in (server.root / "buckets").glob("*/*") if path.is_file())


def test_list_buckets_pages_by_prefix_and_region(client: Any, server: S3Server) -> None:
    start = fresh()
    names = [f"{start}-{number}" for number in range(5)]
    for name in names[:4]:
        client.create_bucket(Bucket=name)
    client.create_bucket(Bucket=names[4], CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    paginator = client.get_paginator("list_buckets")
    pages = list(paginator.paginate(Prefix=start, PaginationConfig={"PageSize": 2}))
    assert [one["Name"] for page in pages for one in page["Buckets"]] == names
    assert len(pages) == 3
    assert pages[0]["Prefix"] == start
    only = client.list_buckets(Prefix=start, BucketRegion="us-west-2")["Buckets"]
    assert [(one["Name"], one["BucketRegion"]) for one in only] == [(names[4], "us-west-2")]
    plain = client.list_buckets()
    assert set(names) <= {one["Name"] for one in plain["Buckets"]}
    assert plain["Owner"]["ID"] == owner_id(ACCOUNT)
    assert "BucketRegion" not in plain["Buckets"][0]


def test_the_expected_owner_is_checked(client: Any, bucket: str, refused: Refused) -> None:
    assert client.list_objects_v2(Bucket=bucket, ExpectedBucketOwner=ACCOUNT)["KeyCount"] == 0
    refused(403, "AccessDenied", client.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="111111111111")


def test_what_a_bucket_cannot_be_is_refused(client: Any, refused: Refused) -> None:
    name = fresh()
    create = client.create_bucket
    refused(400, "InvalidBucketAclWithObjectOwnership", create, Bucket=name, ACL="public-read")
    error = refused(501, "NotImplemented", create, Bucket=name, ObjectLockEnabledForBucket=True)
    assert error["Header"] == "x-amz-bucket-object-lock-enabled"
    refused(501, "NotImplemented", create, Bucket=name, ObjectOwnership="ObjectWriter")
    refused(404, "404", client.head_bucket, Bucket=name)
    create(Bucket=name, ACL="private", ObjectOwnership="BucketOwnerEnforced")


def test_tags_of_a_bucket(client: Any, bucket: str, refused: Refused) -> None:
    error = refused(404, "NoSuchTagSet", client.get_bucket_tagging, Bucket=bucket)
    assert error["Message"] == "The TagSet does not exist"
    pairs = [{"Key": "team", "Value": "ml"}, {"Key": "費用", "Value": "研究"}]
    client.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pairs})
    assert client.get_bucket_tagging(Bucket=bucket)["TagSet"] == pairs
    twice = {"TagSet": [pairs[0], pairs[0]]}
    error = refused(400, "InvalidTag", client.put_bucket_tagging, Bucket=bucket, Tagging=twice)
    assert error["Message"] == "Cannot provide multiple Tags with the same key"
    system = {"TagSet": [{"Key": "aws:x", "Value": ""}]}
    refused(400, "InvalidTag", client.put_bucket_tagging, Bucket=bucket, Tagging=system)
    many = {"TagSet": [{"Key": f"k{number}", "Value": ""} for number in range(51)]}
    refused(400, "BadRequest", client.put_bucket_tagging, Bucket=bucket, Tagging=many)
    client.delete_bucket_tagging(Bucket=bucket)
    refused(404, "NoSuchTagSet", client.get_bucket_tagging, Bucket=bucket)


def public(bucket: str, **more: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/*",
        **more,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def test_a_policy_is_kept_as_it_came_and_obeyed(client: Any, bucket: str, refused: Refused, server: S3Server) -> None:
    error = refused(404, "NoSuchBucketPolicy", client.get_bucket_policy, Bucket=bucket)
    assert error["Message"] == "The bucket policy does not exist"
    refused(404, "NoSuchBucketPolicy", client.get_bucket_policy_status, Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"seen by all")
    anybody = server.client(anonymous=True)
    refused(403, "AccessDenied", anybody.get_object, Bucket=bucket, Key="k")
    client.put_bucket_policy(Bucket=bucket, Policy=public(bucket))
    assert client.get_bucket_policy(Bucket=bucket)["Policy"] == public(bucket)
    assert client.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    assert anybody.get_object(Bucket=bucket, Key="k")["Body"].read() == b"seen by all"
    # Without s3:ListBucket one is not told that a key holds nothing.
    refused(403, "AccessDenied", anybody.get_object, Bucket=bucket, Key="nothing")
    refused(400, "InvalidRequest", anybody.get_object, Bucket=bucket, Key="k", ResponseContentType="text/html")
    client.delete_bucket_policy(Bucket=bucket)
    refused(403, "AccessDenied", anybody.get_object, Bucket=bucket, Key="k")


def test_a_policy_with_a_fixed_condition_is_not_public(client: Any, bucket: str) -> None:
    def status(**condition: Any) -> bool:
        client.put_bucket_policy(Bucket=bucket, Policy=public(bucket, Condition=condition))
        return bool(client.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"])

    assert not status(IpAddress={"aws:SourceIp": ["10.0.0.0/8", "2001:db8::/32"]})
    assert status(IpAddress={"aws:SourceIp": ["0.0.0.0/0"]})
    assert not status(StringEquals={"aws:SourceAccount": ACCOUNT})
    assert status(StringLike={"aws:SourceAccount": "1*"})
    assert status(StringNotEquals={"aws:SourceAccount": ACCOUNT})


@pytest.mark.parametrize(
    "policy", ["no json", "{}", '{"Version": "2012-10-17", "Statement": []}', public("another-bucket")]
)
def test_what_is_no_policy_of_this_bucket_is_refused(client: Any, bucket: str, refused: Refused, policy: str) -> None:
    refused(400, "MalformedPolicy", client.put_bucket_policy, Bucket=bucket, Policy=policy)
    refused(404, "NoSuchBucketPolicy", client.get_bucket_policy, Bucket=bucket)


def test_a_policy_of_more_than_20_kb_is_refused(client: Any, bucket: str, refused: Refused) -> None:
    policy = public(bucket, Sid="x" * 20_480)
    refused(400, "PolicyTooLarge", client.put_bucket_policy, Bucket=bucket, Policy=policy)


def test_the_public_access_block_blocks(client: Any, bucket: str, refused: Refused, server: S3Server) -> None:
    refused(404, "NoSuchPublicAccessBlockConfiguration", client.get_public_access_block, Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"1")
    client.put_bucket_policy(Bucket=bucket, Policy=public(bucket))
    anybody = server.client(anonymous=True)
    anybody.get_object(Bucket=bucket, Key="k")["Body"].close()
    block = {"RestrictPublicBuckets": True, "BlockPublicPolicy": True}
    client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
    got = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert got == {"BlockPublicAcls": False, "IgnorePublicAcls": False, **block}
    refused(403, "AccessDenied", anybody.get_object, Bucket=bucket, Key="k")
    error = refused(403, "AccessDenied", client.put_bucket_policy, Bucket=bucket, Policy=public(bucket))
    assert "public policies are blocked by the BlockPublicPolicy" in error["Message"]
    client.delete_public_access_block(Bucket=bucket)
    anybody.get_object(Bucket=bucket, Key="k")["Body"].close()


def test_other_peoples_mistakes_do_not_reach_the_log(server: S3Server, client: Any) -> None:
    with pytest.raises(ClientError):
        client.get_object(Bucket="no-such-bucket-anywhere", Key="k")
    assert "Traceback" not in server.log()
