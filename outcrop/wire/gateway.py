"""The ASGI application that speaks AWS: route, sign-check, parse, validate, call, serialise, send.

It is given operations as plain functions and two ways to look a key up; it knows protocols, and nothing of models, jobs
or stores. `Gateway._answer` is the whole way of a request.
"""

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from outcrop.errors import ServiceError
from outcrop.wire import faults, sigv4
from outcrop.wire.body import CallerGone, FileSlice, Receive, Upload, missing_length, promise, read, read_raw, spool
from outcrop.wire.parse import is_streamed, parse
from outcrop.wire.refusals import refuse
from outcrop.wire.request import MalformedUri, Request, from_scope
from outcrop.wire.route import Match, Router
from outcrop.wire.send import Sender
from outcrop.wire.serialize import Reply, Response, serialize
from outcrop.wire.sigv2 import verify_v2
from outcrop.wire.sigv4 import Claim, Credential, Proof
from outcrop.wire.spec import SIGNED_AS, Service, Spec
from outcrop.wire.validate import validate

__all__ = ["Credential", "FileSlice", "Gateway", "Reply", "Signed", "Upload", "is_aws_request"]

T = TypeVar("T")

INVOKE_LIMIT: Final = 25_000_000
"""Bytes of an invoke body: the maximum of bedrock-runtime's own Body shape."""

BODY_LIMIT: Final = 20 * 1000 * 1000
"""Bytes of any other body that is held in memory."""

UPLOAD_LIMIT: Final = 5 * 1024**3
"""Bytes of one PutObject or UploadPart: S3's maximum."""

