"""Objects through boto3: put and got whole, in part and under conditions; attributes, checksums, copies, deletes."""

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from awscrt import checksums as crt
from botocore.exceptions import ClientError

from tests.api.s3.conftest import Refused
from tests.api.s3.server import S3Server

HOUR = timedelta(hours=1)


def b64(number: int, width: int = 4) -> str:
    return base64.b64encode(number.to_bytes(width, "big")).decode()


def body(answer: Mapping[str, Any]) -> bytes:
    return bytes(answer["Body"].read())


def deny(client: Any, bucket: str, action: str, keys: str, **more: Any) -> None:
    """Nobody may do that to these keys, whatever else they may."""
    statement = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": f"arn:aws:s3:::{bucket}/{keys}"}
    policy = {"Version": "2012-10-17", "Statement": [statement | more]}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def blobs(server: S3Server) -> int:
    """Files that hold objects' bytes."""
    return sum(1 for path in (server.root / "buckets").glob("*/*") if path.is_file())


def test_an_object_comes_back_as_it_went(client: Any, bucket: str) -> None:
    expires = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    said = {
        "CacheControl": "max-age=60",
        "ContentDisposition": 'attachment; filename="a.json"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "ja",
        "ContentType": "application/json",
        "WebsiteRedirectLocation": "/elsewhere",
        "Metadata": {"Source": "tests", "lower": "CaSe"},
    }
    put = client.put_object(Bucket=bucket, Key="k", Body=b"{}", Expires=expires, **said)
    assert put["ETag"] == f'"{hashlib.md5(b"{}").hexdigest()}"'
    for answer in (client.get_object(Bucket=bucket, Key="k"), client.head_object(Bucket=bucket, Key="k")):
        said["Metadata"] = {"source": "tests", "lower": "CaSe"}
        assert {name: answer[name] for name in said} == said
        assert answer["ExpiresString"] == "Tue, 06 May 2031 07:08:09 GMT"
        assert answer["ETag"] == put["ETag"]
        assert answer["ContentLength"] == 2
        assert abs(answer["LastModified"] - datetime.now(UTC)) < timedelta(minutes=1)
        assert "ServerSideEncryption" not in answer
    client.put_object(Bucket=bucket, Key="plain", Body=b"")
    plain = client.get_object(Bucket=bucket, Key="plain")
    assert (plain["ContentType"], plain["Metadata"], body(plain)) == ("binary/octet-stream", {}, b"")


@pytest.mark.parametrize(
    "key",
    ["a", "日本語/鍵.jsonl", "sp ace+plus%25&=?#", "../..//", "/lead", "trail/", "e\u0301", "𝄞", "x" * 1024, "\t\x01"],
)
def test_any_key_of_a_kilobyte_names_an_object(client: Any, bucket: str, key: str) -> None:
    client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert body(client.get_object(Bucket=bucket, Key=key)) == key.encode()
    assert [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    client.delete_object(Bucket=bucket, Key=key)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_key_of_more_is_too_long(client: Any, bucket: str, refused: Refused) -> None:
    error = refused(400, "KeyTooLongError", client.put_object, Bucket=bucket, Key="あ" * 342, Body=b"")
    assert (error["Size"], error["MaxSizeAllowed"]) == ("1026", "1024")


def test_nothing_there(client: Any, bucket: str, refused: Refused) -> None:
    error = refused(404, "NoSuchKey", client.get_object, Bucket=bucket, Key="no")
    assert (error["Message"], error["Key"]) == ("The specified key does not exist.", "no")
    refused(404, "404", client.head_object, Bucket=bucket, Key="no")
    refused(404, "NoSuchBucket", client.put_object, Bucket=f"{bucket}-no", Key="k", Body=b"")
    assert client.delete_object(Bucket=bucket, Key="no")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_user_metadata_beyond_ascii_and_beyond_its_size(
    server: S3Server, client: Any, bucket: str, refused: Refused
) -> None:
    # boto3 itself refuses what is not ASCII, so this is another client, let in by a policy.
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allow]}))
    url = f"{server.endpoint}/{bucket}/k"
    answer = httpx.put(url, content=b"", headers={b"x-amz-meta-name": "東京".encode()})
    assert answer.status_code == 200, answer.text
    assert client.head_object(Bucket=bucket, Key="k")["Metadata"] == {"name": "=?utf-8?b?5p2x5Lqs?="}
    # "name" and 2,045 bytes are one more than 2,048.
    most = {"name": "v" * 2044}
    client.put_object(Bucket=bucket, Key="k", Body=b"", Metadata=most)
    assert client.head_object(Bucket=bucket, Key="k")["Metadata"] == most
    more = {"name": "v" * 2045}
    error = refused(400, "MetadataTooLarge", client.put_object, Bucket=bucket, Key="k", Body=b"", Metadata=more)
    assert (error["Size"], error["MaxSizeAllowed"]) == ("2049", "2048")


