"""Why a caller was not let in, in the words of each protocol: one table. Knows codes and texts, no cryptography."""

from collections.abc import Mapping
from typing import Final

from outcrop.errors import ServiceError
from outcrop.wire.spec import ServiceProtocol

_INVALID_TOKEN: Final = "The security token included in the request is invalid."  # noqa: S105 - a message
_EXPIRED_TOKEN: Final = "The security token included in the request is expired"  # noqa: S105 - a message
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. "
    "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
)
_MISMATCH_S3: Final = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)

_TABLE: Final[Mapping[str, Mapping[ServiceProtocol, tuple[str, int, str]]]] = {
    "missing": {
        "rest-json": ("MissingAuthenticationTokenException", 403, "Missing Authentication Token"),
        "rest-xml": ("AccessDenied", 403, "Access Denied"),
        "query": ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    },
    "incomplete": {
        "rest-json": ("IncompleteSignatureException", 400, "{detail}"),
        "rest-xml": ("AuthorizationHeaderMalformed", 400, "The authorization header is malformed; {detail}"),
        "query": ("IncompleteSignature", 400, "{detail}"),
    },
    "unknown-key": {
        "rest-json": ("UnrecognizedClientException", 403, _INVALID_TOKEN),
        "rest-xml": ("InvalidAccessKeyId", 403, "The AWS Access Key Id you provided does not exist in our records."),
        "query": ("InvalidClientTokenId", 403, _INVALID_TOKEN),
    },
    "wrong-token": {
        "rest-json": ("UnrecognizedClientException", 403, _INVALID_TOKEN),
        "rest-xml": ("InvalidToken", 400, "The provided token is malformed or otherwise invalid."),
        "query": ("InvalidClientTokenId", 403, _INVALID_TOKEN),
    },
    "expired-key": {
        "rest-json": ("ExpiredTokenException", 403, _EXPIRED_TOKEN),
        "rest-xml": ("ExpiredToken", 400, "The provided token has expired."),
        "query": ("ExpiredToken", 403, _EXPIRED_TOKEN),
    },
    "mismatch": {
        "rest-json": ("InvalidSignatureException", 403, _MISMATCH),
        "rest-xml": ("SignatureDoesNotMatch", 403, _MISMATCH_S3),
        "query": ("SignatureDoesNotMatch", 403, _MISMATCH),
    },
    "wrong-service": {  # of a path of bedrock's: signatures for services that we do not speak are taken for its own
        "rest-json": ("InvalidSignatureException", 403, "Credential should be scoped to correct service: '{detail}'."),
    },
    "unsigned-headers": {
        "rest-json": ("InvalidSignatureException", 403, "{detail}"),
        "rest-xml": ("AccessDenied", 403, "There were headers present in the request which were not signed"),
        "query": ("SignatureDoesNotMatch", 403, "{detail}"),
    },
    "skewed": {
        "rest-json": ("InvalidSignatureException", 403, "{detail}"),
        "rest-xml": (
            "RequestTimeTooSkewed",
            403,
            "The difference between the request time and the current time is too large.",
        ),
        "query": ("SignatureDoesNotMatch", 403, "{detail}"),
    },
    "expired-url": {
        "rest-json": ("InvalidSignatureException", 403, "{detail}"),
        "rest-xml": ("AccessDenied", 403, "Request has expired"),
        "query": ("SignatureDoesNotMatch", 403, "{detail}"),
    },
    "bad-url": {
        "rest-json": ("IncompleteSignatureException", 400, "{detail}"),
        "rest-xml": ("AuthorizationQueryParametersError", 400, "{detail}"),
        "query": ("IncompleteSignature", 400, "{detail}"),
    },
    "payload-mismatch": {
        "rest-json": ("InvalidSignatureException", 403, _MISMATCH),
        "rest-xml": (
            "XAmzContentSHA256Mismatch",
            400,
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ),
        "query": ("SignatureDoesNotMatch", 403, _MISMATCH),
    },
}


def refuse(protocol: ServiceProtocol, reason: str, detail: str = "", **members: object) -> ServiceError:
    """Return the error for a reason of the table; `members` appear in S3's error body, as AWS shows them there."""
    code, status, text = _TABLE[reason][protocol]
    shown = members if protocol == "rest-xml" else {}
    return ServiceError(text.format(detail=detail), code=code, status=status, **shown)
