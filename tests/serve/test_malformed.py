"""What a schema's violations are called: one text each, in the Java library's words."""

import tracemalloc
from typing import Any

import pytest

from outcrop.errors import ValidationException
from outcrop.serve.malformed import MAX_TEXT, MAX_TOLD, Strict, check, read_json


def told(schema: dict[str, Any], value: Any, *, counted: bool = False) -> str:
    with pytest.raises(ValidationException) as caught:
        check(Strict(schema), value, counted=counted)
    return caught.value.message.removeprefix("Malformed input request: ").partition(", please")[0]


KEYS = {"required": ["a", "b"], "additionalProperties": False, "properties": {"a": {}, "b": {}}}


def test_several_are_told_behind_each_other_or_counted() -> None:
    assert told(KEYS, {"a": 1, "c": 2}) == "#: required key [b] not found#: extraneous key [c] is not permitted"
    assert told(KEYS, {"a": 1, "c": 2}, counted=True) == "2 schema violations found"
    assert told(KEYS, {"a": 1}, counted=True) == "#: required key [b] not found"


def test_a_thousand_wrong_keys_need_no_longer_message() -> None:
    many = {str(number): 1 for number in range(1000)}
    assert told(KEYS, {**many, "a": 1, "b": 1}).count("extraneous") == MAX_TOLD
    assert told(KEYS, {**many, "a": 1, "b": 1}, counted=True) == "1000 schema violations found"


def test_faults_are_counted_and_not_gathered() -> None:
    many = {"a": 1, "b": 1, **{f"{number:07x}": 0 for number in range(100_000)}}
    validator = Strict(KEYS)
    tracemalloc.start()
    try:
        with pytest.raises(ValidationException, match=r"^Malformed input request: 100000 schema violations found"):
            check(validator, many, counted=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000, "a hundred thousand texts have ten times as many bytes"


def test_a_key_as_long_as_the_body_is_not_quoted_whole() -> None:
    text = told(KEYS, {"a": 1, "b": 1, "x" * 1_000_000: 1})
    assert text.startswith("#: extraneous key [xxx")
    assert len(text) == MAX_TEXT + 1


@pytest.mark.parametrize(("number", "said"), [("1e400", "1E+400 is not less"), ("-1e400", "-1E+400 is not greater")])
def test_a_number_beyond_all_floats_is_quoted_as_it_was_written(number: str, said: str) -> None:
    schema = {"properties": {"temperature": {"type": "number", "minimum": 0, "maximum": 1}}}
    body = f'{{"temperature": {number}}}'.encode()
    assert told(schema, read_json(body)).startswith(f"#/temperature: {said}")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"temperature": 1e9999999999999999999}', id="no decimal holds this number"),
        pytest.param(b'{"a": ' * 201 + b"1" + b"}" * 201, id="nested deeper than any schema"),
        pytest.param(b"[" * 100_000, id="nested deeper than the interpreter reads"),
        pytest.param(b'{"prompt": "\\ud800"}', id="half a character"),
        pytest.param(b'{"prompt": "a", "prompt": "b"}', id="one key twice"),
        pytest.param(b'{"temperature": NaN}', id="not a number"),
    ],
)
def test_what_is_no_strict_json_is_malformed(body: bytes) -> None:
    with pytest.raises(ValidationException, match=r"^Malformed input request, please"):
        read_json(body)


def test_a_number_beyond_all_floats_is_quoted_in_the_place_of_a_word() -> None:
    schema = {"properties": {"truncate": {"enum": ["START"]}}}
    assert told(schema, read_json(b'{"truncate": [1e400]}')) == '#/truncate: ["1E+400"] is not a valid enum value'


def test_what_keeps_the_schema_is_let_through() -> None:
    check(Strict(KEYS), {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("rule", "value", "text"),
    [
        ({"type": "integer"}, 2**40, None),
        ({"type": "string"}, 2**40, "#/x: expected type: String, found: Long"),
        ({"type": "string"}, False, "#/x: expected type: String, found: Boolean"),
        ({"type": ["string", "array"]}, 3, "#/x: no subschema matched out of the total 2 subschemas"),
        ({"exclusiveMinimum": 0}, 0, "#/x: 0 is not greater than 0"),
        ({"maximum": 1}, 10**80, f"#/x: 1{'0' * 63}… is not less or equal to 1"),
        ({"enum": ["a"]}, 3, "#/x: 3 is not a valid enum value"),
        ({"enum": ["a"]}, "b", "#/x: b is not a valid enum value"),
        ({"minItems": 1}, [], "#/x: expected minimum item count: 1, found: 0"),
        ({"minLength": 2}, "é", "expected minLength: 2, actual: 1"),
        ({"not": {"required": ["a"]}}, {"a": 1}, '#/x: subject must not be valid against schema {"required":["a"]}'),
        ({"multipleOf": 2}, 3, "#/x: 3 is not a multiple of 2"),
    ],
)
def test_each_rule_has_its_words(rule: dict[str, Any], value: Any, text: str | None) -> None:
    schema = {"properties": {"x": rule}}
    if text is None:
        check(Strict(schema), {"x": value})
    else:
        assert told(schema, {"x": value}) == text