DATA = bytes(range(100))


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-9", 0, 9),
        ("bytes=90-", 90, 99),
        ("bytes=-10", 90, 99),
        ("bytes=-1000", 0, 99),
        ("bytes=50-1000", 50, 99),
        ("bytes=99-99", 99, 99),
        ("bytes=0-", 0, 99),
    ],
)
def test_a_range_of_bytes(client: Any, bucket: str, header: str, first: int, last: int) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=DATA)
    got = client.get_object(Bucket=bucket, Key="k", Range=header, ChecksumMode="ENABLED")
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/100"
    assert got["ContentLength"] == last - first + 1
    assert body(got) == DATA[first : last + 1]
    assert "ChecksumCRC32" not in got
    head = client.head_object(Bucket=bucket, Key="k", Range=header)
    assert (head["ContentRange"], head["ContentLength"]) == (got["ContentRange"], got["ContentLength"])


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=0-1,5-6", "bytes=-", "lines=0-1", "bytes=a-b"])
def test_what_is_no_single_range_is_ignored(client: Any, bucket: str, header: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=DATA)
    got = client.get_object(Bucket=bucket, Key="k", Range=header)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], body(got)) == (200, DATA)


@pytest.mark.parametrize(
    ("content", "header"), [(DATA, "bytes=100-"), (DATA, "bytes=-0"), (b"", "bytes=0-"), (b"", "bytes=-1")]
)
def test_a_range_behind_the_end(client: Any, bucket: str, refused: Refused, content: bytes, header: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=content)
    error = refused(416, "InvalidRange", client.get_object, Bucket=bucket, Key="k", Range=header)
    assert error["Message"] == "The requested range is not satisfiable"
    assert (error["RangeRequested"], error["ActualObjectSize"]) == (header, str(len(content)))
    refused(416, "416", client.head_object, Bucket=bucket, Key="k", Range=header)


def test_conditional_reads(client: Any, bucket: str, refused: Refused) -> None:
    etag = client.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    now = datetime.now(UTC)
    for operation in (client.get_object, client.head_object):

        def read(operation: Any = operation, **conditions: Any) -> int:
            answer = operation(Bucket=bucket, Key="k", **conditions)
            return int(answer["ResponseMetadata"]["HTTPStatusCode"])

        failed = "PreconditionFailed" if operation == client.get_object else "412"
        assert read(IfMatch=etag) == 200
        assert read(IfMatch="*") == 200
        assert read(IfMatch=f'"other", {etag}') == 200
        assert read(IfNoneMatch='"other"') == 200
        assert read(IfModifiedSince=now - HOUR) == 200
        assert read(IfUnmodifiedSince=now + HOUR) == 200
        # The etag is the better witness: with it the date does not count.
        assert read(IfMatch=etag, IfUnmodifiedSince=now - HOUR) == 200
        assert read(IfNoneMatch='"other"', IfModifiedSince=now + HOUR) == 200
        refused(412, failed, read, IfMatch='"other"')
        refused(412, failed, read, IfUnmodifiedSince=now - HOUR)
        refused(304, "304", read, IfNoneMatch=etag)
        refused(304, "304", read, IfModifiedSince=now + HOUR)
        refused(304, "304", read, IfNoneMatch=etag, IfModifiedSince=now - HOUR)
    error = refused(412, "PreconditionFailed", client.get_object, Bucket=bucket, Key="k", IfMatch='"other"')
    assert error["Condition"] == "If-Match"
    assert error["Message"] == "At least one of the pre-conditions you specified did not hold"
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    headers = caught.value.response["ResponseMetadata"]["HTTPHeaders"]
    assert headers["etag"] == etag
    assert "last-modified" in headers


