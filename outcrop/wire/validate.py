"""Parsed parameters against the model's constraints: required, length, range, pattern, enum, in AWS's own words.

boto3 checks neither patterns nor enums nor maxima, so this is where they are checked. The texts are those of AWS's
request framework; IAM and STS say the same under the code ValidationError, and S3 has rules and words of its own.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from outcrop.errors import ServiceError, ValidationException
from outcrop.wire.route import Match
from outcrop.wire.spec import Service, Shape

MAX_SHOWN: Final = 1024
"""Characters of a bad value that are quoted back; AWS quotes it whole, at up to 2,048."""

MAX_FAULTS: Final = 100
"""Faults told in one answer; a list of 200 bad tags needs no longer message."""

_UNICODE_LETTERS_SPACES_NUMBERS: Final = "\\w\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000 "
r"""What `\p{L}\p{Z}\p{N}` means in IAM's tag patterns (which name `_` themselves)."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken constraint: where, of what value, and which rule."""

    path: str
    shown: str
    """The value as AWS shows it, quoted; empty where it is not shown."""
    rule: str
    kind: str
    """required, length, range, pattern, enum or union."""
    shape: Shape
    placed: str
    """Where the outermost member stands: header, querystring, uri or body."""

    def text(self) -> str:
        """The sentence that AWS makes of it."""
        return (
            f"Value {self.shown + ' ' if self.shown else ''}at '{self.path}' failed to satisfy constraint: {self.rule}"
        )


def validate(match: Match, params: Mapping[str, Any]) -> None:
    """Return if every constraint of the operation's input holds; else raise ServiceError naming each fault."""
    shape = match.operation.input_shape
    if shape is None:
        return
    faults = []
    for fault in _structure(shape, params, "", match.service, None):
        faults.append(fault)
        if len(faults) == MAX_FAULTS:
            break
    if not faults:
        return
    if match.service.protocol == "rest-xml":
        raise _s3_error(faults[0])
    message = f"{len(faults)} validation error{'s' * (len(faults) > 1)} detected: "
    message += "; ".join(fault.text() for fault in faults)
    code = "ValidationError" if match.service.protocol == "query" else "ValidationException"
    raise ValidationException(message, code=code, status=400)


def _structure(
    shape: Shape, value: Mapping[str, Any], path: str, service: Service, placed: str | None
) -> Iterator[Fault]:
    for name in shape.required_members:
        member = shape.members[name]
        # An event stream that is an input arrives after the head; there is nothing of it yet to be missing.
        if value.get(name) is None and not member.serialization.get("eventstream"):
            where = placed or member.serialization.get("location", "body")
            yield Fault(_join(path, name), "null", "Member must not be null", "required", member, where)
    if shape.is_tagged_union and len(value) != 1:
        rule = f"Member must have exactly one of its members set: [{', '.join(shape.members)}]"
        yield Fault(path, "", rule, "union", shape, placed or "body")
    for name, each in value.items():
        member = shape.members[name]
        where = placed or member.serialization.get("location", "body")
        yield from _value(member, each, _join(path, name), service, where)


def _join(path: str, name: str) -> str:
    camel = name[:1].lower() + name[1:]
    return f"{path}.{camel}" if path else camel


def _value(shape: Shape, value: Any, path: str, service: Service, placed: str) -> Iterator[Fault]:
    for kind, rule in _broken(shape, value, service):
        yield Fault(path, _shown(shape, value), rule, kind, shape, placed)
    if shape.type_name == "structure" and not shape.is_document_type:
        yield from _structure(shape, value, path, service, placed)
    elif shape.type_name == "list":
        yield from _list(shape, value, path, service, placed)
    elif shape.type_name == "map":
        yield from _map(shape, value, path, service, placed)


def _list(shape: Shape, value: list[Any], path: str, service: Service, placed: str) -> Iterator[Fault]:
    if shape.member.type_name not in ("structure", "list", "map"):
        broken = [kind for each in value for kind, _ in _broken(shape.member, each, service)]
        if broken:
            rule = f"Member must satisfy constraint: [{', '.join(_rules(shape.member))}]"
            yield Fault(path, _shown(shape, value), rule, broken[0], shape.member, placed)
        return
    for number, each in enumerate(value, 1):
        yield from _value(shape.member, each, f"{path}.{number}.member", service, placed)


def _map(shape: Shape, value: Mapping[str, Any], path: str, service: Service, placed: str) -> Iterator[Fault]:
    broken = [kind for key in value for kind, _ in _broken(shape.key, key, service)]
    if broken:
        rule = f"Map keys must satisfy constraint: [{', '.join(_rules(shape.key))}]"
        yield Fault(path, _shown(shape, value), rule, broken[0], shape.key, placed)
    if shape.value.type_name not in ("structure", "list", "map"):
        broken = [kind for each in value.values() for kind, _ in _broken(shape.value, each, service)]
        if broken:
            rule = f"Map value must satisfy constraint: [{', '.join(_rules(shape.value))}]"
            yield Fault(path, _shown(shape, value), rule, broken[0], shape.value, placed)
        return
    for key, each in value.items():
        yield from _value(shape.value, each, f"{path}.{key}.member", service, placed)


