"""What botocore's signer signs we accept; one flipped byte anywhere, a wrong clock or a wrong token, and we refuse."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from outcrop.wire.body import Upload
from outcrop.wire.gateway import Gateway, Signed
from outcrop.wire.sigv4 import Credential
from outcrop.wire.spec import Spec
from tests.wire.asgi import Answer, drive
from tests.wire.generate import Generator
from tests.wire.oracle import ALIASES, OPERATIONS, ORACLES, Sent, sent, sign, with_md5, written

SPEC = Spec()
LASTING = ReadOnlyCredentials("AKIDEXAMPLE000000001", "secret/with+signs", None)
PASSING = ReadOnlyCredentials("ASIAEXAMPLE000000002", "other/secret", "token/+==")
CREDENTIALS = {
    LASTING.access_key: Credential(LASTING.access_key, LASTING.secret_key),
    PASSING.access_key: Credential(
        PASSING.access_key, PASSING.secret_key, PASSING.token, datetime.now(UTC) + timedelta(hours=1)
    ),
}


async def nothing() -> AsyncIterator[dict[str, Any]]:
    """A stream without events."""
    for event in ():
        yield event


class Desk:
    """A gateway whose every operation notes what it was asked; `ask` sends it a request."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.asked: list[tuple[Signed, dict[str, Any]]] = []
        self.bodies: list[bytes] = []
        self.now = timedelta(0)
        operations = dict.fromkeys(OPERATIONS, self.note)
        clock = lambda: datetime.now(UTC) + self.now  # noqa: E731
        self.gateway = Gateway(operations, CREDENTIALS.get, {}.get, spool, threads=2, spec=SPEC, now=clock)

    def note(self, signed: Signed, params: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((signed, params))
        if isinstance(params.get("Body"), Upload):
            self.bodies.append(params["Body"].path.read_bytes())
        shape = ORACLES[signed.service].operation_model(signed.operation).output_shape
        members = shape.members if shape is not None else {}
        return {name: nothing() for name, member in members.items() if member.serialization.get("eventstream")}

    def ask(self, request: Sent, pieces: int = 1) -> Answer:
        size = max(1, -(-len(request.body) // pieces))
        body = [request.body[at : at + size] for at in range(0, len(request.body), size)]
        answer = asyncio.run(drive(self.gateway, request.method, request.url, request.headers, body))
        assert list(self.spool.iterdir()) == []
        return answer

    def refused(self, request: Sent) -> Answer:
        """The answer to a request that must not reach its operation."""
        before = len(self.asked)
        answer = self.ask(request)
        assert len(self.asked) == before, request
        assert 400 <= answer.status < 500, (answer, request)
        return answer


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(tmp_path_factory.mktemp("spool"))
    yield made
    made.gateway.close()


@pytest.mark.parametrize(("service", "operation"), [each for each in OPERATIONS if each[1] not in ALIASES])
def test_what_botocore_signs_we_accept(desk: Desk, service: str, operation: str) -> None:
    """Every operation, signed in the header, arrives at its function with its parameters."""
    shape = ORACLES[service].operation_model(operation).input_shape
    generator = Generator(SPEC.service(service), 4, full=False, milliseconds=False)
    params = generator.structure(shape) if shape is not None else {}
    for name in [name for name in params if name.startswith("Checksum") or name in ("ContentMD5", "ContentLength")]:
        del params[name]  # made-up digests and lengths would be refused, rightly
    request = written(service, operation, params)
    if service == "s3":
        with_md5(request)
    answer = desk.ask(sent(sign(request, service, PASSING)))
    assert answer.status < 300, answer.body
    signed, found = desk.asked[-1]
    assert (signed.service, signed.operation, signed.access_key) == (service, operation, PASSING.access_key)
    ours = {"ContentLength", "ContentMD5", "Body", "SSECustomerKeyMD5"}
    assert {name: value for name, value in found.items() if name not in ours - params.keys() | {"Body"}} == {
        name: value for name, value in params.items() if name != "Body"
    }


def bedrock_get() -> Any:
    return written("bedrock", "ListCustomModels", {"nameContains": "a-b", "maxResults": 5})


def invoke() -> Any:
    return written("bedrock-runtime", "InvokeModel", {"modelId": "arn:aws:a", "body": b'{"inputText": "hello"}'})


def role() -> Any:
    return written("iam", "CreateRole", {"RoleName": "r", "AssumeRolePolicyDocument": "{} &+"})


def put() -> Any:
    params = {"Bucket": "b", "Key": "k/ é", "Body": b"hello, bytes", "Metadata": {"who": "me and you"}}
    return written("s3", "PutObject", params)


def get() -> Any:
    return written("s3", "GetObject", {"Bucket": "b", "Key": "k+1", "VersionId": "v 1"})


@pytest.mark.parametrize(("make", "scope"), [(bedrock_get, "lambda"), (invoke, "bedrock_runtime")])
def test_a_true_signature_for_another_service_is_refused_by_name(desk: Desk, make: Any, scope: str) -> None:
    answer = desk.refused(sent(sign(make(), scope, LASTING)))
    assert answer.status == 403, answer
    assert json.loads(answer.body) == {"message": "Credential should be scoped to correct service: 'bedrock'."}


FLIPPED = [
    ("bedrock", bedrock_get, "header"),
    ("bedrock-runtime", invoke, "header"),
    ("iam", role, "header"),
    ("s3", put, "header"),
    ("s3", get, "header"),
    ("s3", get, "query"),
    ("s3", get, "query-v2"),
]


@pytest.mark.parametrize(("service", "make", "kind"), FLIPPED)
@pytest.mark.parametrize("who", [LASTING, PASSING], ids=["lasting", "passing"])
def test_one_flipped_byte_anywhere_is_refused(desk: Desk, service: str, make: Any, kind: str, who: Any) -> None:
    """Method, every byte of path and query, of each signed header's value, of the body and of the signature."""
    good = sent(sign(make(), service, who, kind))
    assert desk.ask(good).status == 200
    for method in ("GET", "PUT", "POST", "DELETE"):
        if method != good.method:
            desk.refused(Sent(method, good.url, good.headers, good.body))
    for at in range(1, len(good.url)):
        if good.url[at] != "?":
            desk.refused(Sent(good.method, flipped(good.url, at), good.headers, good.body))
    for at in range(len(good.body)):
        body = bytearray(good.body)
        body[at] ^= 1
        desk.refused(Sent(good.method, good.url, good.headers, bytes(body)))
    for name in covered(good, kind):
        value = good.headers[name]
        for at in range(len(value)):
            desk.refused(Sent(good.method, good.url, {**good.headers, name: flipped(value, at)}, good.body))


def covered(request: Sent, kind: str) -> list[str]:
    """The headers that the signature covers, and the one that carries it."""
    if kind == "query":
        return ["host"]
    if kind == "query-v2":
        return []
    names = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    return [*names, "authorization"]


def flipped(text: str, at: int) -> str:
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]


@pytest.mark.parametrize(("service", "make", "kind"), [each for each in FLIPPED if each[2] == "header"])
def test_unsigned_headers_are_refused(desk: Desk, service: str, make: Any, kind: str) -> None:
    """An x-amz- header that was slipped in after signing, and one that was taken away."""
    good = sent(sign(make(), service, LASTING))
    desk.refused(Sent(good.method, good.url, {**good.headers, "x-amz-extra": "1"}, good.body))
    desk.refused(Sent(good.method, good.url, {**good.headers, "x-amz-security-token": "t"}, good.body))
    without = {name: value for name, value in good.headers.items() if name != "x-amz-date"}
    desk.refused(Sent(good.method, good.url, without, good.body))


@pytest.mark.parametrize(
    ("service", "make", "code"),
    [
        ("bedrock", bedrock_get, "InvalidSignatureException"),
        ("iam", role, "SignatureDoesNotMatch"),
        ("s3", put, "RequestTimeTooSkewed"),
    ],
)
def test_the_clock_may_be_fifteen_minutes_off(desk: Desk, service: str, make: Any, code: str) -> None:
    """Fourteen minutes pass either way, sixteen do not; each protocol has its own code for it."""
    for minutes in (-14, 14):
        desk.now = timedelta(minutes=minutes)
        assert desk.ask(sent(sign(make(), service, LASTING))).status == 200
    for minutes in (-16, 16):
        desk.now = timedelta(minutes=minutes)
        answer = desk.refused(sent(sign(make(), service, LASTING)))
        assert answer.status == 403
        assert code in str(answer)
    desk.now = timedelta(0)


CODES = {
    "bedrock": ("UnrecognizedClientException", "UnrecognizedClientException", "ExpiredTokenException"),
    "iam": ("InvalidClientTokenId", "InvalidClientTokenId", "ExpiredToken"),
    "s3": ("InvalidAccessKeyId", "InvalidToken", "ExpiredToken"),
}


@pytest.mark.parametrize(("service", "make"), [("bedrock", bedrock_get), ("iam", role), ("s3", put)])
def test_unknown_keys_wrong_tokens_and_expired_ones(desk: Desk, service: str, make: Any) -> None:
    """Each under the protocol's own code."""
    unknown, wrong, expired = CODES[service]
    stranger = ReadOnlyCredentials("AKIDEXAMPLE999999999", "s", None)
    assert unknown in str(desk.refused(sent(sign(make(), service, stranger))))
    for token in ("token/+=", "token/+===", None):
        borrowed = ReadOnlyCredentials(PASSING.access_key, PASSING.secret_key, token)
        assert wrong in str(desk.refused(sent(sign(make(), service, borrowed))))
    desk.now = timedelta(hours=2)
    assert expired in str(desk.refused(sent(sign(make(), service, PASSING))))
    desk.now = timedelta(0)


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
def test_a_key_is_asked_for_only_where_it_is_not_known(tmp_path: Path, known: bool) -> None:
    """And what is known of it proves no more than what is told of it."""
    made, asked = Desk(tmp_path), []
    made.gateway.close()

    def ask_for(access_key: str) -> Credential | None:
        asked.append(access_key)
        return CREDENTIALS.get(access_key)

    keys = CREDENTIALS if known else {}
    operations = dict.fromkeys(OPERATIONS, made.note)
    made.gateway = Gateway(operations, ask_for, {}.get, tmp_path, credential_known=keys.get, threads=2, spec=SPEC)
    for make, service in ((invoke, "bedrock-runtime"), (put, "s3")):
        good = sent(sign(make(), service, PASSING))
        assert made.ask(good).status == 200
        assert made.refused(replace(good, url=good.url + "?x=y")).status == 403
    assert asked == ([] if known else [PASSING.access_key] * 4)
    made.gateway.close()


@pytest.mark.parametrize(
    ("service", "make", "code", "status"),
    [
        ("bedrock", bedrock_get, "MissingAuthenticationTokenException", 403),
        ("iam", role, "MissingAuthenticationToken", 403),
    ],
)
def test_unsigned_requests_are_refused(desk: Desk, service: str, make: Any, code: str, status: int) -> None:
    """Without any credentials, and with an authorization that cannot be read."""
    plain = sent(make())
    answer = desk.refused(plain)
    assert answer.status == status
    assert code in str(answer)
    broken = desk.refused(
        Sent(plain.method, plain.url, {**plain.headers, "authorization": "AWS4-HMAC-SHA256 x"}, plain.body)
    )
    assert "Incomplete" in str(broken)


def test_anonymous_requests_reach_only_s3(desk: Desk) -> None:
    """Bucket policies decide about them, not the wire; boto3's signature_version=UNSIGNED sends such."""
    assert desk.ask(sent(get())).status == 200
    assert desk.asked[-1][0].access_key is None


def test_presigned_urls_expire(desk: Desk) -> None:
    """In their own time, in both forms; and never live longer than a week."""
    for kind in ("query", "query-v2"):
        url = sent(sign(get(), "s3", LASTING, kind))
        desk.now = timedelta(seconds=590)
        assert desk.ask(url).status == 200
        desk.now = timedelta(seconds=611)
        answer = desk.refused(url)
        assert (answer.status, b"Request has expired" in answer.body) == (403, True)
        desk.now = timedelta(0)
    request = sent(sign(get(), "s3", LASTING, "query"))
    longer = request.url.replace("X-Amz-Expires=600", "X-Amz-Expires=604801")
    assert b"AuthorizationQueryParametersError" in desk.refused(Sent("GET", longer, request.headers, b"")).body


def test_a_presigned_caller_identity_is_accepted(desk: Desk) -> None:
    """The URL that EKS and others pass around: a query service, presigned, by GET."""
    request = written("sts", "GetCallerIdentity", {})
    request.method, request.data = "GET", {}
    request.params = {"Action": "GetCallerIdentity", "Version": "2011-06-15"}
    del request.headers["Content-Type"]
    assert desk.ask(sent(sign(request, "sts", LASTING, "query"))).status == 200


# Chunked uploads. botocore writes the unsigned kind only, so AWS's published example anchors the signed one.

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
PUBLISHED = (
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)


def published(signatures: tuple[str, ...], data: bytes = b"a" * 66560) -> Sent:
    """The chunked upload of AWS's documentation, with these four signatures."""
    seed, first, second, last = signatures
    names = "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length"
    headers = {
        "host": "s3.amazonaws.com",
        "x-amz-date": "20130524T000000Z",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        f"SignedHeaders={names};x-amz-storage-class,Signature={seed}",
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "content-length": "66824",
    }
    body = b"10000;chunk-signature=%b\r\n%b\r\n" % (first.encode(), data[:65536])
    body += b"400;chunk-signature=%b\r\n%b\r\n" % (second.encode(), data[65536:])
    body += b"0;chunk-signature=%b\r\n\r\n" % last.encode()
    assert len(body) == 66824
    return Sent("PUT", "/examplebucket/chunkObject.txt", headers, body)


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    made.gateway.close()
    key = {"AKIAIOSFODNN7EXAMPLE": Credential("AKIAIOSFODNN7EXAMPLE", SECRET)}
    clock = lambda: datetime(2013, 5, 24, tzinfo=UTC)  # noqa: E731
    operations = {("s3", "PutObject"): made.note}
    made.gateway = Gateway(operations, key.get, {}.get, tmp_path, threads=2, spec=SPEC, now=clock)
    yield made
    made.gateway.close()


def test_awss_published_chunk_signatures_hold(documented: Desk) -> None:
    """The example of AWS's own documentation, in one piece and in splinters; no signature may differ in one digit."""
    for pieces in (1, 7, 700):
        assert documented.ask(published(PUBLISHED), pieces).status == 200
    assert documented.bodies == [b"a" * 66560] * 3
    assert "ContentEncoding" not in documented.asked[0][1]
    for index in range(4):
        for at in (0, 31, 63):
            changed = list(PUBLISHED)
            changed[index] = flipped(changed[index], at)
            documented.refused(published(tuple(changed)))
    for at in (0, 40_000, 65_535, 65_536, 66_559):
        data = bytearray(b"a" * 66560)
        data[at] ^= 1
        answer = documented.refused(published(PUBLISHED, bytes(data)))
        assert b"SignatureDoesNotMatch" in answer.body


def trailed(
    data: bytes, *, trailer: str = "x-amz-checksum-crc32", value: str | None = None, signed: bool = True
) -> Sent:
    """A chunked upload with a trailer, its chunks signed here by the published scheme."""
    import zlib
    from base64 import b64encode

    crc = b64encode(zlib.crc32(data).to_bytes(4, "big")).decode() if value is None else value
    request = written("s3", "PutObject", {"Bucket": "b", "Key": "k", "Body": b""})
    kind = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" if signed else "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    request.headers["X-Amz-Content-SHA256"] = kind
    request.headers["X-Amz-Decoded-Content-Length"] = str(len(data))
    request.headers["X-Amz-Trailer"] = "x-amz-checksum-crc32"
    request.headers["Content-Encoding"] = "gzip,aws-chunked"
    import botocore.auth

    class Signer(botocore.auth.S3SigV4Auth):  # type: ignore[misc]
        def payload(self, request: Any) -> str:
            return kind

        def _modify_request_before_signing(self, request: Any) -> None:
            botocore.auth.SigV4Auth._modify_request_before_signing(self, request)

    Signer(LASTING, "s3", "us-east-1").add_auth(request)
    head = sent(request)
    stamp, seed = head.headers["x-amz-date"], head.headers["authorization"].rpartition("Signature=")[2]
    key = ("AWS4" + LASTING.secret_key).encode()
    for part in (stamp[:8], "us-east-1", "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    scope, empty = f"{stamp[:8]}/us-east-1/s3/aws4_request", hashlib.sha256(b"").hexdigest()
    body, previous = b"", seed
    for chunk in (data[:9000], data[9000:], b""):
        text = f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{previous}\n{empty}\n{hashlib.sha256(chunk).hexdigest()}"
        previous = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        extension = f";chunk-signature={previous}" if signed else ""
        body += f"{len(chunk):x}{extension}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
    line = f"{trailer}:{crc}"
    digest = hashlib.sha256(f"{line}\n".encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{previous}\n{digest}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    body += f"{line}\r\n".encode() + (f"x-amz-trailer-signature:{signature}\r\n".encode() if signed else b"") + b"\r\n"
    return Sent(head.method, head.url, {**head.headers, "content-length": str(len(body))}, body)


@pytest.mark.parametrize("signed", [True, False])
def test_trailers_are_verified(desk: Desk, signed: bool) -> None:
    """The trailer's checksum is the body's; a changed byte anywhere after the head is refused."""
    data = bytes(range(256)) * 50
    good = trailed(data, signed=signed)
    for pieces in (1, 13):
        assert desk.ask(good, pieces).status == 200
    assert desk.bodies[-1] == data
    assert desk.asked[-1][1]["ContentEncoding"] == "gzip"
    assert list(desk.asked[-1][1]["Body"].checksums) == ["CRC32"]
    step = 97
    for at in [*range(0, len(good.body), step), *range(len(good.body) - 150, len(good.body))]:
        body = bytearray(good.body)
        body[at] ^= 1
        desk.refused(Sent(good.method, good.url, good.headers, bytes(body)))
    assert b"BadDigest" in desk.refused(trailed(data, value="AAAAAA==", signed=signed)).body
    assert b"invalid" in desk.refused(trailed(data, value="AAAA", signed=signed)).body
    assert b"MalformedTrailerError" in desk.refused(trailed(data, trailer="x-amz-checksum-crc32c", signed=signed)).body
    short = desk.refused(Sent(good.method, good.url, good.headers, good.body[:-2]))
    assert b"IncompleteBody" in short.body


def test_a_body_must_have_its_told_length_and_digests(desk: Desk) -> None:
    """Content-Length, Content-MD5, x-amz-checksum- and x-amz-content-sha256, each with S3's own code."""

    def headed(**headers: str) -> Sent:
        request = put()
        for name, value in headers.items():
            request.headers[name.replace("_", "-")] = value
        return sent(sign(request, "s3", LASTING))

    assert desk.ask(headed(x_amz_checksum_crc32="TyHpiQ==")).status in (200, 400)
    cases = [
        ({"x_amz_checksum_crc32": "AAAAAA=="}, b"BadDigest"),
        ({"x_amz_checksum_sha256": "AAAAAA=="}, b"InvalidRequest"),
        ({"x_amz_checksum_xxhash64": "AAAAAA=="}, b"unsupported"),
        ({"x_amz_checksum_crc32": "AAAAAA==", "x_amz_checksum_crc32c": "AAAAAA=="}, b"Expecting a single"),
        ({"x_amz_sdk_checksum_algorithm": "CRC32"}, b"no corresponding"),
        ({"Content_MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, b"BadDigest"),
        ({"Content_MD5": "AAAA"}, b"InvalidDigest"),
    ]
    for headers, code in cases:
        assert code in desk.refused(headed(**headers)).body
    good = headed()
    for length in ("11", "13"):
        assert (
            b"IncompleteBody"
            in desk.refused(Sent("PUT", good.url, {**good.headers, "content-length": length}, good.body)).body
        )
    other = Sent("PUT", good.url, good.headers, b"hello, bytez")
    assert b"XAmzContentSHA256Mismatch" in desk.refused(other).body
    without = {name: value for name, value in good.headers.items() if name != "content-length"}
    chunked = Sent("PUT", good.url, {**without, "transfer-encoding": "chunked"}, good.body)
    assert desk.refused(chunked).status == 411
    delete = written("s3", "DeleteObjects", {"Bucket": "b", "Delete": {"Objects": [{"Key": "a"}]}})
    assert b"Content-MD5" in desk.refused(sent(sign(delete, "s3", LASTING))).body
