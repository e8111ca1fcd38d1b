"""S3 behind a real server on a real port, driven by unmodified boto3, urllib and raw sockets."""

import hashlib
import io
import os
import resource
import socket
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError, IncompleteReadError, ResponseStreamingError
from urllib3.response import HTTPResponse

from tests.wire.house import BORN, KEY, House, client


@pytest.mark.parametrize(
    "key", ["a/b.txt", "日本/ä +&=?#%2F", "//x//", "+plus+", "a b", "~.-_", "%41", ".hidden", "é" * 200]
)
def test_an_object_comes_back_byte_for_byte_under_any_key(endpoint: str, house: House, key: str) -> None:
    """boto3's own upload (CRC32 header) and download, with keys that path handling may break."""
    s3 = client("s3", endpoint)
    body = os.urandom(1000)
    answer = s3.put_object(Bucket="bucket", Key=key, Body=body, Metadata={"who": "me"}, ContentType="text/x")
    assert answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    signed, params = house.seen[-1]
    assert (params["Key"], params["Metadata"], params["ContentType"]) == (key, {"who": "me"}, "text/x")
    assert (signed.access_key, signed.region, signed.service, signed.operation) == (KEY, "us-east-1", "s3", "PutObject")
    answer = s3.get_object(Bucket="bucket", Key=key)
    assert answer["Body"].read() == body
    assert answer["LastModified"] == BORN.replace(microsecond=0)


def test_an_upload_in_chunks_with_a_trailer(endpoint: str, house: House, tmp_path: Path) -> None:
    """What boto3 makes of a file for an https endpoint: aws-chunked, its CRC in the trailer, over many chunks."""
    path = tmp_path / "big"
    path.write_bytes(os.urandom(20 * 1024 * 1024 + 17))
    s3 = client("s3", endpoint)
    secure = client("s3", endpoint.replace("http:", "https:"))
    secure.meta.events.register("before-send", over_plain_http)
    with path.open("rb") as file:
        secure.put_object(Bucket="bucket", Key="big", Body=file)
    signed, params = house.seen[-1]
    assert params["Body"].size == params["ContentLength"] == path.stat().st_size
    assert "ContentEncoding" not in params
    assert signed.headers["x-amz-content-sha256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    assert list(params["Body"].checksums) == ["CRC32"]
    assert s3.get_object(Bucket="bucket", Key="big")["Body"].read() == path.read_bytes()
    assert (
        s3.get_object(Bucket="bucket", Key="big", Range="bytes=5-1000004")["Body"].read()
        == path.read_bytes()[5:1000005]
    )
    assert list(house.spool.iterdir()) == []


def over_plain_http(request: Any, **_: Any) -> AWSResponse:
    """Carry a request that boto3 made for https to the same server without TLS, byte for byte."""
    connection = HTTPConnection(request.url.split("/")[2], timeout=30)
    connection.putrequest(request.method, "/" + request.url.split("/", 3)[3], skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers.items():
        connection.putheader(name, value)
    connection.endheaders(iter(lambda: request.body.read(70_000), b""), encode_chunked=True)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    raw = HTTPResponse(body=io.BytesIO(body), headers=dict(answer.headers), status=answer.status, preload_content=False)
    return AWSResponse(request.url, answer.status, dict(answer.headers), raw)


def test_memory_stays_bounded_while_an_upload_arrives(endpoint: str, house: House) -> None:
    """200 MB through the server grow this process, which holds it, by far less."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    s3 = client("s3", endpoint, config={"request_checksum_calculation": "when_required"})
    size = 200 * 1024 * 1024
    s3.put_object(Bucket="bucket", Key="huge", Body=Zeros(size), ContentLength=size)
    assert house.path({"Bucket": "bucket", "Key": "huge"}).stat().st_size == size
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    house.path({"Bucket": "bucket", "Key": "huge"}).unlink()
    assert grown < 64 * 1024  # KiB


class Zeros:
    """So many zero bytes, made as they are read; may be rewound, as boto3 does to hash them."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def read(self, size: int = -1) -> bytes:
        left = self._size - self._at
        made = bytes(left if size < 0 else min(size, left))
        self._at += len(made)
        return made

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = {0: 0, 1: self._at, 2: self._size}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at


@pytest.mark.parametrize("version", ["s3", "s3v4"])
def test_presigned_urls_get_and_put(endpoint: str, version: str) -> None:
    """Both forms that boto3 makes: SigV2 (its default in us-east-1) and SigV4, with metadata in the query."""
    s3 = client("s3", endpoint, config={"signature_version": version})
    put = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "p q+é", "ContentType": "text/x"})
    with urlopen(HttpRequest(put, b"through a url", {"Content-Type": "text/x"}, method="PUT")) as answer:
        assert answer.status == 200
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "p q+é"})
    assert ("X-Amz-Signature" in get) == (version == "s3v4")
    with urlopen(get) as answer:
        assert answer.read() == b"through a url"
    with pytest.raises(OSError, match="403"):
        urlopen(get.replace("p%20q", "p%20r"))


