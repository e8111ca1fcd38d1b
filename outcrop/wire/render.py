"""Values of output shapes as JSON documents, as XML elements, and as header text. Pure; knows no protocol's envelope.

Only what a shape names is rendered: a member it does not know is left out, never sent.
"""

import base64
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from outcrop.wire import timestamps
from outcrop.wire.spec import Shape

XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"


def as_json(shape: Shape, value: Any) -> Any:
    """Return a value ready for json.dumps. Raises TypeError or ValueError when the value is not of the shape."""
    kind = shape.type_name
    if kind == "structure":
        if shape.is_document_type:
            return value
        return {
            member.serialization.get("name", name): as_json(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None and "location" not in member.serialization
        }
    if kind == "list":
        return [as_json(shape.member, each) for each in value]
    if kind == "map":
        return {key: as_json(shape.value, each) for key, each in value.items()}
    if kind == "timestamp":
        form = shape.serialization.get("timestampFormat", "unixTimestamp")
        return timestamps.number(value) if form == "unixTimestamp" else timestamps.text(value, form)
    if kind == "blob":
        return base64.b64encode(_bytes(value)).decode()
    if kind in ("float", "double"):
        number = float(value)
        return number if math.isfinite(number) else {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}[str(number)]
    if kind in ("integer", "long"):
        return int(value)
    if kind == "boolean":
        return bool(value)
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string, which {shape.name} is")
    return str(value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    return bytes(value)


def as_text(shape: Shape, value: Any, form: timestamps.Format, *, milliseconds: bool = True) -> str:
    """Return a simple value as it stands in a header or in an element. Raises TypeError for a composed one."""
    kind = shape.type_name
    if kind == "list":
        return ", ".join(as_text(shape.member, each, form) for each in value)
    if kind == "boolean":
        return "true" if value else "false"
    if kind == "timestamp":
        if not isinstance(value, datetime):
            raise TypeError(f"{value!r} is no datetime, which {shape.name} is")
        return timestamps.text(value, shape.serialization.get("timestampFormat", form), milliseconds=milliseconds)
    if kind == "blob":
        return base64.b64encode(_bytes(value)).decode()
    if kind in ("structure", "map"):
        raise TypeError(f"a {kind} does not fit in a line")
    if kind in ("float", "double"):
        return repr(float(value))
    return str(value)


_UNSAFE: Final = re.compile('[&<>"\r\x00-\x08\x0b\x0c\x0e-\x1f\x7f]')


def escape(text: str) -> str:
    """Return text for an element or an attribute. Control characters become references, as S3 sends them."""
    names = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
    return _UNSAFE.sub(lambda found: names.get(found[0]) or f"&#x{ord(found[0]):x};", text)


class Xml:
    """Renders values as elements. `milliseconds`: whether whole seconds still show `.000` (S3 does, IAM does not)."""

    def __init__(self, *, milliseconds: bool) -> None:
        self._milliseconds = milliseconds

    def element(self, name: str, shape: Shape, value: Any, attributes: str = "") -> str:
        """Return one element named `name` (a list or map that is not flattened gets its wrapper)."""
        kind = shape.type_name
        if kind == "structure":
            attributes += self._attributes(shape, value)
            return f"<{name}{attributes}>{self.members(shape, value)}</{name}>"
        if kind == "list":
            inner_name = shape.member.serialization.get("name", "member")
            inner = "".join(self.element(inner_name, shape.member, each) for each in value)
            return f"<{name}{attributes}>{inner}</{name}>"
        if kind == "map":
            inner = "".join(self._entry("entry", shape, key, each) for key, each in value.items())
            return f"<{name}{attributes}>{inner}</{name}>"
        text = as_text(shape, value, "iso8601", milliseconds=self._milliseconds)
        return f"<{name}{attributes}>{escape(text)}</{name}>"

    def members(self, shape: Shape, value: Mapping[str, Any]) -> str:
        """Return the elements of a structure's members, those that stand in the body."""
        parts = []
        for name, member in shape.members.items():
            if (
                value.get(name) is None
                or "location" in member.serialization
                or member.serialization.get("xmlAttribute")
            ):
                continue
            wire_name = member.serialization.get("name", name)
            if not member.serialization.get("flattened") or member.type_name not in ("list", "map"):
                parts.append(self.element(wire_name, member, value[name]))
            elif member.type_name == "list":
                inner_name = member.member.serialization.get("name", wire_name)
                parts += [self.element(inner_name, member.member, each) for each in value[name]]
            else:
                parts += [self._entry(wire_name, member, key, each) for key, each in value[name].items()]
        return "".join(parts)

    def _entry(self, name: str, shape: Shape, key: Any, value: Any) -> str:
        key_name = shape.key.serialization.get("name", "key")
        value_name = shape.value.serialization.get("name", "value")
        inner = self.element(key_name, shape.key, key) + self.element(value_name, shape.value, value)
        return f"<{name}>{inner}</{name}>"

    def _attributes(self, shape: Shape, value: Mapping[str, Any]) -> str:
        text = ""
        for name, member in shape.members.items():
            if member.serialization.get("xmlAttribute") and value.get(name) is not None:
                wire_name = member.serialization.get("name", name)
                if wire_name.startswith("xsi:"):
                    text += f' xmlns:xsi="{XSI}"'
                text += f' {wire_name}="{escape(as_text(member, value[name], "iso8601"))}"'
        return text
