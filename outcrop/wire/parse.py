"""A request becomes parameters: the input shape is walked, and each member is read from where the model says it stands.

AWS's member names throughout; timestamps are aware datetimes, blobs bytes, S3's streamed bodies an Upload. Types are
made right here, constraints are checked in `validate`. Knows shapes and encodings, no operation by name.
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from outcrop.errors import ServiceError
from outcrop.wire import jsontree, timestamps, xmltree
from outcrop.wire.body import Upload
from outcrop.wire.request import MalformedUri, Request, decode_form
from outcrop.wire.route import Match
from outcrop.wire.spec import Shape
from outcrop.wire.xmltree import Element

MAX_QUERY_DEPTH: Final = 200
"""Parts of a query parameter's name, a.b.1.c: more than any shape has."""

_INTEGER: Final = re.compile("[+-]?[0-9]{1,19}")

_NUMBER: Final = re.compile("[0-9]{1,9}")


def parse(match: Match, request: Request, body: bytes | Upload) -> dict[str, Any]:
    """Return the operation's parameters by AWS's member names; absent members are absent.

    Raises ServiceError: SerializationException (rest-json), MalformedXML or InvalidArgument (S3), MalformedQueryString.
    """
    shape = match.operation.input_shape
    if shape is None:
        return {}
    if match.service.protocol == "query":
        assert isinstance(body, bytes)
        return _query_parameters(shape, request, body)
    found = _placed_members(shape, match, request)
    payload = shape.serialization.get("payload")
    if payload is not None:
        member = shape.members[payload]
        value = _payload(member, body, match.service.protocol)
        if value is not None:
            found[payload] = value
        return found
    inner = [name for name, member in shape.members.items() if "location" not in member.serialization]
    if inner and body:
        assert isinstance(body, bytes)
        if match.service.protocol == "rest-json":
            document = _json_document(body)
            if not isinstance(document, dict):
                raise _serialization("Start of structure or map found where not expected.")
            found.update(_json_structure(shape, document, inner))
        else:
            found.update(_xml_structure(shape, _xml_document(body), inner))
    return found


# What stands outside the body


def parse_head(match: Match, request: Request) -> dict[str, Any]:
    """Return the parameters that stand in path, query and headers; the body need not have come."""
    shape = match.operation.input_shape
    return {} if shape is None else _placed_members(shape, match, request)


def _placed_members(shape: Shape, match: Match, request: Request) -> dict[str, Any]:
    query: dict[str, list[str]] = {}
    for name, value in request.pairs():
        query.setdefault(name, []).append(value)
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        where, wire_name = member.serialization.get("location"), member.serialization.get("name", name)
        if where == "uri" and wire_name in match.labels:
            found[name] = _text_value(member, match.labels[wire_name], "iso8601", match)
        elif where == "querystring" and wire_name in query:
            found[name] = _query_value(member, query[wire_name], match)
        elif where == "header" and wire_name.lower() in request.headers:
            found[name] = _header_value(member, _readable(request.headers[wire_name.lower()]), match)
        elif where == "headers":
            prefix = wire_name.lower()
            values = {
                key[len(prefix) :]: _readable(value) for key, value in request.headers.items() if key.startswith(prefix)
            }
            if values:
                found[name] = values
    return found