def test_a_bucket_may_stand_before_the_host(endpoint: str, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual-host style: `bucket.localhost:port`, as SDKs address buckets by default."""
    real = socket.getaddrinfo  # not every resolver knows that names under localhost are this machine
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more))
    port = endpoint.rpartition(":")[2]
    s3 = client("s3", f"http://localhost:{port}", config={"s3": {"addressing_style": "virtual"}})
    hosts: list[str] = []
    s3.meta.events.register("before-send", lambda request, **_: hosts.append(request.url))
    s3.put_object(Bucket="bucket", Key="v/w", Body=b"virtual")
    assert hosts[0].startswith("http://bucket.localhost:")
    assert house.seen[-1][1]["Bucket"] == "bucket"
    assert house.seen[-1][1]["Key"] == "v/w"


def test_errors_and_heads_as_boto_reads_them(endpoint: str) -> None:
    """A missing key: a code for GET, a bare 404 for HEAD; a known operation that is not ours; a wrong method."""
    s3 = client("s3", endpoint)
    with pytest.raises(s3.exceptions.NoSuchKey, match="does not exist"):
        s3.get_object(Bucket="bucket", Key="none")
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="bucket", Key="none")
    s3.put_object(Bucket="bucket", Key="h", Body=b"12345")
    answer = s3.head_object(Bucket="bucket", Key="h")
    assert (answer["ContentLength"], answer["Metadata"]) == (5, {"a": "b"})
    assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] == "eu-west-1"
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_versioning(Bucket="bucket")
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
    for service, call, code, status in (
        ("bedrock", "list_guardrails", "UnknownOperationException", 404),
        ("iam", "list_users", "InvalidAction", 400),
    ):
        with pytest.raises(ClientError) as caught:
            getattr(client(service, endpoint), call)()
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_a_file_that_ends_early_is_never_taken_for_whole(endpoint: str) -> None:
    """The connection breaks off: the client sees an error, not a short object, and no wait."""
    s3 = client("s3", endpoint)
    s3.put_object(Bucket="bucket", Key="shrinks", Body=b"x" * 1000)
    body = s3.get_object(Bucket="bucket", Key="shrinks")["Body"]
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        body.read()


def test_a_caller_who_leaves_mid_upload_leaves_nothing_behind(endpoint: str, house: House) -> None:
    """Half an upload and a closed connection: no operation is called, no file stays."""
    s3 = client("s3", endpoint, config={"signature_version": "s3v4"})
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "half"})
    calls, port = len(house.seen), int(endpoint.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"PUT {url.removeprefix(endpoint)} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9000000\r\n\r\n"
        connection.sendall(head.encode() + bytes(3_000_000))
        until(lambda: bool(list(house.spool.iterdir())))
    until(lambda: not list(house.spool.iterdir()))
    assert len(house.seen) == calls


def until(condition: Any) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
