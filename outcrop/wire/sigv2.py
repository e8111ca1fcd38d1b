"""S3's older presigned URLs (`AWSAccessKeyId`, `Signature`, `Expires`): what unchanged boto3 makes in us-east-1.

Pure, as `sigv4`. Only the query form is spoken; AWS's newer regions refuse the header form, and so do we.
"""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote

from outcrop.wire.refusals import refuse
from outcrop.wire.request import Request
from outcrop.wire.sigv4 import Claim, Credential

ISO: Final = "%Y-%m-%dT%H:%M:%SZ"

SUBRESOURCES: Final = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    ]
)
"""The query names that are part of the signed resource."""


def verify_v2(request: Request, claim: Claim, credential: Credential, bucket: str | None, now: datetime) -> None:
    """Return if the URL was signed with this credential and has not expired; else raise ServiceError.

    `bucket` is the one that the host named, since the signed resource always begins with it.
    """
    text = _string_to_sign(request, claim, bucket)
    digest = hmac.new(credential.secret.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha1).digest()
    if not hmac.compare_digest(base64.b64encode(digest), claim.signature.encode()):
        shown = {"AWSAccessKeyId": claim.access_key, "StringToSign": text, "SignatureProvided": claim.signature}
        raise refuse("rest-xml", "mismatch", **shown)
    if now.timestamp() > claim.expires_seconds:
        expired = datetime.fromtimestamp(claim.expires_seconds, UTC).strftime(ISO)
        raise refuse("rest-xml", "expired-url", Expires=expired, ServerTime=now.astimezone(UTC).strftime(ISO))


def _string_to_sign(request: Request, claim: Claim, bucket: str | None) -> str:
    # What the client meant as headers may stand in the query; both are signed as UTF-8.
    sent = {name: value.encode("latin-1").decode("utf-8", "surrogateescape") for name, value in request.headers.items()}
    headers = {**{name.lower(): value for name, value in request.pairs()}, **sent}
    wanted = []
    for piece in request.query.split("&"):
        name, equals, value = piece.partition("=")
        if unquote(name) in SUBRESOURCES:
            wanted.append((unquote(name), f"{unquote(name)}={unquote(value)}" if equals else unquote(name)))
    resource = (f"/{bucket}" if bucket else "") + request.path
    if wanted:
        resource += "?" + "&".join(text for _, text in sorted(wanted))
    lines = [
        request.method,
        headers.get("content-md5", ""),
        headers.get("content-type", ""),
        str(claim.expires_seconds),
    ]
    lines += [f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers) if name.startswith("x-amz-")]
    return "\n".join([*lines, resource])
