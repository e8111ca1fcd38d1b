"""Is this signature true? SigV4 in the header or in the query, S3's older presigned form, bearer keys.

Pure: a request's head, a credential and the time go in; who signed, and what the body must turn out to be, comes out.
Bodies themselves are checked where they are read (`body`, `chunked`), with the keys found here.
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes

from outcrop.errors import ServiceError
from outcrop.wire.refusals import refuse
from outcrop.wire.request import AUTHORITY, Request
from outcrop.wire.spec import ServiceProtocol

ALGORITHM: Final = "AWS4-HMAC-SHA256"

MAX_SKEW: Final = timedelta(minutes=15)
"""AWS's bound on the difference between the request's clock and ours."""

MAX_URL_SECONDS: Final = 7 * 24 * 3600
"""AWS's bound on a presigned URL's life."""

UNSIGNED: Final = "UNSIGNED-PAYLOAD"

EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

CACHED: Final = 256
"""Derived keys, and instants, that are kept: a key signs all day, and many requests come in one second."""

Kind = Literal["header", "query", "query-v2", "bearer", "anonymous"]


@dataclass(frozen=True, slots=True)
class Credential:
    """An access key and what proves it; `session_token` and `expires` are of temporary keys only."""

    access_key: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its own signature; nothing in it is believed yet."""

    kind: Kind
    access_key: str = ""
    region: str = ""
    service: str = ""
    scope_date: str = ""
    timestamp: str = ""
    signed_headers: tuple[str, ...] = ()
    signature: str = ""
    token: str | None = None
    expires_seconds: int = 0

    @property
    def scope(self) -> str:
        """The credential scope without the access key."""
        return f"{self.scope_date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class Proof:
    """A signature found true, with what the body's own signatures build on."""

    key: bytes = field(repr=False)
    signature: str
    timestamp: str
    scope: str


_QUERY_MARKS: Final = frozenset(
    {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}
)

_HEADER: Final = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^,\s]+)\s*,\s*SignedHeaders=(?P<headers>[^,\s]+)\s*,\s*"
    r"Signature=(?P<signature>[^,\s]+)\s*"
)


def claim_of(request: Request) -> Claim | None:
    """Return what the request claims, or None where its credentials have no readable form at all.

    Never raises: whose error words to use is known only once the claim names its service.
    """
    authorization = request.headers.get("authorization", "")
    query = dict(request.pairs())
    if authorization.lower().startswith("bearer "):
        return Claim("bearer", service="bedrock", token=authorization[7:].strip())
    if authorization:
        found = _HEADER.fullmatch(authorization)
        return None if found is None else _claim_in_header(request, found)
    # One mark of a signature makes a claim: what is half a signature must not pass for no signature at all.
    if query.keys() & _QUERY_MARKS:
        return _claim_in_query(query)
    if query.keys() & {"AWSAccessKeyId", "Signature"}:
        if "AWSAccessKeyId" not in query or "Signature" not in query:
            return None
        expires = query.get("Expires", "")
        return Claim(
            "query-v2",
            access_key=query["AWSAccessKeyId"],
            service="s3",
            signature=query["Signature"],
            token=query.get("x-amz-security-token"),
            expires_seconds=_seconds(expires),
        )
    return Claim("anonymous")


def _claim_in_header(request: Request, found: re.Match[str]) -> Claim | None:
    scope = found["credential"].rsplit("/", 4)
    if len(scope) != 5 or scope[4] != "aws4_request":
        return None
    return Claim(
        "header",
        access_key=scope[0],
        scope_date=scope[1],
        region=scope[2],
        service=scope[3],
        timestamp=request.headers.get("x-amz-date", ""),
        signed_headers=tuple(found["headers"].split(";")),
        signature=found["signature"],
        token=request.headers.get("x-amz-security-token"),
    )