def _readable(value: str) -> str:
    """A header's text: UTF-8 where it is, else latin-1, which HTTP says and which always decodes."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value


def _query_value(shape: Shape, values: list[str], match: Match) -> Any:
    if shape.type_name == "list":
        return [_text_value(shape.member, each, "iso8601", match) for each in values]
    return _text_value(shape, values[0], "iso8601", match)


def _header_value(shape: Shape, value: str, match: Match) -> Any:
    if shape.type_name == "list":
        return [_text_value(shape.member, each.strip(), "rfc822", match) for each in value.split(",") if each.strip()]
    return _text_value(shape, value, "rfc822", match)


def _text_value(shape: Shape, text: str, form: timestamps.Format, match: Match) -> Any:
    try:
        return _scalar(shape, text, form)
    except ValueError as fault:
        name = shape.serialization.get("name", shape.name)
        if match.service.protocol == "rest-xml":
            shown = {"ArgumentName": name, "ArgumentValue": text}
            message = f"Provided {name} not an integer or within integer range"
            if shape.type_name not in ("integer", "long"):
                message = f"The value of {name} is not a valid {shape.type_name}"
            raise ServiceError(message, code="InvalidArgument", **shown) from fault
        raise _serialization(f"STRING_VALUE '{text}' at '{name}' cannot be converted to {_java(shape)}") from fault


def _scalar(shape: Shape, text: str, form: timestamps.Format) -> Any:
    """Return the value of a type that stands as text (query, header, XML, form). Raises ValueError."""
    kind = shape.type_name
    if kind in ("string", "character"):
        return text
    if kind == "boolean":
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if kind in ("integer", "long"):
        if not _INTEGER.fullmatch(text):
            raise ValueError(text)
        return _bounded(int(text), kind)
    if kind in ("float", "double"):
        return float(text)
    if kind == "timestamp":
        return timestamps.parse(text, shape.serialization.get("timestampFormat", form))
    if kind == "blob":
        return _base64(text)
    raise ValueError(text)


def _bounded(value: int, kind: str) -> int:
    limit = 2**31 if kind == "integer" else 2**63
    if not -limit <= value < limit:
        raise ValueError(value)
    return value


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as fault:
        raise ValueError("not base64") from fault


def _payload(shape: Shape, body: bytes | Upload, protocol: str) -> Any:
    if shape.type_name == "blob" or isinstance(body, Upload):
        return body
    if shape.serialization.get("eventstream") or not body:
        return None
    if shape.type_name == "string":
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as fault:
            raise ServiceError("The body is not UTF-8 text.", code="MalformedXML") from fault
    if protocol == "rest-json":
        return _json_value(shape, _json_document(body))
    return _xml_value(shape, _xml_document(body))


# JSON


def _serialization(message: str) -> ServiceError:
    return ServiceError(message, code="SerializationException")


def _json_document(body: bytes) -> Any:
    try:
        return jsontree.read(body)
    except ValueError as fault:
        raise _serialization(f"Could not parse request body into json: {fault}") from fault


def _json_structure(shape: Shape, document: Mapping[str, Any], names: list[str], place: str = "") -> dict[str, Any]:
    """The members of these names; `place` is the structure's own, as refusals name it."""
    found = {}
    for name in names:
        member = shape.members[name]
        value = document.get(member.serialization.get("name", name))
        if value is not None:
            found[name] = _json_value(member, value, f"{place}.{name}" if place else name)
    return found


def _json_value(shape: Shape, value: Any, place: str = "") -> Any:
    kind, where = shape.type_name, f" at '{place}'" if place else ""
    if kind == "structure":
        if shape.is_document_type:
            return value
        if not isinstance(value, dict):
            raise _serialization(f"{_json_kind(value)} where a structure or map was expected for {shape.name}{where}")
        return _json_structure(shape, value, list(shape.members), place)
    if kind == "list":
        if not isinstance(value, list):
            raise _serialization(f"{_json_kind(value)} where a list was expected for {shape.name}{where}")
        return [
            _json_value(shape.member, each, f"{place}.{number}.member")
            for number, each in enumerate(value, start=1)
            if each is not None
        ]
    if kind == "map":
        if not isinstance(value, dict):
            raise _serialization(f"{_json_kind(value)} where a structure or map was expected for {shape.name}")
        return {
            key: _json_value(shape.value, each, f"{place}.{key[:64]}")
            for key, each in value.items()
            if each is not None
        }
    return _json_scalar(shape, value, where)


def _json_scalar(shape: Shape, value: Any, where: str) -> Any:
    kind = shape.type_name
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(value, Decimal):
        raise _serialization(f"NUMBER_VALUE {str(value)[:64]}{where} cannot be converted to {_java(shape)}")
    try:
        if kind == "string" and isinstance(value, str):
            return value
        if kind == "boolean" and isinstance(value, bool):
            return value
        if kind in ("integer", "long") and is_number and (isinstance(value, int) or value.is_integer()):
            return _bounded(int(value), kind)
        if kind in ("float", "double"):
            if is_number:
                return float(value)
            if value in ("NaN", "Infinity", "-Infinity"):
                return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[value]
        if kind == "timestamp":
            return timestamps.parse(value, shape.serialization.get("timestampFormat", "unixTimestamp"))
        if kind == "blob" and isinstance(value, str):
            return _base64(value)
    except (ValueError, OverflowError) as fault:
        raise _serialization(f"{_json_kind(value)} {fault}{where} cannot be converted to {_java(shape)}") from fault
    raise _serialization(f"{_json_kind(value)}{where} cannot be converted to {_java(shape)}")


def _json_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "TRUE_VALUE" if value else "FALSE_VALUE"
    if isinstance(value, int | float | Decimal):
        return "NUMBER_VALUE"
    if isinstance(value, str):
        return "STRING_VALUE"
    return "Start of list found" if isinstance(value, list) else "Start of structure or map found"


def _java(shape: Shape) -> str:
    names = {"boolean": "Boolean", "timestamp": "Timestamp", "blob": "ByteBuffer"}
    return names.get(shape.type_name, shape.type_name.capitalize())


# XML


def _malformed_xml(fault: Exception) -> ServiceError:
    error = ServiceError(
        "The XML you provided was not well-formed or did not validate against our published schema", code="MalformedXML"
    )
    error.__cause__ = fault
    return error


