"""Multipart uploads through boto3: parts, orders, sizes, checksums of both types, copies, lists and retries."""

import base64
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import pytest
from awscrt import checksums as crt

from outcrop.objects.checksums import CRCS, composite, whole
from tests.api.s3.conftest import Refused
from tests.api.s3.server import S3Server

FIVE = 5 * 1024**2


def b64(number: int, width: int) -> str:
    return base64.b64encode(number.to_bytes(width, "big")).decode()


class Sending:
    """An upload in the test's hands."""

    def __init__(self, client: Any, bucket: str, **begin: Any) -> None:
        self.client = client
        self.begun = client.create_multipart_upload(Bucket=bucket, Key="k", **begin)
        self.where = {"Bucket": bucket, "Key": "k", "UploadId": self.begun["UploadId"]}
        self.told: dict[int, dict[str, Any]] = {}

    def part(self, number: int, content: bytes, **more: Any) -> dict[str, Any]:
        answer = self.client.upload_part(**self.where, PartNumber=number, Body=content, **more)
        kept = {name: value for name, value in answer.items() if name == "ETag" or name.startswith("Checksum")}
        self.told[number] = {"PartNumber": number, **kept}
        return kept

    def complete(self, numbers: Sequence[int] = (), **more: Any) -> Any:
        parts = [self.told[number] for number in numbers or sorted(self.told)]
        return self.client.complete_multipart_upload(**self.where, MultipartUpload={"Parts": parts}, **more)


def etag_of(*parts: bytes) -> str:
    digest = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
    return f'"{digest}-{len(parts)}"'


def test_parts_become_one_object(client: Any, bucket: str) -> None:
    first, second, third = os.urandom(FIVE), os.urandom(FIVE + 1), b"the end"
    said = {"ContentType": "text/x", "Metadata": {"a": "b"}, "Tagging": "t=1"}
    sending = Sending(client, bucket, **said)
    # In any order, and the later of two with one number counts.
    sending.part(3, third)
    sending.part(1, b"wrong")
    sending.part(2, second)
    sending.part(1, first)
    done = sending.complete()
    assert done["ETag"] == etag_of(first, second, third)
    assert (done["Bucket"], done["Key"]) == (bucket, "k")
    assert done["Location"].endswith(f"/{bucket}/k")
    got = client.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == first + second + third
    assert (got["ETag"], got["ContentType"], got["Metadata"]) == (done["ETag"], "text/x", {"a": "b"})
    assert got["TagCount"] == 1
    # Ranges that start, end and cross inside parts.
    whole_ = first + second + third
    for start, end in ((0, 0), (FIVE - 1, FIVE), (FIVE, FIVE), (2 * FIVE, len(whole_) - 1), (len(whole_) - 1, 10**9)):
        ranged = client.get_object(Bucket=bucket, Key="k", Range=f"bytes={start}-{end}")
        assert ranged["Body"].read() == whole_[start : end + 1]