def _claim_in_query(query: Mapping[str, str]) -> Claim | None:
    scope = query.get("X-Amz-Credential", "").rsplit("/", 4)
    expires = query.get("X-Amz-Expires", "")
    if len(scope) != 5 or scope[4] != "aws4_request" or query.get("X-Amz-Algorithm") != ALGORITHM:
        return None
    return Claim(
        "query",
        access_key=scope[0],
        scope_date=scope[1],
        region=scope[2],
        service=scope[3],
        timestamp=query.get("X-Amz-Date", ""),
        signed_headers=tuple(query.get("X-Amz-SignedHeaders", "").split(";")),
        signature=query.get("X-Amz-Signature", ""),
        token=query.get("X-Amz-Security-Token"),
        expires_seconds=int(expires) if expires.isascii() and expires.isdigit() else 0,
    )


def _seconds(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,12}", text) else 0


def check_credential(
    claim: Claim, credential: Credential | None, protocol: ServiceProtocol, now: datetime
) -> Credential:
    """Return the credential if the key exists, lives, and the session token is its own; else raise ServiceError."""
    if credential is None:
        raise refuse(protocol, "unknown-key", AWSAccessKeyId=claim.access_key)
    if credential.expires is not None and credential.expires <= now:
        raise refuse(protocol, "expired-key")
    given, kept = claim.token or "", credential.session_token or ""
    if not hmac.compare_digest(given.encode(), kept.encode()):
        raise refuse(protocol, "wrong-token")
    return credential


def verify(
    request: Request, claim: Claim, credential: Credential, payload: str, *, protocol: ServiceProtocol, now: datetime
) -> Proof:
    """Return the proof that the credential's secret signed this request; raises ServiceError where it did not.

    `payload` is the payload line of the canonical request: a hex SHA-256, or one of the `UNSIGNED`/`STREAMING` words.
    """
    at = _check_time(claim, protocol, now)
    _check_headers(request, claim, protocol)
    key = signing_key(credential.secret, claim.scope_date, claim.region, claim.service)
    canonical = ""
    for path, query in _spellings(request, claim):
        canonical = canonical_request(request, path, query, claim.signed_headers, payload)
        text = string_to_sign(at, claim.scope, canonical)
        if hmac.compare_digest(_hex(key, text).encode(), claim.signature.encode()):
            return Proof(key, claim.signature, claim.timestamp, claim.scope)
    raise _mismatch(claim, canonical, string_to_sign(at, claim.scope, canonical), protocol)


def _mismatch(claim: Claim, canonical: str, text: str, protocol: ServiceProtocol) -> ServiceError:
    error = refuse(
        protocol,
        "mismatch",
        AWSAccessKeyId=claim.access_key,
        StringToSign=text,
        SignatureProvided=claim.signature,
        CanonicalRequest=canonical,
    )
    if protocol == "rest-xml":
        return error
    shown = (
        f"{error.message}\n\nThe Canonical String for this request should have been\n'{canonical}'\n\n"
        f"The String-to-Sign should have been\n'{text}'\n"
    )
    return ServiceError(shown, code=error.code, status=error.status)


def _check_time(claim: Claim, protocol: ServiceProtocol, now: datetime) -> str:
    try:
        at = _instant(claim.timestamp)
    except ValueError:
        detail = f"X-Amz-Date must be there, in the form 20240501T120000Z; given '{claim.timestamp}'."
        raise refuse(protocol, "incomplete" if claim.kind == "header" else "bad-url", detail) from None
    if claim.scope_date != claim.timestamp[:8]:
        detail = (
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.scope_date}' != '{claim.timestamp[:8]}', from '{claim.timestamp}'."
        )
        raise refuse(protocol, "incomplete" if claim.kind == "header" else "bad-url", detail)
    if claim.kind == "query" and not 1 <= claim.expires_seconds <= MAX_URL_SECONDS:
        detail = (
            "X-Amz-Expires must be a positive number of seconds, less than a week (in seconds); that is, the given "
        )
        raise refuse(protocol, "bad-url", detail + f"X-Amz-Expires must be less than {MAX_URL_SECONDS} seconds")
    life = timedelta(seconds=claim.expires_seconds) if claim.kind == "query" else MAX_SKEW
    if now > at + life:
        earliest = now - MAX_SKEW
        detail = f"Signature expired: {_stamp(at)} is now earlier than {_stamp(earliest)} ({_stamp(now)} - 15 min.)"
        if claim.kind == "query":
            shown = {"X-Amz-Expires": claim.expires_seconds, "Expires": _iso(at + life), "ServerTime": _iso(now)}
            raise refuse(protocol, "expired-url", detail, **shown)
        raise _skewed(protocol, detail, claim, now)
    if at > now + MAX_SKEW:
        latest = now + MAX_SKEW
        detail = (
            f"Signature not yet current: {_stamp(at)} is still later than {_stamp(latest)} ({_stamp(now)} + 15 min.)"
        )
        raise _skewed(protocol, detail, claim, now)
    return claim.timestamp


