"""The events of a stream as frames: what is the same for every event of a name is found out once, for a frame a token.

Knows shapes and frames; nothing of who sends them.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec

from outcrop.errors import ServiceError
from outcrop.wire import eventstream
from outcrop.wire.render import Xml, as_json
from outcrop.wire.route import Match
from outcrop.wire.spec import Operation, Shape

PADDING: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
"""AWS pads each event with a piece of this, so that a frame's length does not tell its text's."""

_PADS: Final = tuple(PADDING[:length] for length in range(1, len(PADDING) + 1))
_XML: Final = Xml(milliseconds=True)
# json.dumps takes several times as long, which is felt at an event a token; bytes become base64, as a blob does.
_JSON: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class _Kind:
    """How the events of one name are written."""

    head: bytes
    """The headers where there is a payload."""
    bare: bytes
    """And where there is none."""
    payload: Callable[[Any], bytes]


def event_frame(match: Match, event: Mapping[str, Any]) -> bytes:
    """Return the frame of one event: a mapping with one key, the event's name. Raises KeyError for an unknown name."""
    ((name, value),) = event.items()
    kind = _kind(match.operation, match.service.protocol, name)
    payload = kind.payload(value)
    return eventstream.frame(kind.head if payload else kind.bare, payload)


@cache
def _kind(operation: Operation, protocol: str, name: str) -> _Kind:
    """What is known of an event before any comes."""
    shape = _stream(operation).members[name]
    member, inner = next(
        ((key, each) for key, each in shape.members.items() if each.serialization.get("eventpayload")), ("", None)
    )
    if inner is not None and inner.type_name == "blob":
        content_type, always = "application/octet-stream", protocol == "rest-json"
        return _Kind(_head(name, content_type), _head(name, content_type * always), lambda value: bytes(value[member]))
    if protocol == "rest-xml":
        if inner is None:
            return _Kind(_head(name, "text/xml"), _head(name, ""), lambda _: b"")
        known = inner
        element = _XML.element
        return _Kind(
            _head(name, "text/xml"),
            _head(name, ""),
            lambda value: element(known.name, known, value[member]).encode(),
        )
    head = _head(name, "application/json")
    if inner is None:
        return _Kind(head, head, _json_payload(shape))
    write = _json_payload(inner)
    return _Kind(head, head, lambda value: write(value[member]))


def _json_payload(shape: Shape) -> Callable[[Mapping[str, Any]], bytes]:
    """Writes a structure as JSON, padded."""
    parts = [
        (each.serialization.get("name", name), name, each, each.type_name == "blob")
        for name, each in shape.members.items()
        if "location" not in each.serialization
    ]

    def write(value: Mapping[str, Any]) -> bytes:
        document = {}
        for told, name, member, blob in parts:
            given = value.get(name)
            if given is not None:
                document[told] = given if blob and type(given) is bytes else as_json(member, given)
        # Long enough to hide a token's length, and no secret: any source of numbers will do.
        document["p"] = _PADS[int(random.random() * len(_PADS))]
        return _JSON.encode(document)

    return write


def _head(name: str, content_type: str) -> bytes:
    told = {":content-type": content_type} if content_type else {}
    return eventstream.head({":event-type": name, **told, ":message-type": "event"})


def event_stream(match: Match) -> Shape:
    """Return the operation's event stream shape; raises LookupError where its output is none."""
    return _stream(match.operation)


def _stream(operation: Operation) -> Shape:
    shape = operation.output_shape
    for member in shape.members.values() if shape is not None else ():
        if member.serialization.get("eventstream"):
            return member
    raise LookupError(f"{operation.name} answers no event stream")


def exception_frame(match: Match, error: ServiceError) -> bytes:
    """Return the frame that ends a stream with an error: by its event's name where the stream has one for it."""
    wanted = error.code[:1].lower() + error.code[1:]
    stream = event_stream(match)
    members: dict[str, Any] = {"message": error.message}
    if wanted in stream.members:
        members.update(as_json(stream.members[wanted], error.members))
        headers = {":exception-type": wanted, ":content-type": "application/json", ":message-type": "exception"}
        payload = json.dumps(members, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return eventstream.encode(headers, payload.encode())
    return eventstream.encode(
        {":error-code": error.code, ":error-message": error.message[:8000], ":message-type": "error"}, b""
    )
