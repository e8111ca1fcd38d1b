"""The gateway behind a real server on a real port, driven by unmodified boto3, curl and raw sockets."""

import asyncio
import errno
import hashlib
import io
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError, IncompleteReadError, ResponseStreamingError
from urllib3.response import HTTPResponse

from outcrop.errors import ModelNotReadyException, ServiceError, ThrottlingException
from outcrop.wire.body import FileSlice, Upload
from outcrop.wire.gateway import Gateway, Reply, Signed
from outcrop.wire.sigv4 import Credential
from tests.wire.asgi import serving

THREADS = 4
KEY, SECRET = "AKIDEXAMPLE000000001", "secret/with+signs"
CLIENTS: list[Any] = []
BORN = datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC)


class House:
    """A few real operations over a folder: enough of S3, IAM and Bedrock to be asked by real clients."""

    def __init__(self, folder: Path) -> None:
        self.objects = folder / "objects"
        self.spool = folder / "spool"
        self.objects.mkdir()
        self.spool.mkdir()
        self.seen: list[tuple[Signed, dict[str, Any]]] = []
        self.closed = threading.Event()
        self.release = threading.Event()

    def path(self, params: Mapping[str, Any]) -> Path:
        return self.objects / hashlib.sha256(f"{params['Bucket']}/{params['Key']}".encode()).hexdigest()

    def put_object(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((signed, params))
        upload: Upload = params["Body"]
        upload.path.rename(self.path(params))
        ((algorithm, value),) = upload.checksums.items()
        return {"ETag": f'"{upload.md5.hex()}"', f"Checksum{algorithm}": value}

    def get_object(self, signed: Signed, params: dict[str, Any]) -> Reply:
        self.seen.append((signed, params))
        path = self.path(params)
        if not path.exists():
            raise ServiceError("The specified key does not exist.", code="NoSuchKey", status=404, Key=params["Key"])
        size, file = path.stat().st_size, path.open("rb")
        output = {
            "Body": FileSlice(file, size),
            "ContentLength": size,
            "ContentType": "text/plain",
            "LastModified": BORN,
        }
        if params["Key"] == "shrinks":
            return Reply({"Body": FileSlice(file, size + 1000), "ContentLength": size + 1000})
        if "Range" in params:
            first, last = (int(each) for each in re.fullmatch(r"bytes=(\d+)-(\d+)", params["Range"]).groups())  # type: ignore[union-attr]
            file.seek(first)
            length = last - first + 1
            output.update(
                Body=FileSlice(file, length), ContentLength=length, ContentRange=f"bytes {first}-{last}/{size}"
            )
            return Reply(output, status=206)
        return Reply(output)

    def head_object(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        path = self.path(params)
        if not path.exists():
            raise ServiceError("Not Found", code="NoSuchKey", status=404)
        return {"ContentLength": path.stat().st_size, "LastModified": BORN, "Metadata": {"a": "b"}}

    def create_role(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((signed, params))
        role = {"Path": "/", "RoleName": params["RoleName"], "RoleId": "AROA0000000000000000", "CreateDate": BORN}
        return {"Role": {**role, "Arn": "arn:aws:iam::123456789012:role/r", "Tags": params.get("Tags", [])}}

    def invoke_model(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        self.seen.append((signed, params))
        if params["modelId"] == "broken":
            raise RuntimeError("a fault of ours")
        if params["modelId"] == "full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if params["modelId"] == "waits":
            assert self.release.wait(20)
        return {"body": params["body"], "contentType": "application/json", "inputTokenCount": 7}

    def invoke_stream(self, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any]:
        return {"body": self.events(params["modelId"]), "contentType": "application/json"}

    async def events(self, kind: str) -> AsyncIterator[Mapping[str, Any]]:
        try:
            if kind == "not-ready":
                raise ModelNotReadyException("still loading")
            for number in range(10_000 if kind == "endless" else 3):
                yield {"chunk": {"bytes": f'{{"n": {number}}}'.encode()}}
                await asyncio.sleep(0.01)
            if kind == "fails":
                raise ThrottlingException("too much")
        finally:
            self.closed.set()

    def operations(self) -> dict[tuple[str, str], Any]:
        return {
            ("s3", "PutObject"): self.put_object,
            ("s3", "GetObject"): self.get_object,
            ("s3", "HeadObject"): self.head_object,
            ("s3", "GetBucketLocation"): lambda signed, params: {"LocationConstraint": "eu-west-1"},
            ("iam", "CreateRole"): self.create_role,
            ("sts", "GetCallerIdentity"): lambda signed, params: {"Account": signed.region, "Arn": signed.access_key},
            ("bedrock", "GetCustomModel"): lambda signed, params: {
                "modelArn": params["modelIdentifier"],
                "modelName": signed.region,
                "creationTime": BORN,
            },
            ("bedrock-runtime", "InvokeModel"): self.invoke_model,
            ("bedrock-runtime", "InvokeModelWithResponseStream"): self.invoke_stream,
        }


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(tmp_path_factory.mktemp("house"))


@pytest.fixture(scope="module")
def endpoint(house: House) -> Iterator[str]:
    credentials = {KEY: Credential(KEY, SECRET)}
    bearers = {"bedrock-api-key-1": KEY}
    gateway = Gateway(house.operations(), credentials.get, bearers.get, house.spool, threads=THREADS)
    with serving(gateway) as address:
        yield address
    gateway.close()


def client(service: str, endpoint: str, **options: Any) -> Any:
    session = boto3.Session(aws_access_key_id=KEY, aws_secret_access_key=options.pop("secret", SECRET))
    settings = Config(retries={"max_attempts": 0}, **options.pop("config", {}))
    region = options.pop("region", "us-east-1")
    made = session.client(service, endpoint_url=endpoint, region_name=region, config=settings, **options)
    CLIENTS.append(made)
    return made


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


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


def test_iam_and_sts_speak_query(endpoint: str, house: House) -> None:
    """Nested lists in a form body, and the region of the credential scope."""
    tags = [{"Key": "a b", "Value": "é ="}, {"Key": "c", "Value": ""}]
    role = client("iam", endpoint).create_role(RoleName="r", AssumeRolePolicyDocument='{"a": "+ &"}', Tags=tags)["Role"]
    assert (role["Tags"], role["CreateDate"]) == (tags, BORN)
    assert house.seen[-1][1]["AssumeRolePolicyDocument"] == '{"a": "+ &"}'
    identity = client("sts", endpoint, region="ap-northeast-1").get_caller_identity()
    assert (identity["Account"], identity["Arn"]) == ("ap-northeast-1", KEY)
    with pytest.raises(ClientError, match="Member must have length less than or equal to 64") as caught:
        client("iam", endpoint).create_role(RoleName="r" * 65, AssumeRolePolicyDocument="{}")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_an_arn_in_a_path_is_one_segment(endpoint: str) -> None:
    """boto3 escapes the colons and slashes of an ARN; the scope's region comes with the call."""
    arn = "arn:aws:bedrock:us-west-2:123456789012:custom-model/amazon.titan-text-express-v1:0:8k/ty578u9h2s8j"
    answer = client("bedrock", endpoint, region="us-west-2").get_custom_model(modelIdentifier=arn)
    assert (answer["modelArn"], answer["modelName"], answer["creationTime"]) == (arn, "us-west-2", BORN)


def test_invoking_and_its_count_headers(endpoint: str) -> None:
    """The body passes as it is; counts travel as headers; a fault of ours is told as AWS tells its own."""
    runtime = client("bedrock-runtime", endpoint)
    answer = runtime.invoke_model(modelId="m", body=b'{"inputText": "\xe3\x81\x82"}')
    assert answer["body"].read() == b'{"inputText": "\xe3\x81\x82"}'
    assert answer["ResponseMetadata"]["HTTPHeaders"]["x-amzn-bedrock-input-token-count"] == "7"
    with pytest.raises(runtime.exceptions.InternalServerException) as caught:
        runtime.invoke_model(modelId="broken", body=b"{}")
    assert "a fault of ours" not in str(caught.value)
    with pytest.raises(runtime.exceptions.ValidationException, match="less than or equal to 25000000"):
        runtime.invoke_model(modelId="m", body=bytes(25_000_001))
    assert len(runtime.invoke_model(modelId="m", body=bytes(25_000_000))["body"].read()) == 25_000_000


def test_events_arrive_as_they_are_made(endpoint: str) -> None:
    """Chunks one by one; an error before the first is an HTTP error, a later one is raised in mid-stream."""
    runtime = client("bedrock-runtime", endpoint)
    answer = runtime.invoke_model_with_response_stream(modelId="m", body=b"{}")
    assert answer["contentType"] == "application/json"
    assert [event["chunk"]["bytes"] for event in answer["body"]] == [b'{"n": 0}', b'{"n": 1}', b'{"n": 2}']
    with pytest.raises(runtime.exceptions.ModelNotReadyException, match="still loading"):
        runtime.invoke_model_with_response_stream(modelId="not-ready", body=b"{}")
    seen = []
    body = runtime.invoke_model_with_response_stream(modelId="fails", body=b"{}")["body"]
    with pytest.raises(EventStreamError, match="too much"):
        seen.extend(body)
    body.close()
    assert len(seen) == 3


def test_a_caller_who_leaves_closes_the_stream(endpoint: str, house: House) -> None:
    """The iterator is closed within moments of the connection, which is what ends an engine's work."""
    runtime = client("bedrock-runtime", endpoint)
    stream = runtime.invoke_model_with_response_stream(modelId="endless", body=b"{}")["body"]
    next(iter(stream))
    house.closed.clear()
    stream.close()
    assert house.closed.wait(5)


def test_a_file_that_ends_early_is_never_taken_for_whole(endpoint: str) -> None:
    """The connection breaks off: the client sees an error, not a short object, and no wait."""
    s3 = client("s3", endpoint)
    s3.put_object(Bucket="bucket", Key="shrinks", Body=b"x" * 1000)
    body = s3.get_object(Bucket="bucket", Key="shrinks")["Body"]
    with pytest.raises((IncompleteReadError, ResponseStreamingError)):
        body.read()


def test_waiting_on_models_holds_nobody_else_up(endpoint: str, house: House) -> None:
    """As many invokes as there are threads wait; S3 and keys are answered all the same."""
    house.release.clear()
    runtime = client("bedrock-runtime", endpoint, config={"max_pool_connections": 20})
    threads = [
        threading.Thread(target=lambda: runtime.invoke_model(modelId="waits", body=b"{}")) for _ in range(THREADS + 2)
    ]
    for thread in threads:
        thread.start()
    try:
        assert client("s3", endpoint).get_bucket_location(Bucket="bucket")["LocationConstraint"] == "eu-west-1"
    finally:
        house.release.set()
        for thread in threads:
            thread.join(20)


def test_a_full_disk_is_named(endpoint: str) -> None:
    """It is the one fault of ours that someone at the other end can do something about; no client retries it."""
    runtime = client("bedrock-runtime", endpoint)
    with pytest.raises(ClientError, match="disk is full") as caught:
        runtime.invoke_model(modelId="full", body=b"{}")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 507


def test_a_caller_who_leaves_an_http2_stream_closes_it(endpoint: str, house: House) -> None:
    """Over HTTP/2 only the stream is reset, not the connection: the iterator must be closed all the same."""
    if shutil.which("curl") is None:
        pytest.skip("curl with HTTP/2 would run this")
    command = ["curl", "-sSN", "--http2-prior-knowledge", "--aws-sigv4", "aws:amz:us-east-1:bedrock"]
    command += ["--user", f"{KEY}:{SECRET}", "-d", "{}", f"{endpoint}/model/endless/invoke-with-response-stream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as caller:
        assert caller.stdout is not None
        assert len(caller.stdout.read(200)) == 200
        house.closed.clear()
        caller.kill()
    assert house.closed.wait(5)


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


def test_a_bearer_key_speaks_for_its_access_key(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS_BEARER_TOKEN_BEDROCK as boto3 sends it; an unknown key is refused."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-1")
    assert client("bedrock-runtime", endpoint).invoke_model(modelId="m", body=b"{}")["body"].read() == b"{}"
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-2")
    with pytest.raises(ClientError) as caught:
        client("bedrock-runtime", endpoint).invoke_model(modelId="m", body=b"{}")
    assert caught.value.response["Error"]["Code"] == "UnrecognizedClientException"


@pytest.mark.parametrize("service", ["s3", "iam", "bedrock"])
def test_a_wrong_secret_is_refused_in_each_protocol(endpoint: str, service: str) -> None:
    """The code by which each protocol names it, at 403."""
    code = {"s3": "SignatureDoesNotMatch", "iam": "SignatureDoesNotMatch", "bedrock": "InvalidSignatureException"}
    call = {
        "s3": ("get_bucket_location", {"Bucket": "bucket"}),
        "iam": ("list_users", {}),
        "bedrock": ("list_guardrails", {}),
    }
    name, arguments = call[service]
    with pytest.raises(ClientError) as caught:
        getattr(client(service, endpoint, secret="wrong"), name)(**arguments)
    assert caught.value.response["Error"]["Code"] == code[service]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_cleartext_http2_is_signed_and_answered(endpoint: str) -> None:
    """AWS's JavaScript SDK sends runtime calls so. curl signs by itself; `:authority` stands in for the host header."""
    if shutil.which("curl") is None:
        pytest.skip("curl with HTTP/2 would run this")
    command = [
        "curl",
        "-sS",
        "--http2-prior-knowledge",
        "--aws-sigv4",
        "aws:amz:us-east-1:bedrock",
        "-w",
        "\n%{http_version} %{http_code}",
    ]
    command += [
        "--user",
        f"{KEY}:{SECRET}",
        "-H",
        "content-type: application/json",
        "-d",
        '{"a":1}',
        f"{endpoint}/model/m/invoke",
    ]
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out == '{"a":1}\n2 200'
    command[command.index(f"{KEY}:{SECRET}")] = f"{KEY}:wrong"
    out = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert out.endswith("2 403")