def _rules(shape: Shape) -> list[str]:
    """Every rule of a simple shape, in the order in which AWS lists them."""
    told = shape.metadata
    rules = []
    if "max" in told:
        rules.append(_bound(shape, "less", told["max"]))
    if "min" in told:
        rules.append(_bound(shape, "greater", told["min"]))
    if "pattern" in told:
        rules.append(f"Member must satisfy regular expression pattern: {told['pattern']}")
    if "enum" in told:
        rules.append(f"Member must satisfy enum value set: [{', '.join(told['enum'])}]")
    return rules


def _bound(shape: Shape, side: str, bound: Any) -> str:
    noun = "value" if _is_number(shape) else "length"
    if isinstance(bound, float) and bound.is_integer():
        bound = int(bound)
    return f"Member must have {noun} {side} than or equal to {bound}"


def _is_number(shape: Shape) -> bool:
    return shape.type_name in ("integer", "long", "float", "double")


def _broken(shape: Shape, value: Any, service: Service) -> Iterator[tuple[str, str]]:
    """Yield (kind, rule) for each rule of this shape alone that the value breaks."""
    told = shape.metadata
    if not told or shape.type_name in ("timestamp", "boolean", "structure"):
        return
    number = _is_number(shape)
    if not number and not isinstance(value, str | bytes | list | dict):
        return
    size = value if number else len(value)
    kind = "range" if number else "length"
    too_long = "max" in told and size > told["max"]
    if too_long:
        yield kind, _bound(shape, "less", told["max"])
    if "min" in told and size < told["min"]:
        yield kind, _bound(shape, "greater", told["min"])
    # A value beyond its length is refused already; matching it could cost what the length is there to spare.
    if "pattern" in told and isinstance(value, str) and not too_long and not matches(service, told["pattern"], value):
        yield "pattern", f"Member must satisfy regular expression pattern: {told['pattern']}"
    if told.get("enum") and value not in told["enum"]:
        yield "enum", f"Member must satisfy enum value set: [{', '.join(told['enum'])}]"


def matches(service: Service, pattern: str, value: str) -> bool:
    """Whether the whole value matches a model's pattern (Java's dialect, ASCII classes)."""
    return compiled(service.matchers.get(pattern, pattern)).fullmatch(value) is not None


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    r"""Return a model's pattern for Python's engine. Java's `\w`, `\d`, `\s` are ASCII unless `\p{…}` asks for more."""
    if "\\p{" in pattern:
        return re.compile(pattern.replace("\\p{L}\\p{Z}\\p{N}", _UNICODE_LETTERS_SPACES_NUMBERS))
    return re.compile(pattern, re.ASCII)


def _shown(shape: Shape, value: Any) -> str:
    """The value in quotes, as AWS shows it; nothing for what is secret, binary, or made of structures."""
    if shape.metadata.get("sensitive") or isinstance(value, bytes):
        return ""
    if isinstance(value, list):
        if shape.member.metadata.get("sensitive") or not all(isinstance(each, str | int | float) for each in value):
            return ""
        return _quoted(f"[{', '.join(map(str, value))}]")
    if isinstance(value, dict):
        if any(not isinstance(each, str) for each in value.values()):
            return ""
        return _quoted("{" + ", ".join(f"{key}={each}" for key, each in value.items()) + "}")
    return _quoted(str(value))


def _quoted(text: str) -> str:
    return f"'{text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + '…'}'"


_S3_ENUMS: Final[Mapping[str, tuple[str, str]]] = {
    "StorageClass": ("InvalidStorageClass", "The storage class you specified is not valid"),
    "BucketLocationConstraint": (
        "InvalidLocationConstraint",
        "The specified location-constraint is not valid",
    ),
    "EncodingType": ("InvalidArgument", "Invalid Encoding Method specified in Request"),
    "ServerSideEncryption": ("InvalidArgument", "The encryption method specified is not supported"),
    "MetadataDirective": ("InvalidArgument", "Unknown metadata directive."),
}


def _s3_error(fault: Fault) -> ServiceError:
    name = fault.shape.serialization.get("name", fault.path)
    value = fault.shown.strip("'")
    if fault.kind == "enum" and fault.shape.name in _S3_ENUMS:
        code, message = _S3_ENUMS[fault.shape.name]
        return ServiceError(message, code=code, ArgumentName=name, ArgumentValue=value)
    if fault.placed == "body":
        return ServiceError(
            "The XML you provided was not well-formed or did not validate against our published schema",
            code="MalformedXML",
        )
    if fault.kind == "required":
        return ServiceError(f"Missing required parameter for this request: '{name}'", code="InvalidRequest")
    if fault.shape.name == "CopySource":
        message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
        return ServiceError(message, code="InvalidArgument", ArgumentName=name, ArgumentValue=value)
    message = f"The value of {name} is not valid: {fault.rule}"
    return ServiceError(message, code="InvalidArgument", ArgumentName=name, ArgumentValue=value)
