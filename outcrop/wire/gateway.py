"""The ASGI application that speaks AWS: route, sign-check, parse, validate, call, serialise, send.

It is given operations as plain functions and two ways to look a key up; it knows protocols, and nothing of models, jobs
or stores. `Gateway._answer` and `Gateway._perform` are the whole way of a request.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import structlog

from outcrop.errors import MustWait, ServiceError
from outcrop.wire import faults, sigv4
from outcrop.wire.body import CallerGone, FileSlice, Receive, Upload, missing_length, promise, read, read_raw, spool
from outcrop.wire.parse import is_streamed, parse, parse_head
from outcrop.wire.refusals import refuse
from outcrop.wire.request import MalformedUri, Request, decode_form, from_scope
from outcrop.wire.route import Match, Router
from outcrop.wire.send import Sender
from outcrop.wire.serialize import Reply, Response, serialize
from outcrop.wire.signcheck import Checked, SignCheck, Signed, unhoisted
from outcrop.wire.sigv4 import Claim, Credential
from outcrop.wire.spec import SIGNED_AS, Service, Spec
from outcrop.wire.threads import Threads, in_thread
from outcrop.wire.validate import validate

__all__ = ["Credential", "FileSlice", "Gateway", "Reply", "Signed", "Upload", "is_aws_request"]

INVOKE_LIMIT: Final = 25_000_000
"""Bytes of an invoke body: the maximum of bedrock-runtime's own Body shape."""

BODY_LIMIT: Final = 20 * 1000 * 1000
"""Bytes of any other body that is held in memory."""

UPLOAD_LIMIT: Final = 5 * 1024**3
"""Bytes of one PutObject or UploadPart: S3's maximum."""

SMALL_BODY: Final = 4 * 1024
"""Bytes of a body that the event loop reads itself: of the most intricate ones that is some 5 ms of work."""

DRAIN_LIMIT: Final = 8 * 1024 * 1024
"""Bytes of a refused body that are read and dropped, so that a client still sending can read its refusal."""

DRAIN_SECONDS: Final = 2.0
"""How long a refusal waits for the rest of a body that does not come."""

Function = Callable[[Signed, dict[str, Any]], Mapping[str, Any] | Reply]

