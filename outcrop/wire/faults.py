"""An error becomes a response, in each protocol's own form, with the status that the model gives its code.

Knows the three error bodies and the few codes that one exception of ours is called by in each protocol.
"""

import errno
import json
from collections.abc import Mapping
from typing import Any, Final

from outcrop.errors import ServiceError
from outcrop.wire.render import as_json, escape
from outcrop.wire.serialize import XML_HEAD, Response, host_id, request_headers
from outcrop.wire.spec import Service, ServiceProtocol

_CODES: Final[Mapping[str, Mapping[ServiceProtocol, str]]] = {
    "AccessDeniedException": {"rest-xml": "AccessDenied", "query": "AccessDenied"},
    "ValidationException": {"rest-xml": "InvalidArgument", "query": "ValidationError"},
    "InternalServerException": {"rest-xml": "InternalError", "query": "InternalFailure"},
    "ServiceUnavailableException": {"rest-xml": "ServiceUnavailable", "query": "ServiceUnavailable"},
    "ThrottlingException": {"rest-xml": "SlowDown", "query": "Throttling"},
}
"""Exceptions that any room may raise for any service -> what S3 and the query services call them."""

_INTERNAL: Final[Mapping[ServiceProtocol, str]] = {
    "rest-json": "The server encountered an internal error while processing the request.",
    "rest-xml": "We encountered an internal error. Please try again.",
    "query": "The request processing has failed because of an unknown error, exception or failure.",
}

_CORAL: Final = "http://internal.amazon.com/coral/com.amazon.bedrock/"


def unknown_operation() -> ServiceError:
    """Bedrock's answer to an operation that is not there."""
    return ServiceError("", code="UnknownOperationException", status=404)


def unknown_action(service: Service, action: str) -> ServiceError:
    """The query services' answer to an action that is not there."""
    message = f"Could not find operation {action} for version {service.version}"
    return ServiceError(message, code="InvalidAction", status=400)


def method_not_allowed() -> ServiceError:
    """S3's answer to a path that is there for another method."""
    message = "The specified method is not allowed against this resource."
    return ServiceError(message, code="MethodNotAllowed", status=405)


def not_implemented() -> ServiceError:
    """S3's answer to what it has in its model and not in the house."""
    message = "A header you provided implies functionality that is not implemented"
    return ServiceError(message, code="NotImplemented", status=501)


def internal(service: Service, fault: BaseException) -> ServiceError:
    """The error that a fault of ours is told as. A full disk is named: no retry will help, and someone can."""
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return ServiceError("The service's disk is full; nothing was stored.", code="InsufficientStorage", status=507)
    return ServiceError(_INTERNAL[service.protocol], code="InternalServerException", status=500)


def respond(service: Service, error: ServiceError, request_id: str, *, resource: str, head: bool) -> Response:
    """Return the response that tells this error; `resource` is the request's path, `head` leaves out the body."""
    code = _CODES.get(error.code, {}).get(service.protocol, error.code)
    shape = service.error(code)
    status = error.status
    if shape is not None:
        status = shape.metadata.get("error", {}).get("httpStatusCode", status)
        code = shape.metadata.get("error", {}).get("code", code)
    headers = request_headers(service, request_id)
    if service.protocol == "rest-json":
        return _json_response(error, code, status, headers, shape)
    headers["content-type"] = "application/xml" if service.protocol == "rest-xml" else "text/xml"
    if head or status == 304:
        del headers["content-type"]
        return Response(status, headers)
    if service.protocol == "query":
        kind = "Receiver" if status >= 500 else "Sender"
        text = (
            f'<ErrorResponse xmlns="{service.namespace}"><Error><Type>{kind}</Type><Code>{escape(code)}</Code>'
            f"<Message>{escape(error.message)}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        return Response(status, headers, text.encode("utf-8", "replace"))
    fields = {
        "Code": code,
        "Message": error.message,
        **{name: value for name, value in error.members.items() if value is not None},
        "Resource": resource,
        "RequestId": request_id,
        "HostId": host_id(request_id),
    }
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items())
    return Response(status, headers, f"{XML_HEAD}<Error>{inner}</Error>".encode("utf-8", "replace"))


def _json_response(error: ServiceError, code: str, status: int, headers: dict[str, str], shape: Any) -> Response:
    headers = {"content-type": "application/json", **headers, "x-amzn-errortype": f"{code}:{_CORAL}"}
    if code == "UnknownOperationException":
        document: dict[str, Any] = {
            "Output": {"__type": "com.amazon.coral.service#UnknownOperationException"},
            "Version": "1.0",
        }
    else:
        members = as_json(shape, error.members) if shape is not None else {}
        document = {"message": error.message, **members}
    return Response(status, headers, json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))
