"""Titan Text's JSON: what is taken, what is refused in AWS's words, and what is answered."""

import json
from typing import Any

import pytest

from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt
from outcrop.serve.bodies import Metrics, encode, family, with_metrics

TITAN = family("titan-text")
STOPS = "#/textGenerationConfig/stopSequences"


def read(document: Any, *, largest: int = 8192, strict: bool = False) -> Prompt:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return TITAN.read(body, largest, strict)


def refusal(document: Any, **options: Any) -> str:
    with pytest.raises(ValidationException) as caught:
        read(document, **options)
    frame, end = "Malformed input request", ", please reformat your input and try again."
    message = caught.value.message
    assert message.startswith(frame)
    assert message.endswith(end)
    return message.removeprefix(frame).removesuffix(end).removeprefix(": ")


def test_defaults_are_aws_s() -> None:
    assert read({"inputText": "hi"}) == Prompt("hi", max_tokens=512, temperature=0.7, top_p=0.9)


def test_every_setting_is_read() -> None:
    settings = {"temperature": 0, "topP": 1, "maxTokenCount": 8192, "stopSequences": ["|", "User:", "\n\n"]}
    asked = read({"inputText": "注文", "textGenerationConfig": settings})
    assert asked == Prompt("注文", max_tokens=8192, temperature=0.0, top_p=1.0, stop=("|", "User:", "\n\n"))
    assert read({"inputText": "hi", "textGenerationConfig": {}}).max_tokens == 512


def config(**settings: Any) -> dict[str, Any]:
    return {"inputText": "hi", "textGenerationConfig": settings}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "#: required key [inputText] not found"),
        ({"inputText": "hi", "max_tokens": 3}, "#: extraneous key [max_tokens] is not permitted"),
        (config(top_k=3), "#/textGenerationConfig: extraneous key [top_k] is not permitted"),
        ({"prompt": "hi"}, "2 schema violations found"),
        ({"inputText": "hi", "a": 1, "b": 2, "c": 3}, "3 schema violations found"),
        ({"inputText": 3}, "#/inputText: expected type: String, found: Integer"),
        ({"inputText": None}, "#/inputText: expected type: String, found: Null"),
        ([], "#: expected type: JSONObject, found: JSONArray"),
        (config(stopSequences="|"), "#/textGenerationConfig/stopSequences: expected type: JSONArray, found: String"),
        (config(stopSequences=[1]), "#/textGenerationConfig/stopSequences/0: expected type: String, found: Integer"),
        (config(maxTokenCount="9"), "#/textGenerationConfig/maxTokenCount: expected type: Integer, found: String"),
        (config(maxTokenCount=2.5), "#/textGenerationConfig/maxTokenCount: expected type: Integer, found: BigDecimal"),
        (config(maxTokenCount=True), "#/textGenerationConfig/maxTokenCount: expected type: Integer, found: Boolean"),
        (config(maxTokenCount=8193), "#/textGenerationConfig/maxTokenCount: 8193 is not less or equal to 8192"),
        (config(maxTokenCount=0), "#/textGenerationConfig/maxTokenCount: 0 is not greater or equal to 1"),
        (config(temperature=1.5), "#/textGenerationConfig/temperature: 1.5 is not less or equal to 1"),
        (config(temperature=-1), "#/textGenerationConfig/temperature: -1 is not greater or equal to 0"),
        (config(topP=0), "#/textGenerationConfig/topP: 0 is not greater than 0"),
        ({"inputText": "x" * 42_001}, "expected maxLength: 42000, actual: 42001"),
        ({"inputText": ""}, "expected minLength: 1, actual: 0"),
        (config(stopSequences=["x"] * 65), STOPS + ": expected maximum item count: 64, found: 65"),
    ],
)  # fmt: skip
def test_refusals_are_in_aws_s_words(document: Any, told: str) -> None:
    assert refusal(document) == told


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b'{"inputText": "hi", "inputText": "ho"}',
        b'{"inputText": "\\ud800"}',
        b'{"inputText": "hi", "textGenerationConfig": {"temperature": NaN}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_json_is_refused_without_a_detail(body: bytes) -> None:
    assert refusal(body) == ""


def test_each_model_has_its_own_largest_count() -> None:
    assert refusal(config(maxTokenCount=3073), largest=3072).endswith("3073 is not less or equal to 3072")
    assert read(config(maxTokenCount=3072), largest=3072).max_tokens == 3072


def test_strict_takes_only_aws_s_stop_sequences() -> None:
    assert read(config(stopSequences=["|||", "User:"]), strict=True).stop == ("|||", "User:")
    told = refusal(config(stopSequences=["</stop>"]), strict=True)
    assert told == r"string [</stop>] does not match pattern ^(\|+|User:)$"
    assert read(config(stopSequences=["</stop>"])).stop == ("</stop>",)


@pytest.mark.parametrize(
    ("finish", "reason"), [("stop", "FINISH"), ("length", "LENGTH"), ("stop_sequence", "STOP_CRITERIA_MET")]
)
def test_an_answer_has_aws_s_members_in_aws_s_order(finish: str, reason: str) -> None:
    document = TITAN.answer("届きます", Piece("", finish, 7, 3))
    assert encode(document).decode() == (
        '{"inputTextTokenCount":7,"results":[{"tokenCount":3,"outputText":"届きます","completionReason":"'
        f'{reason}"}}]}}'
    )


def test_only_the_last_chunk_has_counts_reason_and_metrics() -> None:
    assert TITAN.chunk(Piece("he"), 1) == {
        "outputText": "he",
        "index": 0,
        "totalOutputTextTokenCount": None,
        "completionReason": None,
        "inputTextTokenCount": None,
    }
    last = Piece("llo", "length", 7, 3)
    assert with_metrics(TITAN.chunk(last, 2), last, Metrics(latency=40, first_byte=9)) == {
        "outputText": "llo",
        "index": 0,
        "totalOutputTextTokenCount": 3,
        "completionReason": "LENGTH",
        "inputTextTokenCount": 7,
        "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": 7,
            "outputTokenCount": 3,
            "invocationLatency": 40,
            "firstByteLatency": 9,
        },
    }