def test_one_part_at_a_time(client: Any, bucket: str, refused: Refused) -> None:
    sending = Sending(client, bucket, ChecksumAlgorithm="CRC32")
    first, second = os.urandom(FIVE), b"second"
    # Numbers may leave gaps: partNumber counts what is there.
    sending.part(2, first)
    told = sending.part(7, second)
    sending.complete()
    got = client.get_object(Bucket=bucket, Key="k", PartNumber=2, ChecksumMode="ENABLED")
    assert got["Body"].read() == second
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["PartsCount"] == 2
    assert got["ContentRange"] == f"bytes {FIVE}-{FIVE + 5}/{FIVE + 6}"
    assert got["ChecksumCRC32"] == told["ChecksumCRC32"]
    assert client.head_object(Bucket=bucket, Key="k", PartNumber=1)["ContentLength"] == FIVE
    error = refused(416, "InvalidPartNumber", client.get_object, Bucket=bucket, Key="k", PartNumber=3)
    assert error["ActualPartCount"] == "2"
    refused(400, "InvalidRequest", client.get_object, Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1")
    client.put_object(Bucket=bucket, Key="plain", Body=b"1")
    assert client.get_object(Bucket=bucket, Key="plain", PartNumber=1)["Body"].read() == b"1"
    refused(416, "InvalidPartNumber", client.get_object, Bucket=bucket, Key="plain", PartNumber=2)


def test_what_cannot_be_completed(client: Any, bucket: str, refused: Refused) -> None:
    sending = Sending(client, bucket)
    small = sending.part(1, b"too small")
    sending.part(2, b"the last may be small")
    error = refused(400, "EntityTooSmall", sending.complete)
    assert (error["PartNumber"], error["ProposedSize"], error["MinSizeAllowed"]) == ("1", "9", str(FIVE))
    error = refused(400, "InvalidPartOrder", lambda: sending.complete([2, 1]))
    assert error["Message"] == "The list of parts was not in ascending order. Parts must be ordered by part number."
    refused(400, "InvalidPartOrder", lambda: sending.complete([2, 2]))
    sending.told[3] = {"PartNumber": 3, **small}
    error = refused(400, "InvalidPart", lambda: sending.complete([3]))
    assert error["Message"].startswith("One or more of the specified parts could not be found.  The part may not")
    sending.told[2]["ETag"] = '"0123"'
    refused(400, "InvalidPart", lambda: sending.complete([2]))
    nothing = client.complete_multipart_upload
    refused(400, "MalformedXML", nothing, **sending.where, MultipartUpload={"Parts": []})
    # Nothing of that ended the upload.
    assert len(client.list_parts(**sending.where)["Parts"]) == 2
    sending.complete([1])
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"too small"


def test_an_upload_that_is_over(client: Any, bucket: str, refused: Refused, server: S3Server) -> None:
    def blobs() -> int:
        return sum(1 for path in (server.root / "buckets").glob("*/*") if path.is_file())

    before = blobs()
    sending = Sending(client, bucket)
    sending.part(1, b"1")
    assert blobs() == before + 1
    client.abort_multipart_upload(**sending.where)
    assert blobs() == before
    for operation, more in (
        (client.upload_part, {"PartNumber": 1, "Body": b""}),
        (client.list_parts, {}),
        (client.abort_multipart_upload, {}),
        (client.complete_multipart_upload, {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": "x"}]}}),
    ):
        error = refused(404, "NoSuchUpload", operation, **sending.where, **more)
        assert error["Message"].startswith("The specified upload does not exist.")
    refused(404, "404", client.head_object, Bucket=bucket, Key="k")
    assert blobs() == before


def test_parts_that_are_not_listed_go(client: Any, bucket: str, server: S3Server) -> None:
    def blobs() -> int:
        return sum(1 for path in (server.root / "buckets").glob("*/*") if path.is_file())

    client.put_object(Bucket=bucket, Key="k", Body=b"old")
    before = blobs()
    sending = Sending(client, bucket)
    for number in (1, 2, 3):
        sending.part(number, b"part")
    assert blobs() == before + 3
    sending.complete([2])
    # The old object's blob and the other parts are gone.
    assert blobs() == before


def test_completing_again_gives_the_same_answer(client: Any, bucket: str, refused: Refused) -> None:
    sending = Sending(client, bucket, ChecksumAlgorithm="CRC32")
    sending.part(1, b"1")
    first = sending.complete()
    again = sending.complete()
    assert (again["ETag"], again["ChecksumCRC32"]) == (first["ETag"], first["ChecksumCRC32"])
    client.put_object(Bucket=bucket, Key="k", Body=b"2")
    refused(404, "NoSuchUpload", sending.complete)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_composite_checksums(client: Any, bucket: str, algorithm: str, refused: Refused) -> None:
    sending = Sending(client, bucket, ChecksumAlgorithm=algorithm)
    assert (sending.begun["ChecksumAlgorithm"], sending.begun["ChecksumType"]) == (algorithm, "COMPOSITE")
    member = f"Checksum{algorithm}"
    sums = [sending.part(n, c, ChecksumAlgorithm=algorithm)[member] for n, c in ((1, bytes(FIVE)), (2, b"end"))]
    listed = client.list_parts(**sending.where)
    assert [part[member] for part in listed["Parts"]] == sums
    assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, "COMPOSITE")
    kept = sending.told[2].pop(member)
    error = refused(400, "InvalidRequest", sending.complete)
    assert error["Message"] == (
        f"The upload was created using a {algorithm.lower()} checksum. The complete request must include the checksum "
        "for each part. It was missing for part 2 in the request."
    )
    sending.told[2][member] = sums[0]
    refused(400, "InvalidPart", sending.complete)
    sending.told[2][member] = kept
    done = sending.complete()
    assert (done[member], done["ChecksumType"]) == (composite(algorithm, sums), "COMPOSITE")
    assert done[member].endswith("-2")
    told = client.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["Checksum", "ObjectParts"])
    assert told["Checksum"] == {member: done[member], "ChecksumType": "COMPOSITE"}
    assert [part[member] for part in told["ObjectParts"]["Parts"]] == sums
    assert told["ObjectParts"]["TotalPartsCount"] == 2


@pytest.mark.parametrize("algorithm", CRCS)
def test_full_object_checksums(server: S3Server, bucket: str, algorithm: str, refused: Refused) -> None:
    # boto3 tries four times more after a BadDigest, with pauses.
    client = server.client(retries={"total_max_attempts": 1})
    sending = Sending(client, bucket, ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT")
    assert sending.begun["ChecksumType"] == "FULL_OBJECT"
    first, second = os.urandom(FIVE), os.urandom(1000)
    sending.part(1, first, ChecksumAlgorithm=algorithm)
    sending.part(2, second, ChecksumAlgorithm=algorithm)
    crc = {"CRC32": crt.crc32, "CRC32C": crt.crc32c, "CRC64NVME": crt.crc64nvme}[algorithm](first + second)
    want = b64(crc, CRCS[algorithm][0])
    member = f"Checksum{algorithm}"
    wrong = b64(crc ^ 1, CRCS[algorithm][0])
    refused(400, "BadDigest", lambda: sending.complete(**{member: wrong}, ChecksumType="FULL_OBJECT"))
    refused(400, "InvalidRequest", lambda: sending.complete(MpuObjectSize=1))
    size = FIVE + 1000
    done = sending.complete(**{member: want}, ChecksumType="FULL_OBJECT", MpuObjectSize=size)
    assert (done[member], done["ChecksumType"]) == (want, "FULL_OBJECT")
    got = client.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[member] == want
    assert got["Body"].read() == first + second  # which boto3 checks against the header


def test_without_checksums_the_whole_one_is_computed(server: S3Server, bucket: str) -> None:
    plain = server.client(request_checksum_calculation="when_required")
    sending = Sending(plain, bucket)
    assert "ChecksumAlgorithm" not in sending.begun
    first, second = os.urandom(FIVE), b"2"
    sending.part(1, first)
    sending.part(2, second)
    done = sending.complete()
    assert done["ChecksumCRC64NVME"] == b64(crt.crc64nvme(first + second), 8)
    assert done["ChecksumType"] == "FULL_OBJECT"


def test_checksum_types_that_do_not_go_together(client: Any, bucket: str, refused: Refused) -> None:
    create = client.create_multipart_upload
    for algorithm, kind in (("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE")):
        refused(400, "InvalidRequest", create, Bucket=bucket, Key="k", ChecksumAlgorithm=algorithm, ChecksumType=kind)
    sending = Sending(client, bucket, ChecksumAlgorithm="SHA256")
    error = refused(400, "InvalidRequest", lambda: sending.part(1, b"", ChecksumAlgorithm="CRC32C"))
    assert error["Message"] == (
        "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: crc32c"
    )


def test_a_part_without_the_declared_checksum_gets_it(server: S3Server, client: Any, bucket: str) -> None:
    """As when the parts are put through presigned URLs: the server computes what the sender left out."""
    sending = Sending(client, bucket, ChecksumAlgorithm="CRC32")
    sending.client = server.client(request_checksum_calculation="when_required")
    told = sending.part(1, b"1")
    assert told["ChecksumCRC32"] == b64(crt.crc32(b"1"), 4)
    sending.complete()


def test_parts_copied_from_objects(client: Any, bucket: str, refused: Refused) -> None:
    content = os.urandom(FIVE + 100)
    client.put_object(Bucket=bucket, Key="source", Body=content)
    source = {"Bucket": bucket, "Key": "source"}
    sending = Sending(client, bucket, ChecksumAlgorithm="CRC32")

    def copy(number: int, **more: Any) -> None:
        told = client.upload_part_copy(**sending.where, PartNumber=number, CopySource=source, **more)
        result = told["CopyPartResult"]
        sending.told[number] = {
            "PartNumber": number,
            "ETag": result["ETag"],
            "ChecksumCRC32": result["ChecksumCRC32"],
        }

    copy(1)
    copy(2, CopySourceRange="bytes=10-19")
    error = refused(400, "InvalidArgument", lambda: copy(3, CopySourceRange=f"bytes=0-{FIVE + 100}"))
    assert error["Message"] == f"Range specified is not valid for source object of size: {FIVE + 100}"
    refused(400, "InvalidArgument", lambda: copy(3, CopySourceRange="bytes=5-"))
    refused(412, "PreconditionFailed", lambda: copy(3, CopySourceIfMatch='"x"'))
    done = sending.complete()
    assert done["ETag"] == etag_of(content, content[10:20])
    client.delete_object(**source)
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == content + content[10:20]


def test_conditional_completion(client: Any, bucket: str, refused: Refused) -> None:
    client.put_object(Bucket=bucket, Key="k", Body=b"old")
    sending = Sending(client, bucket)
    sending.part(1, b"new")
    refused(412, "PreconditionFailed", lambda: sending.complete(IfNoneMatch="*"))
    refused(412, "PreconditionFailed", lambda: sending.complete(IfMatch='"x"'))
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    sending.complete(IfMatch=f'"{hashlib.md5(b"old").hexdigest()}"')
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_have_bounds(client: Any, bucket: str, refused: Refused, number: int) -> None:
    sending = Sending(client, bucket)
    error = refused(400, "InvalidArgument", lambda: sending.part(number, b""))
    assert error["ArgumentName"] == "partNumber"
    sending.part(10_000, b"")


def test_lists_of_parts_page(client: Any, bucket: str) -> None:
    sending = Sending(client, bucket)
    for number in range(1, 8):
        sending.part(number, b"%d" % number)
    pages = list(client.get_paginator("list_parts").paginate(**sending.where, PaginationConfig={"PageSize": 3}))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2, 3], [4, 5, 6], [7]]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert pages[0]["Parts"][0]["Size"] == 1