Admission = Callable[[Signed, Mapping[str, Any]], None]
"""Raises what the operation would answer, from the parameters of path, query and headers alone."""


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
        credential_known: Callable[[str], Credential | None] = lambda _access_key: None,
        at_once: Mapping[tuple[str, str], Function] | None = None,
        admit_upload: Admission | None = None,
        aside: Callable[[str, Mapping[str, str]], bool] = lambda _operation, _headers: False,
        threads: int = 32,
        default_region: str = "us-east-1",
        domains: Sequence[str] = ("localhost",),
        upload_limit: int = UPLOAD_LIMIT,
        spec: Spec | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Take the operations by (botocore's service name, AWS's operation name).

        `credential_for` and `bearer_for` are asked in a thread, per request; `credential_known` before that, in the
        event loop: what can be told of a key without waiting for anything. `at_once`: those of the operations that
        the event loop performs itself where their body is small; one that raises MustWait has done nothing, and is
        performed in a thread. `spool` is where uploads gather, as `upload-*`: on the file system that they are later
        renamed within. `admit_upload` is asked, in a thread, before such a body is read, so that a refused one never
        reaches the disk. `aside`: whether a request, by its operation and headers, takes long and itself asks this
        server: it runs apart from what it asks. `threads`: how many operations may wait on a model, and how many
        others may run, at a time. `default_region` is that of requests that name none (bearer keys, anonymous).
        `domains`: hosts in front of which a bucket's name may stand.
        """
        self._spec = spec or Spec()
        for service, name in operations:
            self._spec.operation(service, name)  # a misspelt operation must not wait for its first caller
        self._operations, self._at_once = dict(operations), dict(at_once or {})
        self._spool, self._upload_limit, self._admit_upload = spool, upload_limit, admit_upload
        self._router, self._aside = Router(self._spec, domains), aside
        self._threads = Threads(threads)
        self._signcheck = SignCheck(
            credential_known,
            credential_for,
            bearer_for,
            self._router,
            self._threads.quick,
            default_region=default_region,
            now=now,
        )
        self._log = structlog.get_logger("outcrop.wire")

    def close(self) -> None:
        """End the threads once what they do is done."""
        self._threads.close()

    async def __call__(
        self, scope: Mapping[str, Any], receive: Receive, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        """Answer one HTTP request of AWS's protocols."""
        request, request_id = from_scope(scope), str(uuid.uuid4())
        inbound = _Inbound(receive)
        service = self._spec.service("s3")
        match: Match | None = None
        sender = Sender(receive, send, self._threads.files, head=request.method == "HEAD")
        try:
            claim, services = self._claim(request)
            service = self._spec.service(services[0])
            match, response = await self._answer(request, claim, services, inbound, request_id)
            response = inbound.parting(scope, response)
            await sender.send(match, response, on_fault=lambda fault: self._told(service, fault, request_id))
        except CallerGone:
            return
        except Exception as fault:  # border: every fault of ours is told as AWS tells its own
            error = self._told(service, fault, request_id)
            if sender.started:
                raise  # the server breaks the connection off: a client must not take half an answer for a whole one
            head = request.method == "HEAD"
            response = faults.respond(service, error, request_id, resource=request.path, head=head)
            await inbound.drain(expected="expect" in request.headers)
            response = inbound.parting(scope, response)
            await sender.send(match, response, on_fault=lambda _: error)

    def _told(self, service: Service, fault: BaseException, request_id: str) -> ServiceError:
        """Return the error to answer with, and log what is a fault of ours: once, under the request's id."""
        if isinstance(fault, ServiceError):
            return fault
        if isinstance(fault, MalformedUri):
            code = {"rest-json": "SerializationException", "rest-xml": "InvalidURI", "query": "MalformedQueryString"}
            return ServiceError("Couldn't parse the specified URI.", code=code[service.protocol], status=400)
        self._log.error("request failed", request_id=request_id, service=service.name, exc_info=fault)
        return faults.internal(service, fault)

    def _claim(self, request: Request) -> tuple[Claim | None, tuple[str, ...]]:
        """Return what the request claims of its signature, and the services it may be for."""
        claim = sigv4.claim_of(request)
        if claim is None or claim.kind == "anonymous":
            return claim, self._router.unsigned(request)
        return claim, SIGNED_AS.get(claim.service, SIGNED_AS["bedrock"])

    async def _answer(
        self, request: Request, claim: Claim | None, services: tuple[str, ...], inbound: "_Inbound", request_id: str
    ) -> tuple[Match, Response]:
        """Route and sign-check; then, with the body whole and verified, the rest of the way in a thread."""
        service = self._spec.service(services[0])
        is_s3 = service.protocol == "rest-xml"
        match = self._router.rest(services, request) if service.protocol != "query" else None
        raw = b"" if is_s3 else await self._read_signed(match, inbound)
        if service.protocol == "query":  # its body may name the operation
            match = self._router.query(service.name, request, raw.decode("latin-1"))
        checked = await self._signcheck.check(service, match, request, claim, raw, request_id=request_id)
        match = self._implemented(service, match, request, raw)
        if claim is not None and claim.kind != "anonymous" and claim.service not in SIGNED_AS:
            raise refuse(service.protocol, "wrong-service", "bedrock")
        request = unhoisted(request, claim) if is_s3 else request
        body = await self._read_s3(match, request, checked, inbound) if is_s3 else raw
        try:
            return match, await self._respond(match, checked.signed, request, body)
        finally:
            if isinstance(body, Upload):
                await in_thread(self._threads.files, lambda: body.path.unlink(missing_ok=True))

    def _pool(self, match: Match, request: Request) -> Executor:
        """Where the operation runs."""
        if match.service.name == "bedrock-runtime":
            return self._threads.waiting
        return self._threads.aside if self._aside(match.operation.name, request.headers) else self._threads.quick

    def _admit(self, match: Match, signed: Signed, request: Request) -> None:
        """Refuse an upload for what its head says."""
        params = parse_head(match, request)
        validate(match, params)
        if self._admit_upload is not None:
            self._admit_upload(signed, params)

    async def _respond(self, match: Match, signed: Signed, request: Request, body: bytes | Upload) -> Response:
        """Perform the operation here, where it is known to wait for nothing; else in a thread."""
        named = match.service.name, match.operation.name
        if named in self._at_once and isinstance(body, bytes) and len(body) <= SMALL_BODY:
            with contextlib.suppress(MustWait):
                return self._perform(self._at_once[named], match, signed, request, body)
        function = self._operations[named]
        return await in_thread(
            self._pool(match, request), lambda: self._perform(function, match, signed, request, body)
        )

    def _perform(
        self, function: Function, match: Match, signed: Signed, request: Request, body: bytes | Upload
    ) -> Response:
        """Parse, validate, call, serialise."""
        params = parse(match, request, body)
        validate(match, params)
        output = function(signed, params)
        reply = output if isinstance(output, Reply) else Reply(output)
        return serialize(match, reply, signed.request_id)

    def _implemented(self, service: Service, match: Match | None, request: Request, raw: bytes) -> Match:
        """The operation must be known and ours. Asked after the signature, as in AWS: strangers learn nothing."""
        if match is not None and (match.service.name, match.operation.name) in self._operations:
            return match
        if service.protocol == "query":
            action = dict(request.pairs() + decode_form(raw.decode("latin-1"))).get("Action", "")
            raise faults.unknown_action(service, action)
        if service.protocol == "rest-json":
            raise faults.unknown_operation()
        if match is None and self._router.has_path("s3", request):
            raise faults.method_not_allowed()
        raise faults.not_implemented()

    async def _read_signed(self, match: Match | None, inbound: "_Inbound") -> bytes:
        """Read a body that is itself part of what is signed: everything but S3's."""
        if match is not None and match.operation.name.startswith("InvokeModel"):
            rule = f"Member must have length less than or equal to {INVOKE_LIMIT}"
            text = f"1 validation error detected: Value at 'body' failed to satisfy constraint: {rule}"
            error = ServiceError(text, code="ValidationException", status=400)
            return await read_raw(inbound.receive, INVOKE_LIMIT, error)
        message = f"The request body is larger than {BODY_LIMIT} bytes."
        error = ServiceError(message, code="RequestEntityTooLargeException", status=413)
        return await read_raw(inbound.receive, BODY_LIMIT, error)

    async def _read_s3(self, match: Match, request: Request, checked: Checked, inbound: "_Inbound") -> bytes | Upload:
        """Read an S3 body, to disk if it may be of any size, and verify everything that its head promised of it."""
        rules = match.operation.http_checksum or {}
        checksummed = "requestAlgorithmMember" in rules
        told = promise(request.headers, checked.payload, checked.proof, checksummed=checksummed)
        if not is_streamed(match.operation.input_shape):
            if rules.get("requestChecksumRequired") and told.md5 is None and not told.given and not told.promised:
                message = "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
                raise ServiceError(message, code="InvalidRequest")
            error = ServiceError("Your request was too big.", code="MaxMessageLengthExceeded")
            return await read(inbound.receive, told, BODY_LIMIT, error)
        if told.size is None and "transfer-encoding" in request.headers:
            raise missing_length()
        shown = {"ProposedSize": told.size, "MaxSizeAllowed": self._upload_limit}
        message = "Your proposed upload exceeds the maximum allowed size"
        error = ServiceError(message, code="EntityTooLarge", **shown)
        if told.size is not None and told.size > self._upload_limit:
            raise error
        await in_thread(self._threads.quick, lambda: self._admit(match, checked.signed, request))
        files = self._threads.files
        return await spool(inbound.receive, told, self._spool, files, limit=self._upload_limit, too_large=error)


class _Inbound:
    """ASGI's receive, that remembers whether the body has ended."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False
        self._came = False

    async def receive(self) -> Mapping[str, Any]:
        message = await self._receive()
        self._came = self._came or bool(message.get("body"))
        self._ended = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    def parting(self, scope: Mapping[str, Any], response: Response) -> Response:
        """Close the connection behind an answer that a client got in the place of a 100 Continue, as S3 does.

        Nothing asks for the body of an upload of no bytes, so none is continued; and botocore takes the status of such
        an answer for that of the next request on the connection.
        """
        expects = any(name.lower() == b"expect" for name, _ in scope["headers"])
        if not expects or self._came or not scope.get("http_version", "1.1").startswith("1"):
            return response
        return replace(response, headers={**response.headers, "connection": "close"})

    async def drain(self, *, expected: bool) -> None:
        """Drop what is left of a refused body, within limits; nothing, where the client waits for a 100 Continue."""
        dropped = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._ended and not expected and dropped < DRAIN_LIMIT:
                    message = await self.receive()
                    dropped += len(message.get("body", b""))
