"""Titan Text's JSON: what is taken, what is refused in AWS's words, and what is answered."""

from typing import Any

import pytest

from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects import titan
from outcrop.serve.dialects.family import Answer, Asked, Chat, encode
from tests.serve.dialect_world import ask, composed, malformed, spoken

NAME = titan.NAME
STOPS = "#/textGenerationConfig/stopSequences"


def read(document: Any, *, largest: int = 8192, strict: bool = False) -> Prompt:
    return ask(NAME, document, largest=largest, strict=strict).prompt


def refusal(document: Any, **options: Any) -> str:
    return malformed(NAME, document, **{"largest": 8192, **options})


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
)
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
    document = titan.answer(Asked(Prompt("hi")), [Answer("届きます", Piece("", finish, 7, 3))])
    assert encode(document).decode() == (
        '{"inputTextTokenCount":7,"results":[{"tokenCount":3,"outputText":"届きます","completionReason":"'
        f'{reason}"}}]}}'
    )


def test_only_the_last_chunk_has_counts_and_reason() -> None:
    nothing = {"index": 0, "totalOutputTextTokenCount": None, "completionReason": None, "inputTextTokenCount": None}
    pieces = [Piece("he", None, 7, 1), Piece("llo", "length", 7, 3)]
    first, last = spoken(NAME, Asked(Prompt("hi")), pieces)
    assert first == {"outputText": "he", **nothing}
    assert last == {
        "outputText": "llo",
        "index": 0,
        "totalOutputTextTokenCount": 3,
        "completionReason": "LENGTH",
        "inputTextTokenCount": 7,
    }


def test_converse_s_body_keeps_the_schema() -> None:
    turns = (Turn("user", "hi"), Turn("assistant", "yes?"), Turn("user", "go"))
    asked = composed(NAME, Chat(turns, max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",)), largest=9)
    assert asked.prompt == Prompt(
        "User: hi\nBot: yes?\nUser: go\nBot:", max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",)
    )
    assert composed(NAME, Chat(turns)).prompt.temperature == 0.7