def test_lists_of_uploads_page_and_group(client: Any, bucket: str) -> None:
    begun = {}
    for key in ("a", "b/1", "b/2", "c", "c", "d"):
        begun.setdefault(key, []).append(client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"])
    want = [(key, upload) for key, uploads in begun.items() for upload in sorted(uploads)]
    for size in (1, 2, 4, 10):
        pages = client.get_paginator("list_multipart_uploads").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": size}
        )
        got = [(one["Key"], one["UploadId"]) for page in pages for one in page.get("Uploads", [])]
        assert got == want, size
    told = client.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [one["Prefix"] for one in told["CommonPrefixes"]] == ["b/"]
    assert [one["Key"] for one in told["Uploads"]] == ["a", "c", "c", "d"]
    told = client.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [one["Key"] for one in told["Uploads"]] == ["b/1", "b/2"]
    told = client.list_multipart_uploads(Bucket=bucket, KeyMarker="c", UploadIdMarker=sorted(begun["c"])[0])
    assert [one["UploadId"] for one in told["Uploads"]] == [sorted(begun["c"])[1], begun["d"][0]]


def test_the_joined_checksum_is_that_of_the_whole() -> None:
    parts = [os.urandom(size) for size in (1, 0, 70_000, 3)]
    sums = [(b64(crt.crc32c(part), 4), len(part)) for part in parts]
    assert whole("CRC32C", sums) == b64(crt.crc32c(b"".join(parts)), 4)


def test_a_checksum_sent_beside_an_upload_without_one_is_checked_and_told(client: Any, bucket: str) -> None:
    """As boto3 does by hand: create_multipart_upload names no algorithm, upload_part sends CRC32 all the same."""
    sending = Sending(client, bucket)
    assert sending.part(1, b"1")["ChecksumCRC32"] == b64(crt.crc32(b"1"), 4)
    done = sending.complete()
    assert (done["ChecksumCRC64NVME"], done["ChecksumType"]) == (b64(crt.crc64nvme(b"1"), 8), "FULL_OBJECT")
