"""A request body against its family's JSON Schema, and AWS's words for what is wrong with it.

AWS checks bodies with a Java library and passes its texts on; the words here are those. Knows schemas; nothing of what
a family's members mean.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from outcrop.errors import ValidationException

Schema = Mapping[str, Any]

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
    """The JSON value of a body: strict UTF-8, no NaN, no key twice, no half characters.

    Raises ValidationException.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant)
        # A lone surrogate, \ud800, is no text: it could not be sent on.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as fault:
        raise malformed() from fault
    return value


def check(validator: Draft202012Validator, value: Any) -> None:
    """Raise ValidationException, in AWS's words, unless the value keeps the schema."""
    found = [text for error in validator.iter_errors(value) for text in texts(error)]
    if len(found) > 1:
        raise malformed(f"{len(found)} schema violations found")
    if found:
        raise malformed(found[0])


def texts(error: ValidationError) -> Iterator[str]:
    """What the Java library says to one of ours; several where it counts several."""
    place = "#" + "".join(f"/{part}" for part in error.absolute_path)
    limit: Any = error.validator_value
    value: Any = error.instance
    rule = str(error.validator)
    match rule:
        case "additionalProperties":
            known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
            for key in value:
                if key not in known:
                    yield f"{place}: extraneous key [{key}] is not permitted"
        case "required":
            # The validator reports each missing key by itself and names it only in its message.
            yield f"{place}: required key [{error.message.rpartition(' is a required')[0][1:-1]}] not found"
        case "type":
            yield f"{place}: expected type: {TYPES[str(limit)]}, found: {_java_type(value)}"
        case "maximum":
            yield f"{place}: {value} is not less or equal to {limit}"
        case "minimum":
            yield f"{place}: {value} is not greater or equal to {limit}"
        case "exclusiveMinimum":
            yield f"{place}: {value} is not greater than {limit}"
        # These two come without their place in every capture.
        case "maxLength" | "minLength":
            yield f"expected {rule}: {limit}, actual: {len(value)}"
        case "pattern":
            yield f"string [{value}] does not match pattern {limit}"
        case "maxItems":
            yield f"{place}: expected maximum item count: {limit}, found: {len(value)}"
        case _:
            yield f"{place}: {error.message}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _java_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer" if -(2**31) <= value < 2**31 else "Long"
    if isinstance(value, float):
        return "BigDecimal"
    return "String" if isinstance(value, str) else "JSONArray" if isinstance(value, list) else "JSONObject"