def test_conditional_writes(client: Any, bucket: str, refused: Refused, server: S3Server) -> None:
    put = client.put_object
    etag = put(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    error = refused(412, "PreconditionFailed", put, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*")
    assert error["Condition"] == "If-None-Match"
    refused(412, "PreconditionFailed", put, Bucket=bucket, Key="k", Body=b"2", IfMatch='"other"')
    refused(404, "NoSuchKey", put, Bucket=bucket, Key="absent", Body=b"2", IfMatch=etag)
    refused(501, "NotImplemented", put, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch=etag)
    assert body(client.get_object(Bucket=bucket, Key="k")) == b"1"
    put(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    refused(412, "PreconditionFailed", client.delete_object, Bucket=bucket, Key="k", IfMatch=etag)
    assert body(client.get_object(Bucket=bucket, Key="k")) == b"2"
    client.delete_object(Bucket=bucket, Key="k", IfMatch=f'"{hashlib.md5(b"2").hexdigest()}"')
    refused(404, "NoSuchKey", client.get_object, Bucket=bucket, Key="k")
    assert not list((server.root / "spool").iterdir())


def test_parameters_take_the_place_of_headers(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"1", ContentType="text/plain")
    got = client.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="text/html",
        ResponseContentDisposition="attachment",
        ResponseCacheControl="no-store",
        ResponseContentLanguage="en",
        ResponseContentEncoding="identity",
        ResponseExpires=datetime(2030, 1, 2, tzinfo=UTC),
    )
    assert (got["ContentType"], got["ContentDisposition"], got["CacheControl"]) == (
        "text/html",
        "attachment",
        "no-store",
    )
    assert (got["ContentLanguage"], got["ContentEncoding"]) == ("en", "identity")
    assert got["ExpiresString"] == "Wed, 02 Jan 2030 00:00:00 GMT"
    assert client.head_object(Bucket=bucket, Key="k")["ContentType"] == "text/plain"


CONTENT = b"checksummed " * 1000
SUMS = {
    "CRC32": b64(zlib.crc32(CONTENT)),
    "CRC32C": b64(crt.crc32c(CONTENT)),
    "CRC64NVME": b64(crt.crc64nvme(CONTENT), 8),
    "SHA1": base64.b64encode(hashlib.sha1(CONTENT).digest()).decode(),
    "SHA256": base64.b64encode(hashlib.sha256(CONTENT).digest()).decode(),
}


@pytest.mark.parametrize(("algorithm", "value"), SUMS.items())
def test_checksums(client: Any, bucket: str, algorithm: str, value: str) -> None:
    put = client.put_object(Bucket=bucket, Key="k", Body=CONTENT, ChecksumAlgorithm=algorithm)
    assert (put[f"Checksum{algorithm}"], put["ChecksumType"]) == (value, "FULL_OBJECT")
    head = client.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (head[f"Checksum{algorithm}"], head["ChecksumType"]) == (value, "FULL_OBJECT")
    assert f"Checksum{algorithm}" not in client.head_object(Bucket=bucket, Key="k")
    got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert body(got) == CONTENT  # which boto3 checks against the header
    asked = ["ETag", "Checksum", "StorageClass", "ObjectSize", "ObjectParts"]
    told = client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=asked)
    assert told["Checksum"] == {f"Checksum{algorithm}": value, "ChecksumType": "FULL_OBJECT"}
    assert (told["ETag"], told["ObjectSize"]) == (hashlib.md5(CONTENT).hexdigest(), len(CONTENT))
    assert told["StorageClass"] == "STANDARD"
    assert "ObjectParts" not in told
    (entry,) = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == ([algorithm], "FULL_OBJECT")


def test_without_a_checksum_s3_computes_its_own(server: S3Server, bucket: str) -> None:
    plain = server.client(request_checksum_calculation="when_required")
    put = plain.put_object(Bucket=bucket, Key="k", Body=CONTENT)
    assert put["ChecksumCRC64NVME"] == SUMS["CRC64NVME"]


def test_a_wrong_checksum_stores_nothing(server: S3Server, bucket: str, refused: Refused) -> None:
    # boto3 tries four times more after a BadDigest, with pauses.
    client = server.client(retries={"total_max_attempts": 1})
    wrong = b64(zlib.crc32(b"other"))
    refused(400, "BadDigest", client.put_object, Bucket=bucket, Key="k", Body=CONTENT, ChecksumCRC32=wrong)
    refused(404, "NoSuchKey", client.get_object, Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("member", "value", "answer"),
    [
        ("ServerSideEncryption", "aws:kms", (501, "NotImplemented")),
        ("ServerSideEncryption", "aws:kms:dsse", (501, "NotImplemented")),
        ("SSECustomerAlgorithm", "AES256", (501, "NotImplemented")),
        ("StorageClass", "GLACIER", (501, "NotImplemented")),
        ("ObjectLockMode", "GOVERNANCE", (501, "NotImplemented")),
        ("ACL", "public-read", (400, "AccessControlListNotSupported")),
        ("GrantRead", "id=abc", (400, "AccessControlListNotSupported")),
    ],
)
def test_what_would_be_ignored_is_refused(
    client: Any, bucket: str, refused: Refused, *, member: str, value: str, answer: tuple[int, str]
) -> None:
    put = {"Bucket": bucket, "Key": "k", "Body": b"", member: value}
    refused(*answer, client.put_object, **put)
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_says_the_same_as_the_default_is_taken(client: Any, bucket: str) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"", ACL="bucket-owner-full-control", StorageClass="STANDARD")