def _xml_document(body: bytes) -> Element:
    try:
        return xmltree.parse(body)
    except xmltree.MalformedXml as fault:
        raise _malformed_xml(fault) from fault


def _xml_structure(shape: Shape, element: Element, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        member = shape.members[name]
        wire_name = member.serialization.get("name", name)
        if member.serialization.get("xmlAttribute"):
            local = {key.rpartition(":")[2]: value for key, value in element.attributes.items()}
            if wire_name.rpartition(":")[2] in local:
                found[name] = local[wire_name.rpartition(":")[2]]
            continue
        if member.type_name in ("list", "map") and member.serialization.get("flattened"):
            if member.type_name == "list":
                wire_name = member.member.serialization.get("name", wire_name)
            children = element.all(wire_name)
            if children:
                found[name] = _xml_items(member, children)
            continue
        children = element.all(wire_name)
        if children:
            found[name] = _xml_value(member, children[0])
    return found


def _xml_items(shape: Shape, children: list[Element]) -> Any:
    if shape.type_name == "list":
        return [_xml_value(shape.member, child) for child in children]
    key_name, value_name = shape.key.serialization.get("name", "key"), shape.value.serialization.get("name", "value")
    items = {}
    for child in children:
        keys, values = child.all(key_name), child.all(value_name)
        if not keys or not values:
            raise _malformed_xml(ValueError("a map's entry without key or value"))
        items[_xml_value(shape.key, keys[0])] = _xml_value(shape.value, values[0])
    return items


def _xml_value(shape: Shape, element: Element) -> Any:
    if shape.type_name == "structure":
        return _xml_structure(shape, element, list(shape.members))
    if shape.type_name == "list":
        return _xml_items(shape, element.all(shape.member.serialization.get("name", "member")))
    if shape.type_name == "map":
        return _xml_items(shape, element.all("entry"))
    try:
        return _scalar(shape, element.text if shape.type_name == "string" else element.text.strip(), "iso8601")
    except ValueError as fault:
        raise _malformed_xml(fault) from fault


# Query


def _query_parameters(shape: Shape, request: Request, body: bytes) -> dict[str, Any]:
    try:
        pairs = request.pairs() + decode_form(body.decode("latin-1"))
    except MalformedUri as fault:
        raise ServiceError("The query string is not UTF-8.", code="MalformedQueryString", status=400) from fault
    return _query_structure(shape, _tree(pairs))


def _tree(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Return the parameters as nested mappings: `A.member.1.B=x` → `{"A": {"member": {"1": {"B": {"": "x"}}}}}`."""
    root: dict[str, Any] = {}
    for name, value in pairs:
        place = root
        parts = name.split(".")
        if len(parts) > MAX_QUERY_DEPTH:
            raise ServiceError("The query string is nested too deep.", code="MalformedQueryString", status=400)
        for part in parts:
            place = place.setdefault(part, {})
        place[""] = value
    return root


def _query_structure(shape: Shape, tree: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        if member.type_name == "list" and member.serialization.get("flattened"):
            wire_name = member.member.serialization.get("name", wire_name)
        if wire_name in tree:
            found[name] = _query_member(member, tree[wire_name])
    return found


def _query_member(shape: Shape, tree: Mapping[str, Any]) -> Any:
    if shape.type_name == "structure":
        return _query_structure(shape, tree)
    if shape.type_name in ("list", "map"):
        inner = tree
        if not shape.serialization.get("flattened"):
            entry = "entry" if shape.type_name == "map" else shape.member.serialization.get("name", "member")
            inner = tree.get(entry, {})
        numbered = sorted((int(key), value) for key, value in inner.items() if _NUMBER.fullmatch(key))
        if shape.type_name == "list":
            return [_query_member(shape.member, each) for _, each in numbered]
        key_name, value_name = (
            shape.key.serialization.get("name", "key"),
            shape.value.serialization.get("name", "value"),
        )
        return {
            _query_member(shape.key, each.get(key_name, {})): _query_member(shape.value, each.get(value_name, {}))
            for _, each in numbered
        }
    text = str(tree.get("", ""))
    try:
        return _scalar(shape, text, "iso8601")
    except ValueError as fault:
        name = shape.serialization.get("name", shape.name)
        raise ServiceError(
            f"The value '{text}' of {name} is not a valid {shape.type_name}", code="MalformedInput"
        ) from fault


def is_streamed(shape: Shape | None) -> bool:
    """Whether an input's payload is a blob that may be of any size: it goes to a spool file."""
    payload = shape.serialization.get("payload") if shape is not None else None
    return shape is not None and payload is not None and bool(shape.members[payload].serialization.get("streaming"))