@lru_cache(maxsize=CACHED)
def _instant(timestamp: str) -> datetime:
    return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _skewed(protocol: ServiceProtocol, detail: str, claim: Claim, now: datetime) -> ServiceError:
    milliseconds = int(MAX_SKEW.total_seconds() * 1000)
    shown = {"RequestTime": claim.timestamp, "ServerTime": _iso(now), "MaxAllowedSkewMilliseconds": milliseconds}
    return refuse(protocol, "skewed", detail, **shown)


def _check_headers(request: Request, claim: Claim, protocol: ServiceProtocol) -> None:
    """What SigV4 demands of SignedHeaders: host (or HTTP/2's :authority), and every x-amz- header that was sent."""
    if not {"host", AUTHORITY} & set(claim.signed_headers):
        raise refuse(protocol, "unsigned-headers", "'Host' must be a 'SignedHeader' in the AWS Authorization.")
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in claim.signed_headers]
    if unsigned:
        detail = f"The headers {unsigned} must be signed: each is an x-amz- header of the request."
        raise refuse(protocol, "unsigned-headers", detail, HeadersNotSigned=", ".join(sorted(unsigned)))
    absent = [name for name in claim.signed_headers if name not in request.headers]
    if absent:
        raise refuse(protocol, "mismatch", AWSAccessKeyId=claim.access_key, SignatureProvided=claim.signature)


def _spellings(request: Request, claim: Claim) -> list[tuple[str, str]]:
    """The canonical paths and queries to try: as sent, then normalised. Clients differ in spelling, not in meaning."""
    drop = "X-Amz-Signature" if claim.kind == "query" else ""
    pieces = [each.partition("=") for each in request.query.split("&") if each]
    sent = sorted((name, value) for name, _, value in pieces if name != drop)
    normal = sorted((_encode(_bytes(name)), _encode(_bytes(value))) for name, value in sent)
    queries = ["&".join(f"{name}={value}" for name, value in pairs) for pairs in (sent, normal)]
    if claim.service == "s3":
        paths = [request.path or "/", quote(_bytes(request.path or "/"), safe="/-_.~")]
    else:
        # Other services sign the path as sent, encoded a second time, and some clients fold `.`, `..` and `//` first.
        paths = [quote(request.path or "/", safe="/-_.~"), quote(_folded(request.path), safe="/-_.~")]
    return [(path, query) for path in dict.fromkeys(paths) for query in dict.fromkeys(queries)]


def _folded(path: str) -> str:
    kept: list[str] = []
    for piece in path.split("/"):
        if piece == "..":
            kept[-1:] = []
        elif piece not in ("", "."):
            kept.append(piece)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _bytes(encoded: str) -> bytes:
    return unquote_to_bytes(encoded.encode("latin-1"))


def _encode(raw: bytes) -> str:
    return quote(raw, safe="-_.~")


def canonical_request(request: Request, path: str, query: str, signed: tuple[str, ...], payload: str) -> str:
    """Return SigV4's canonical request; every name in `signed` must be a header of the request."""
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed)
    return f"{request.method}\n{path}\n{query}\n{headers}\n{';'.join(signed)}\n{payload}"


def string_to_sign(timestamp: str, scope: str, canonical: str) -> str:
    """Return SigV4's string to sign for a canonical request."""
    digest = hashlib.sha256(canonical.encode("latin-1")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"


@lru_cache(maxsize=CACHED)
def signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """Return the key derived for one day, region and service."""
    key = ("AWS4" + secret).encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _hex(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode("latin-1"), hashlib.sha256).hexdigest()


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