def test_the_default_encryption_may_be_asked_for_and_is_never_claimed(client: Any, bucket: str) -> None:
    asked = {"Bucket": bucket, "ServerSideEncryption": "AES256"}
    upload = client.create_multipart_upload(Key="parts", **asked)
    there = {"Bucket": bucket, "Key": "parts", "UploadId": upload["UploadId"]}
    part = client.upload_part(PartNumber=1, Body=b"3", **there)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    for answer in (
        client.put_object(Key="k", Body=b"1", **asked),
        client.copy_object(Key="copy", CopySource=f"{bucket}/k", **asked),
        upload,
        part,
        client.complete_multipart_upload(MultipartUpload=parts, **there),
        *(client.get_object(Bucket=bucket, Key=key) for key in ("k", "copy", "parts")),
        *(client.head_object(Bucket=bucket, Key=key) for key in ("k", "copy", "parts")),
    ):
        assert "ServerSideEncryption" not in answer
        assert "x-amz-server-side-encryption" not in answer["ResponseMetadata"]["HTTPHeaders"]


def test_keys_of_kms_are_refused_with_the_way_out(client: Any, bucket: str) -> None:
    with pytest.raises(ClientError, match=r"x-amz-server-side-encryption\. There are no keys of KMS here: send AES256"):
        client.put_object(Bucket=bucket, Key="k", Body=b"", ServerSideEncryption="aws:kms")


def test_a_policy_may_demand_that_encryption_is_asked_for(client: Any, bucket: str, refused: Refused) -> None:
    demand = {"StringNotEquals": {"s3:x-amz-server-side-encryption": "AES256"}}
    deny(client, bucket, "s3:PutObject", "*", Condition=demand)
    refused(403, "AccessDenied", client.put_object, Bucket=bucket, Key="k", Body=b"")
    client.put_object(Bucket=bucket, Key="k", Body=b"", ServerSideEncryption="AES256")


def test_the_only_version_is_null(client: Any, bucket: str, refused: Refused) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert body(client.get_object(Bucket=bucket, Key="k", VersionId="null")) == b"1"
    refused(404, "NoSuchVersion", client.get_object, Bucket=bucket, Key="k", VersionId="abc")
    refused(404, "NoSuchVersion", client.delete_object, Bucket=bucket, Key="k", VersionId="abc")
    client.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_tags_of_an_object(client: Any, bucket: str, refused: Refused) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"1", Tagging="team=ml&k%20y=v%26w&empty=")
    tags = client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"]
    assert {one["Key"]: one["Value"] for one in tags} == {"team": "ml", "k y": "v&w", "empty": ""}
    assert client.get_object(Bucket=bucket, Key="k")["TagCount"] == 3
    before = client.head_object(Bucket=bucket, Key="k")["LastModified"]
    client.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]})
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert client.head_object(Bucket=bucket, Key="k")["LastModified"] == before
    client.delete_object_tagging(Bucket=bucket, Key="k")
    assert client.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    assert "TagCount" not in client.head_object(Bucket=bucket, Key="k")
    many = {"TagSet": [{"Key": f"k{number}", "Value": ""} for number in range(11)]}
    error = refused(400, "BadRequest", client.put_object_tagging, Bucket=bucket, Key="k", Tagging=many)
    assert error["Message"] == "Object tags cannot be greater than 10"
    refused(404, "NoSuchKey", client.get_object_tagging, Bucket=bucket, Key="none")


