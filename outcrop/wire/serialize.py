"""An operation's answer becomes a response: the output shape is walked, and each member put where the model says.

Streams stay iterators and files stay files; nothing is joined. Errors are in `faults`, a stream's events in `events`.
"""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outcrop.wire import eventstream
from outcrop.wire.body import FileSlice
from outcrop.wire.render import Xml, as_json, as_text
from outcrop.wire.route import Match
from outcrop.wire.spec import Service, Shape

XML_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'

_S3_XML: Final = Xml(milliseconds=True)
_QUERY_XML: Final = Xml(milliseconds=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An operation's answer where the output alone does not say it all.

    `output` has AWS's member names. `status` replaces the model's (206, 304). `headers` are sent besides those of the
    output's members.
    """

    output: Mapping[str, Any] = field(default_factory=dict)
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Events = AsyncIterator[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Response:
    """What goes out: status, headers (in order), and a body that is bytes, a file's slice, or events to be framed."""

    status: int
    headers: Mapping[str, str]
    body: bytes | FileSlice | Events = b""


def serialize(match: Match, reply: Reply, request_id: str) -> Response:
    """Return the response to a successful call. Raises TypeError or ValueError for an output not of its shape."""
    if match.service.protocol == "query":
        return _query_response(match, reply, request_id)
    shape, output = match.operation.output_shape, reply.output
    status = reply.status or match.operation.http.get("responseCode", 200)
    headers = {"content-type": "application/json"} if match.service.protocol == "rest-json" else {}
    headers.update(request_headers(match.service, request_id))
    body: bytes | FileSlice | Events = b"{}" if match.service.protocol == "rest-json" else b""
    if shape is not None:
        status, placed = _placed(shape, output, status)
        payload = shape.serialization.get("payload")
        if payload is not None:
            kind, body = _payload(match.service, shape.members[payload], output.get(payload))
        else:
            kind, body = _members(match.service, shape, output)
        headers.update({"content-type": kind} if kind else {})
        if kind != eventstream.CONTENT_TYPE or "content-type" not in placed:
            headers.update(placed)
        if not body and match.service.protocol == "rest-xml" and "content-type" not in placed:
            headers.pop("content-type", None)
    headers.update({name.lower(): value for name, value in reply.headers.items()})
    return Response(status, headers, body)


def request_headers(service: Service, request_id: str) -> dict[str, str]:
    """The headers by which a service names the request."""
    if service.name == "s3":
        return {"x-amz-request-id": request_id, "x-amz-id-2": host_id(request_id)}
    return {"x-amzn-requestid": request_id}


def host_id(request_id: str) -> str:
    """S3's second name of a request: opaque to callers; ours says the first again."""
    return base64.b64encode(request_id.encode()).decode()


def _placed(shape: Shape, output: Mapping[str, Any], status: int) -> tuple[int, dict[str, str]]:
    """Return the status and the headers that members stand for."""
    headers: dict[str, str] = {}
    for name, member in shape.members.items():
        where, value = member.serialization.get("location"), output.get(name)
        if where is None or value is None:
            continue
        if where == "statusCode":
            status = int(value)
        elif where == "header":
            headers[member.serialization.get("name", name).lower()] = as_text(member, value, "rfc822")
        elif where == "headers":
            prefix = member.serialization.get("name", "").lower()
            headers.update({prefix + key.lower(): str(each) for key, each in value.items()})
    return status, headers


def _payload(service: Service, shape: Shape, value: Any) -> tuple[str, bytes | FileSlice | Events]:
    """Return (content type or "", body) of a payload member."""
    if shape.serialization.get("eventstream"):
        return eventstream.CONTENT_TYPE, value
    if value is None:
        return "", b"{}" if service.protocol == "rest-json" and shape.type_name == "structure" else b""
    if shape.type_name == "blob":
        return "", _blob(value)
    if shape.type_name == "string":
        return "", str(value).encode()
    if service.protocol == "rest-json":
        return "application/json", _dump(as_json(shape, value))
    root = shape.serialization.get("name", shape.name)
    return "application/xml", _document(root, service.namespace, _S3_XML, shape, value)


def _blob(value: Any) -> bytes | FileSlice:
    return value if isinstance(value, bytes | FileSlice) else bytes(value)


def _members(service: Service, shape: Shape, output: Mapping[str, Any]) -> tuple[str, bytes]:
    """Return (content type, body) of the members that stand in the body."""
    if service.protocol == "rest-json":
        return "application/json", _dump(as_json(shape, output))
    if all("location" in member.serialization for member in shape.members.values()):
        return "", b""
    root = service.roots.get(shape.name, shape.name)
    if list(shape.members) == [root]:
        # GetBucketLocation: the one member *is* the root element.
        member = shape.members[root]
        return "application/xml", _document(root, service.namespace, _S3_XML, member, output.get(root) or "")
    return "application/xml", _document(root, service.namespace, _S3_XML, shape, output)


def _document(root: str, namespace: str, xml: Xml, shape: Shape, value: Any) -> bytes:
    return (XML_HEAD + xml.element(root, shape, value, f' xmlns="{namespace}"')).encode()


def _dump(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _query_response(match: Match, reply: Reply, request_id: str) -> Response:
    name, shape = match.operation.name, match.operation.output_shape
    result = ""
    if shape is not None:
        wrapper = shape.serialization.get("resultWrapper", name + "Result")
        result = f"<{wrapper}>{_QUERY_XML.members(shape, reply.output)}</{wrapper}>"
    text = (
        f'<{name}Response xmlns="{match.service.namespace}">{result}'
        f"<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{name}Response>"
    )
    headers = {"content-type": "text/xml", "x-amzn-requestid": request_id}
    return Response(reply.status or 200, {**headers, **reply.headers}, text.encode())