DRAIN_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that a client still sending can read its refusal."""

FILE_THREADS: Final = 4
"""Threads that spool uploads and read downloads; their own, so that slow operations cannot starve them."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature held: who asks, for what, where.

    `access_key` None is an anonymous S3 request. `service` is botocore's name, `operation` AWS's. `headers` have
    lower-case names. `secure`: it came over TLS. `source_ip`: the address at the other end of the connection, if known.
    `region_named`: the signature says the region; of an anonymous or a version 2 one it is the default.
    """

    access_key: str | None
    service: str
    operation: str
    region: str
    request_id: str
    host: str
    headers: Mapping[str, str]
    secure: bool
    source_ip: str = ""
    region_named: bool = True


Function = Callable[[Signed, dict[str, Any]], Mapping[str, Any] | Reply]


def is_aws_request(scope: Mapping[str, Any]) -> bool:
    """Whether an HTTP scope bears a mark of AWS's protocols: credentials of any form, or a header of its SDKs.

    An anonymous GET of a public object by a browser bears none.
    """
    for name, value in scope["headers"]:
        if name.lower() == b"authorization":
            return bool(value.startswith(b"AWS") or value.lower().startswith(b"bearer "))
        if name.lower().startswith((b"x-amz-", b"amz-sdk-")):
            return True
    query = scope["query_string"]
    return b"X-Amz-Signature=" in query or (b"AWSAccessKeyId=" in query and b"Signature=" in query)


class Gateway:
    """All services on one address. Call it with ASGI's three arguments; `close()` ends its threads."""

    def __init__(
        self,
        operations: Mapping[tuple[str, str], Function],
        credential_for: Callable[[str], Credential | None],
        bearer_for: Callable[[str], str | None],
        spool: Path,
        *,
        threads: int = 32,
        default_region: str = "us-east-1",
        domains: Sequence[str] = ("localhost",),
        upload_limit: int = UPLOAD_LIMIT,
        spec: Spec | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the operations by (botocore's service name, AWS's operation name).

        `credential_for` and `bearer_for` are asked in a thread, per request. `spool` is where uploads gather: on the
        file system that they are later renamed within. `default_region` is that of requests that name none (bearer
        keys, anonymous). `domains`: hosts in front of which a bucket's name may stand.
        """
        self._spec = spec or Spec()
        for service, name in operations:
            self._spec.operation(service, name)  # a misspelt operation must not wait for its first caller
        self._operations = dict(operations)
        self._credential_for, self._bearer_for = credential_for, bearer_for
        self._spool, self._default_region, self._upload_limit, self._now = spool, default_region, upload_limit, now
        self._router = Router(self._spec, domains)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="operation")
        self._file_threads = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="file")
        self._log = structlog.get_logger("outcrop.wire")

    def close(self) -> None:
        """End the threads once what they do is done."""
        self._threads.shutdown(wait=True)
        self._file_threads.shutdown(wait=True)

    async def __call__(
        self, scope: Mapping[str, Any], receive: Receive, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        """Answer one HTTP request of AWS's protocols."""
        request, request_id = from_scope(scope), str(uuid.uuid4())
        inbound = _Inbound(receive)
        service = self._spec.service("s3")
        match: Match | None = None
        sender = Sender(receive, send, self._file_threads, head=request.method == "HEAD")
        try:
            claim, services = self._claim(request)
            service = self._spec.service(services[0])
            match, response = await self._answer(request, claim, services, inbound, request_id)
            await sender.send(match, response, on_fault=lambda fault: self._told(service, fault, request_id))
        except CallerGone:
            return
        except Exception as fault:  # border: every fault of ours is told as AWS tells its own
            error = self._told(service, fault, request_id)
            head = request.method == "HEAD"
            response = faults.respond(service, error, request_id, resource=request.path, head=head)
            if not sender.started:
                await inbound.drain(expected="expect" in request.headers)
                await sender.send(match, response, on_fault=lambda _: error)

    def _told(self, service: Service, fault: BaseException, request_id: str) -> ServiceError:
        """Return the error to answer with, and log what is a fault of ours: once, under the request's id."""
        if isinstance(fault, ServiceError):
            return fault
        if isinstance(fault, MalformedUri):
            return ServiceError("Couldn't parse the specified URI.", code="InvalidURI", status=400)
        self._log.error("request failed", request_id=request_id, service=service.name, exc_info=fault)
        return faults.internal(service, fault)

    def _claim(self, request: Request) -> tuple[Claim | None, tuple[str, ...]]:
        """Return what the request claims of its signature, and the services it may be for."""
        claim = sigv4.claim_of(request)
        if claim is None or claim.kind == "anonymous":
            return claim, self._router.unsigned(request)
        return claim, SIGNED_AS.get(claim.service, ("bedrock",))

    async def _answer(
        self, request: Request, claim: Claim | None, services: tuple[str, ...], inbound: "_Inbound", request_id: str
    ) -> tuple[Match, Response]:
        """The whole way of a request; each step is given what the last one found."""
        service = self._spec.service(services[0])
        raw = b"" if service.protocol == "rest-xml" else await self._read_raw(services, request, inbound)
        match = self._route(services, request, raw)
        signed, proof, payload = await self._check_signature(
            match, request, claim, raw, service=service, request_id=request_id
        )
        match = self._implemented(service, match, request)
        request = _unhoisted(request, claim) if service.protocol == "rest-xml" else request
        body = raw if service.protocol != "rest-xml" else await self._take(match, request, payload, proof, inbound)
        try:
            params = parse(match, request, body)
            validate(match, params)
            output = await self._call(match, signed, params)
            reply = output if isinstance(output, Reply) else Reply(output)
            return match, serialize(match, reply, request_id)
        finally:
            if isinstance(body, Upload):
                await _in_thread(self._file_threads, lambda: body.path.unlink(missing_ok=True))

    # 1 route

    def _route(self, services: tuple[str, ...], request: Request, raw: bytes) -> Match | None:
        if self._spec.service(services[0]).protocol == "query":
            return self._router.query(services[0], request, raw.decode("latin-1"))
        return self._router.rest(services, request)

    def _implemented(self, service: Service, match: Match | None, request: Request) -> Match:
        """The operation must be known and ours. Asked after the signature, as in AWS: strangers learn nothing."""
        if match is None:
            known = service.protocol == "rest-xml" and self._router.has_path("s3", request)
            raise faults.unknown_operation(service, known_path=known)
        if (match.service.name, match.operation.name) not in self._operations:
            if service.protocol == "rest-xml":
                raise faults.not_implemented()
            raise faults.unknown_operation(service, known_path=False)
        return match

    async def _read_raw(self, services: tuple[str, ...], request: Request, inbound: "_Inbound") -> bytes:
        match = self._router.rest(services, request) if len(services) > 1 else None
        payload = (
            match.operation.input_shape.serialization.get("payload") if match and match.operation.input_shape else ""
        )
        if match is not None and match.service.name == "bedrock-runtime" and payload == "body":
            rule = f"Member must have length less than or equal to {INVOKE_LIMIT}"
            text = f"1 validation error detected: Value at 'body' failed to satisfy constraint: {rule}"
            error = ServiceError(text, code="ValidationException", status=400)
            return await read_raw(inbound.receive, INVOKE_LIMIT, error)
        message = f"The request body is larger than {BODY_LIMIT} bytes."
        error = ServiceError(message, code="RequestEntityTooLargeException", status=413)
        return await read_raw(inbound.receive, BODY_LIMIT, error)

    # 2 sign-check

    async def _check_signature(
        self,
        match: Match | None,
        request: Request,
        claim: Claim | None,
        raw: bytes,
        *,
        service: Service,
        request_id: str,
    ) -> tuple[Signed, Proof | None, str]:
        """Return who signed, what the body's own signatures build on, and the payload line of the signature."""
        proof: Proof | None = None
        payload = sigv4.UNSIGNED
        if claim is None:
            raise _unreadable(service, request)
        if claim.kind == "anonymous":
            if service.protocol != "rest-xml":
                raise refuse(service.protocol, "missing")
            access_key = None
        elif claim.kind == "bearer":
            access_key = await _in_thread(self._threads, lambda: self._bearer_for(claim.token or ""))
            if access_key is None:
                raise refuse(service.protocol, "unknown-key")
        else:
            now, access_key = self._now(), claim.access_key
            found = await _in_thread(self._threads, lambda: self._credential_for(claim.access_key))
            credential = sigv4.check_credential(claim, found, service.protocol, now)
            if claim.kind == "query-v2":
                verify_v2(request, claim, credential, self._router.bucket_of_host(request.host), now)
            else:
                payload = _payload_line(service, request, claim, raw)
                proof = sigv4.verify(request, claim, credential, payload, protocol=service.protocol, now=now)
        signed = Signed(
            access_key=access_key,
            service=match.service.name if match else service.name,
            operation=match.operation.name if match else "",
            region=claim.region or self._default_region,
            request_id=request_id,
            host=request.host,
            headers=request.headers,
            secure=request.scheme == "https",
            source_ip=request.client,
            region_named=bool(claim.region),
        )
        return signed, proof, payload

    async def _take(
        self, match: Match, request: Request, payload: str, proof: Proof | None, inbound: "_Inbound"
    ) -> bytes | Upload:
        """Read an S3 body, verified against everything that the head promised of it."""
        checksummed = "requestAlgorithmMember" in (match.operation.http_checksum or {})
        told = promise(request.headers, payload, proof, checksummed=checksummed)
        if is_streamed(match.operation.input_shape):
            if told.size is None and "transfer-encoding" in request.headers:
                raise missing_length()
            shown = {"ProposedSize": told.size, "MaxSizeAllowed": self._upload_limit}
            message = "Your proposed upload exceeds the maximum allowed size"
            error = ServiceError(message, code="EntityTooLarge", **shown)
            if told.size is not None and told.size > self._upload_limit:
                raise error
            return await spool(
                inbound.receive, told, self._spool, self._file_threads, limit=self._upload_limit, too_large=error
            )
        required = (match.operation.http_checksum or {}).get("requestChecksumRequired")
        if required and told.md5 is None and not told.given and not told.promised:
            message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
            raise ServiceError(message, code="InvalidRequest")
        error = ServiceError("Your request was too big.", code="MaxMessageLengthExceeded")
        return await read(inbound.receive, told, BODY_LIMIT, error)

    # 5 call

    async def _call(self, match: Match, signed: Signed, params: dict[str, Any]) -> Mapping[str, Any] | Reply:
        function = self._operations[match.service.name, match.operation.name]
        return await _in_thread(self._threads, lambda: function(signed, params))


def _unreadable(service: Service, request: Request) -> ServiceError:
    """The error for credentials that have no readable form."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("AWS ") and service.protocol == "rest-xml":
        message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        return ServiceError(message, code="InvalidRequest")
    if authorization:
        detail = (
            "it must be AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=…, Signature=…"
        )
        return refuse(service.protocol, "incomplete", detail)
    detail = "Query-string authentication requires X-Amz-Algorithm, X-Amz-Credential, X-Amz-Date, X-Amz-Expires, "
    detail += "X-Amz-SignedHeaders and X-Amz-Signature; or AWSAccessKeyId, Expires and Signature."
    return refuse(service.protocol, "bad-url", detail)


def _payload_line(service: Service, request: Request, claim: Claim, raw: bytes) -> str:
    """Return the payload line of the canonical request; what it says of the body is checked here or by the intake."""
    told = request.headers.get("x-amz-content-sha256")
    if service.protocol == "rest-xml":
        if claim.kind == "query":
            return told or sigv4.UNSIGNED
        if told is None:
            message = "Missing required header for this request: x-amz-content-sha256"
            raise ServiceError(message, code="InvalidRequest")
        return told
    computed = hashlib.sha256(raw).hexdigest()
    if told is not None and told != computed:
        raise refuse(service.protocol, "payload-mismatch")
    return computed


def _unhoisted(request: Request, claim: Claim | None) -> Request:
    """Return the request with headers as the operation means them.

    A presigned URL carries in its query what would have been headers; `aws-chunked` and its length are how the body
    travelled, not what the object is.
    """
    headers = dict(request.headers)
    if claim is not None and claim.kind in ("query", "query-v2"):
        for name, value in request.pairs():
            lower = name.lower()
            if lower.startswith("x-amz-") or lower in ("content-type", "content-md5"):
                headers.setdefault(lower, value.encode("utf-8").decode("latin-1"))
    if "x-amz-decoded-content-length" in headers:
        headers["content-length"] = headers["x-amz-decoded-content-length"]
    if "content-encoding" in headers:
        codings = [each.strip() for each in headers.pop("content-encoding").split(",")]
        kept = [each for each in codings if each and each != "aws-chunked"]
        if kept:
            headers["content-encoding"] = ",".join(kept)
    return request.with_headers(headers)


class _Inbound:
    """ASGI's receive, that remembers whether the body has ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False

    async def receive(self) -> Mapping[str, Any]:
        message = await self._receive()
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    async def drain(self, *, expected: bool) -> None:
        """Drop what is left of a refused body, within a limit; nothing, where the client waits for a 100 Continue."""
        dropped = 0
        while not self._ended and not expected and dropped < DRAIN_LIMIT:
            message = await self.receive()
            dropped += len(message.get("body", b""))


async def _in_thread(pool: Executor, work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, work)