def test_delete_objects(client: Any, bucket: str, refused: Refused) -> None:
    for key in "abcd":
        client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    etag = f'"{hashlib.md5(b"d").hexdigest()}"'
    wanted: list[dict[str, Any]] = [
        {"Key": "a"},
        {"Key": "none"},
        {"Key": "b", "VersionId": "null"},
        {"Key": "c", "VersionId": "no"},
        {"Key": "c", "ETag": '"other"'},
        {"Key": "d", "ETag": etag},
    ]
    told = client.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert [one["Key"] for one in told["Deleted"]] == ["a", "none", "b", "d"]
    assert [(one["Key"], one["Code"]) for one in told["Errors"]] == [
        ("c", "NoSuchVersion"),
        ("c", "PreconditionFailed"),
    ]
    assert [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["c"]
    told = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "c"}], "Quiet": True})
    assert "Deleted" not in told
    assert "Errors" not in told
    many = {"Objects": [{"Key": str(number)} for number in range(1001)]}
    refused(400, "MalformedXML", client.delete_objects, Bucket=bucket, Delete=many)


def test_delete_objects_asks_for_each_key(client: Any, bucket: str) -> None:
    deny(client, bucket, "s3:DeleteObject", "kept/*")
    for key in ("kept/a", "b"):
        client.put_object(Bucket=bucket, Key=key, Body=b"")
    told = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "kept/a"}, {"Key": "b"}]})
    assert [one["Key"] for one in told["Deleted"]] == ["b"]
    assert [(one["Key"], one["Code"]) for one in told["Errors"]] == [("kept/a", "AccessDenied")]
    assert [one["Key"] for one in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["kept/a"]


def test_a_reader_keeps_what_is_overwritten_and_deleted_under_it(client: Any, bucket: str, server: S3Server) -> None:
    old = bytes(8_000_000)
    client.put_object(Bucket=bucket, Key="k", Body=old)
    reading = client.get_object(Bucket=bucket, Key="k")["Body"]
    start = reading.read(1000)
    client.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert body(client.get_object(Bucket=bucket, Key="k")) == b"new"
    client.delete_object(Bucket=bucket, Key="k")
    assert start + reading.read() == old


def test_overwriting_and_deleting_free_the_disk(client: Any, bucket: str, server: S3Server) -> None:
    before = blobs(server)
    for content in (b"1", b"2", b"3"):
        client.put_object(Bucket=bucket, Key="k", Body=content)
        assert blobs(server) == before + 1
    client.delete_object(Bucket=bucket, Key="k")
    assert blobs(server) == before


def test_many_writers_and_readers_of_one_key(client: Any, bucket: str, server: S3Server) -> None:
    """Whatever a reader gets is one whole object with its own etag, and the losers leave no file behind."""
    before = blobs(server)
    client.put_object(Bucket=bucket, Key="k", Body=b"first")

    def write(number: int) -> None:
        client.put_object(Bucket=bucket, Key="k", Body=bytes([number]) * 300_000)

    def read(_number: int) -> bool:
        got = client.get_object(Bucket=bucket, Key="k")
        return bool(got["ETag"] == f'"{hashlib.md5(body(got)).hexdigest()}"')

    with ThreadPoolExecutor(8) as pool:
        writes = [pool.submit(write, number) for number in range(40)]
        reads = [pool.submit(read, number) for number in range(80)]
        assert all(one.result() for one in reads)
        assert [one.result() for one in writes] == [None] * 40
    assert blobs(server) == before + 1
