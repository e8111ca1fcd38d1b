"""A request body against its family's JSON Schema, and AWS's words for what is wrong with it.

AWS checks bodies with a Java library and passes its texts on; the words here are those. Knows schemas; nothing of what
a family's members mean.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator

from outcrop.errors import ValidationException
from outcrop.wire import jsontree

MAX_TOLD: Final = 20
"""Faults told in one answer; a body of a thousand wrong keys needs no longer message."""

MAX_TEXT: Final = 1024
"""Characters of one of them: a key or a value may be as long as the body."""

MAX_DIGITS: Final = 64
"""Digits of a wrong number that are quoted back."""

TYPES: Final = {
    "object": "JSONObject",
    "array": "JSONArray",
    "string": "String",
    "number": "Number",
    "integer": "Integer",
    "boolean": "Boolean",
    "null": "Null",
}


def malformed(detail: str | None = None) -> ValidationException:
    """AWS's frame around a detail, or without one for a body that is not JSON at all."""
    about = f": {detail}" if detail else ""
    return ValidationException(f"Malformed input request{about}, please reformat your input and try again.")


def read_json(body: bytes) -> Any:
    """The JSON value of a body, read strictly, with no key twice; raises ValidationException."""
    try:
        return jsontree.read(body, _object)
    except ValueError as fault:
        raise malformed() from fault


def check(validator: Validator, value: Any, *, counted: bool = False) -> None:
    """Raise ValidationException, in AWS's words, unless the value keeps the schema.

    counted: several faults are counted, as Titan does; else they are told one after the other without a separator.
    """
    faults = (text for error in validator.iter_errors(value) for text in texts(error))
    found = list(islice(faults, MAX_TOLD))
    if counted and len(found) > 1:
        # The rest as they come: a body has room for millions.
        raise malformed(f"{len(found) + sum(1 for _ in faults)} schema violations found")
    if found:
        raise malformed("".join(text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…" for text in found))


def _extraneous(validator: Validator, rule: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[ValidationError]:
    """`additionalProperties`, with an error as `texts` needs it: jsonschema's own sorts and quotes every wrong key."""
    if rule is not False:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, rule, value, schema)
    elif isinstance(value, dict) and not value.keys() <= schema.get("properties", {}).keys():
        yield ValidationError("extraneous keys")


Strict: Final[Callable[[Mapping[str, Any]], Validator]] = validators.extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, {"additionalProperties": _extraneous}
)
"""The validator of a schema that bodies are held to."""


def texts(error: ValidationError) -> Iterator[str]:
    """What the Java library says to one of ours; several where it counts several."""
    place = "#" + "".join(f"/{part}" for part in error.absolute_path)
    match str(error.validator):
        case "additionalProperties":
            known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
            instance: Any = error.instance
            for key in instance:
                if key not in known:
                    yield f"{place}: extraneous key [{key}] is not permitted"
        case "required":
            # The validator reports each missing key by itself and names it only in its message.
            yield f"{place}: required key [{error.message.rpartition(' is a required')[0][1:-1]}] not found"
        case "type":
            yield _wrong_type(place, error)
        # These come without their place in every capture.
        case "maxLength" | "minLength" as rule:
            yield f"expected {rule}: {error.validator_value}, actual: {len(str(error.instance))}"
        case "pattern":
            yield f"string [{error.instance}] does not match pattern {error.validator_value}"
        case _:
            yield f"{place}: {_bound(error)}"


def _wrong_type(place: str, error: ValidationError) -> str:
    allowed: Any = error.validator_value
    if isinstance(allowed, list):
        return f"{place}: no subschema matched out of the total {len(allowed)} subschemas"
    return f"{place}: expected type: {TYPES[allowed]}, found: {_java_type(error.instance)}"


def _bound(error: ValidationError) -> str:
    limit: Any = error.validator_value
    value: Any = error.instance
    match str(error.validator):
        case "maximum":
            return f"{_number(value)} is not less or equal to {limit}"
        case "minimum":
            return f"{_number(value)} is not greater or equal to {limit}"
        case "exclusiveMinimum":
            return f"{_number(value)} is not greater than {limit}"
        case "enum":
            return f"{value if isinstance(value, str) else json.dumps(value, default=str)} is not a valid enum value"
        case "maxItems":
            return f"expected maximum item count: {limit}, found: {len(value)}"
        case "minItems":
            return f"expected minimum item count: {limit}, found: {len(value)}"
        case "minProperties":
            return f"minimum size: [{limit}] expected, found: [{len(value)}]"
        case "not":
            return f"subject must not be valid against schema {json.dumps(limit, separators=(',', ':'))}"
        case _:
            return error.message


def _number(value: float | Decimal) -> str:
    """A number as a message quotes it."""
    text = str(value)
    return text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}…"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _java_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer" if -(2**31) <= value < 2**31 else "Long"
    if isinstance(value, float | Decimal):
        return "BigDecimal"
    return "String" if isinstance(value, str) else "JSONArray" if isinstance(value, list) else "JSONObject"
