"""Who sends this request? The claim on its head is looked up and verified; what holds is a `Signed`.

Between the pure `sigv4` and the gateway: it asks for unknown credentials in a thread, and knows the three ways to come
without a SigV4 header (a bearer key, a presigned URL, nobody at all). Knows no operation and no body beyond its hash.
"""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from outcrop.errors import ServiceError
from outcrop.wire import sigv4
from outcrop.wire.refusals import refuse
from outcrop.wire.request import Request
from outcrop.wire.route import Match, Router
from outcrop.wire.sigv2 import verify_v2
from outcrop.wire.sigv4 import Claim, Credential, Proof
from outcrop.wire.spec import Service
from outcrop.wire.threads import in_thread

_QUERY_FORM: Final = (
    "Query-string authentication requires X-Amz-Algorithm, X-Amz-Credential, X-Amz-Date, X-Amz-Expires, "
    "X-Amz-SignedHeaders and X-Amz-Signature; or AWSAccessKeyId, Expires and Signature."
)
_HEADER_FORM: Final = (
    "it must be AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=…, Signature=…"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """A request whose signature held: who asks, for what, where.

    `access_key` None is an anonymous S3 request. `service` is botocore's name, `operation` AWS's ("" where the path
    names none). `headers` have lower-case names. `secure`: it came over TLS. `source_ip`: the address at the other end
    of the connection, if known. `region_named`: the signature says the region; of an anonymous or a version 2 one it is
    the default.
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


@dataclass(frozen=True, slots=True)
class Checked:
    """A signature found true: who signed, and what the body must turn out to be."""

    signed: Signed
    payload: str
    """The payload line of the signature: a hex SHA-256, UNSIGNED-PAYLOAD, or one of the STREAMING words."""
    proof: Proof | None
    """What the signatures of the body's chunks build on."""


@dataclass(frozen=True, slots=True)
class SignCheck:
    """Verifies claims with the keys it is given ways to look up; `pool` is where it asks."""

    credential_known: Callable[[str], Credential | None]
    credential_for: Callable[[str], Credential | None]
    bearer_for: Callable[[str], str | None]
    router: Router
    pool: Executor
    default_region: str
    now: Callable[[], datetime]

    async def check(
        self,
        service: Service,
        match: Match | None,
        request: Request,
        claim: Claim | None,
        raw: bytes,
        *,
        request_id: str,
    ) -> Checked:
        """Return what holds of the claim; raises ServiceError, in the protocol's own words, where it does not."""
        if claim is None:
            raise _unreadable(service, request)
        access_key: str | None = claim.access_key
        proof: Proof | None = None
        payload = request.headers.get("x-amz-content-sha256", sigv4.UNSIGNED)
        if claim.kind == "anonymous":
            if service.protocol != "rest-xml":
                raise refuse(service.protocol, "missing")
            access_key = None
        elif claim.kind == "bearer":
            access_key = await in_thread(self.pool, lambda: self.bearer_for(claim.token or ""))
            if access_key is None:
                raise refuse(service.protocol, "unknown-key")
        else:
            now = self.now()
            found = self.credential_known(claim.access_key)
            if found is None:
                found = await in_thread(self.pool, lambda: self.credential_for(claim.access_key))
            credential = sigv4.check_credential(claim, found, service.protocol, now)
            if claim.kind == "query-v2":
                verify_v2(request, claim, credential, self.router.bucket_of_host(request.host), now)
            else:
                payload = _payload_line(service, request, claim, raw)
                proof = sigv4.verify(request, claim, credential, payload, protocol=service.protocol, now=now)
        signed = Signed(
            access_key=access_key,
            service=match.service.name if match else service.name,
            operation=match.operation.name if match else "",
            region=claim.region or self.default_region,
            request_id=request_id,
            host=request.host,
            headers=request.headers,
            secure=request.scheme == "https",
            source_ip=request.client,
            region_named=bool(claim.region),
        )
        return Checked(signed, payload, proof)


def _unreadable(service: Service, request: Request) -> ServiceError:
    """The error for credentials that have no readable form."""
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("AWS ") and service.protocol == "rest-xml":
        message = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        return ServiceError(message, code="InvalidRequest")
    if authorization:
        return refuse(service.protocol, "incomplete", _HEADER_FORM)
    return refuse(service.protocol, "bad-url", _QUERY_FORM)


def _payload_line(service: Service, request: Request, claim: Claim, raw: bytes) -> str:
    """Return the payload line of the canonical request; what it says of an S3 body is checked as the body is read."""
    told = request.headers.get("x-amz-content-sha256")
    if service.protocol == "rest-xml":
        if told is None and claim.kind == "header":
            message = "Missing required header for this request: x-amz-content-sha256"
            raise ServiceError(message, code="InvalidRequest")
        return told or sigv4.UNSIGNED
    computed = hashlib.sha256(raw).hexdigest()
    if told is not None and told != computed:
        raise refuse(service.protocol, "payload-mismatch")
    return computed


def unhoisted(request: Request, claim: Claim | None) -> Request:
    """Return an S3 request with headers as the operation means them.

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
