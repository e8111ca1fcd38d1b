"""Copies through boto3: bytes, attributes, conditions, and the right to read the source."""

import base64
import hashlib
import json
import os
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.api.s3.conftest import Refused
from tests.api.s3.server import S3Server

HOUR = timedelta(hours=1)


@pytest.fixture
def source(client: Any, bucket: str) -> dict[str, str]:
    client.put_object(
        Bucket=bucket,
        Key="dir/源 +%.bin",
        Body=b"source",
        ContentType="text/plain",
        Metadata={"kept": "yes"},
        Tagging="a=b",
    )
    return {"Bucket": bucket, "Key": "dir/源 +%.bin"}


def test_a_copy_has_bytes_attributes_and_tags(client: Any, bucket: str, source: dict[str, str]) -> None:
    told = client.copy_object(Bucket=bucket, Key="copy", CopySource=source)["CopyObjectResult"]
    got = client.get_object(Bucket=bucket, Key="copy")
    assert got["Body"].read() == b"source"
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("text/plain", {"kept": "yes"}, 1)
    assert told["ETag"] == got["ETag"] == f'"{hashlib.md5(b"source").hexdigest()}"'
    assert told["ChecksumCRC32"] == base64.b64encode(zlib.crc32(b"source").to_bytes(4, "big")).decode()
    # The copy stands on its own.
    client.delete_object(**source)
    assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"source"


def test_what_is_replaced_is_replaced(client: Any, bucket: str, source: dict[str, str]) -> None:
    client.copy_object(
        Bucket=bucket,
        Key="copy",
        CopySource=source,
        MetadataDirective="REPLACE",
        Metadata={"new": "1"},
        TaggingDirective="REPLACE",
        Tagging="c=d",
    )
    got = client.head_object(Bucket=bucket, Key="copy")
    assert (got["ContentType"], got["Metadata"]) == ("binary/octet-stream", {"new": "1"})
    assert client.get_object_tagging(Bucket=bucket, Key="copy")["TagSet"] == [{"Key": "c", "Value": "d"}]


def test_a_copy_onto_itself_must_change_something(
    client: Any, bucket: str, source: dict[str, str], refused: Refused
) -> None:
    copy = client.copy_object
    error = refused(400, "InvalidRequest", copy, **source, CopySource=source)
    assert error["Message"].startswith("This copy request is illegal because it is trying to copy an object to itself")
    copy(**source, CopySource=source, MetadataDirective="REPLACE", Metadata={"new": "1"})
    assert client.head_object(**source)["Metadata"] == {"new": "1"}
    assert client.get_object(**source)["Body"].read() == b"source"


def test_a_copy_with_another_checksum(client: Any, bucket: str, source: dict[str, str]) -> None:
    told = client.copy_object(Bucket=bucket, Key="copy", CopySource=source, ChecksumAlgorithm="SHA256")
    want = base64.b64encode(hashlib.sha256(b"source").digest()).decode()
    assert told["CopyObjectResult"]["ChecksumSHA256"] == want
    assert client.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")["ChecksumSHA256"] == want


def test_conditions_on_source_and_target(client: Any, bucket: str, source: dict[str, str], refused: Refused) -> None:
    etag = client.head_object(**source)["ETag"]
    now = datetime.now(UTC)

    def copy(**conditions: Any) -> Any:
        return client.copy_object(Bucket=bucket, Key="copy", CopySource=source, **conditions)

    copy(CopySourceIfMatch=etag, CopySourceIfUnmodifiedSince=now - HOUR)
    copy(CopySourceIfNoneMatch='"other"')
    copy(CopySourceIfModifiedSince=now - HOUR)
    refused(412, "PreconditionFailed", copy, CopySourceIfMatch='"other"')
    refused(412, "PreconditionFailed", copy, CopySourceIfNoneMatch=etag)
    refused(412, "PreconditionFailed", copy, CopySourceIfModifiedSince=now + HOUR)
    refused(412, "PreconditionFailed", copy, CopySourceIfUnmodifiedSince=now - HOUR)
    refused(412, "PreconditionFailed", copy, IfNoneMatch="*")


def test_sources_that_are_none(client: Any, bucket: str, refused: Refused) -> None:
    def copy(text: str) -> Any:
        return client.copy_object(Bucket=bucket, Key="copy", CopySource=text)

    refused(404, "NoSuchKey", lambda: copy(f"{bucket}/none"))
    refused(404, "NoSuchBucket", lambda: copy(f"{bucket}-none/k"))
    refused(400, "InvalidArgument", lambda: copy(bucket))
    refused(404, "NoSuchKey", lambda: copy(f"{bucket}/k?versionId=null"))


def test_a_multipart_source_becomes_one_piece(client: Any, bucket: str, tmp_path: Any) -> None:
    content = os.urandom(9_000_000)
    (tmp_path / "big").write_bytes(content)
    client.upload_file(str(tmp_path / "big"), bucket, "big")
    assert client.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-2"')
    client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "big"})
    got = client.get_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
    assert got["Body"].read() == content
    assert (got["ETag"], got["ChecksumType"]) == (f'"{hashlib.md5(content).hexdigest()}"', "FULL_OBJECT")


def test_copies_cross_regions(server: S3Server, client: Any, bucket: str, source: dict[str, str]) -> None:
    west, name = server.client("us-west-2"), f"{bucket}-w"
    west.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    west.copy_object(Bucket=name, Key="copy", CopySource=source)
    assert west.get_object(Bucket=name, Key="copy")["Body"].read() == b"source"


def test_the_source_must_be_readable(server: S3Server, client: Any, bucket: str, refused: Refused) -> None:
    """Whoever may write to one bucket does not read another one by copying from it."""
    client.put_object(Bucket=bucket, Key="secret", Body=b"secret")
    other = f"{bucket}-o"
    client.create_bucket(Bucket=other)
    allow = {"Effect": "Allow", "Principal": "*", "Action": ["s3:*"], "Resource": [f"arn:aws:s3:::{other}/*"]}
    client.put_bucket_policy(Bucket=other, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    anybody, source = server.client(anonymous=True), {"Bucket": bucket, "Key": "secret"}
    refused(403, "AccessDenied", anybody.copy_object, Bucket=other, Key="copy", CopySource=source)
    upload = anybody.create_multipart_upload(Bucket=other, Key="copy")["UploadId"]
    part = {"Bucket": other, "Key": "copy", "UploadId": upload, "PartNumber": 1, "CopySource": source}
    refused(403, "AccessDenied", anybody.upload_part_copy, **part)
    assert client.list_objects_v2(Bucket=other)["KeyCount"] == 0
