"""Cohere Command's JSON: generations, streams of either kind, and what is refused by its name."""

from typing import Any, Literal

import pytest

from outcrop.errors import ValidationException
from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects import cohere
from outcrop.serve.dialects.family import Answer, Asked, Chat
from tests.serve.dialect_world import PIECES, ask, composed, malformed, refusal, spoken

NAME = cohere.NAME


def test_defaults_are_aws_s() -> None:
    asked = ask(NAME, {"prompt": "hi"})
    assert asked == Asked(
        Prompt("hi", max_tokens=20, temperature=0.9, top_p=0.75), generations=1, streamed=False, text="hi"
    )


def test_every_setting_is_read() -> None:
    settings = {
        "temperature": 5,
        "p": 0.5,
        "k": 500,
        "max_tokens": 4096,
        "stop_sequences": ["a", "b", "c", "d"],
        "return_likelihoods": "NONE",
        "stream": True,
        "num_generations": 5,
        "logit_bias": {},
        "truncate": "START",
    }
    asked = ask(NAME, {"prompt": "注文", **settings})
    assert (asked.generations, asked.streamed, asked.text) == (5, True, "注文")
    assert asked.prompt == Prompt(
        "注文", max_tokens=4096, temperature=5.0, top_p=0.5, top_k=500, stop=("a", "b", "c", "d"), truncate="START"
    )


@pytest.mark.parametrize("p", [0, 1])
def test_a_p_of_nothing_or_all_leaves_every_token(p: int) -> None:
    prompt = ask(NAME, {"prompt": "hi", "p": p}).prompt
    assert (prompt.top_p, prompt.temperature) == (1.0, 0.9)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "#: required key [prompt] not found"),
        (
            {"inputText": "hi", "top_p": 1},
            (
                "#: required key [prompt] not found#: extraneous key [inputText] is not permitted"
                "#: extraneous key [top_p] is not permitted"
            ),
        ),
        (
            {"prompt": "hi", "k": 501, "num_generations": 6},
            "#/k: 501 is not less or equal to 500#/num_generations: 6 is not less or equal to 5",
        ),
        ({"prompt": "hi", "truncate": "LEFT"}, "#/truncate: LEFT is not a valid enum value"),
        ({"prompt": "hi", "stop_sequences": "a"}, "#/stop_sequences: expected type: JSONArray, found: String"),
        (
            {"prompt": "hi", "stop_sequences": list("abcde")},
            "#/stop_sequences: expected maximum item count: 4, found: 5",
        ),
        ({"prompt": "hi", "stream": "yes"}, "#/stream: expected type: Boolean, found: String"),
        ({"prompt": "hi", "max_tokens": 4097}, "#/max_tokens: 4097 is not less or equal to 4096"),
        ({"prompt": ""}, "expected minLength: 1, actual: 0"),
    ],
)
def test_refusals_are_told_one_behind_the_other(document: Any, told: str) -> None:
    assert malformed(NAME, document) == told


def test_what_cannot_be_done_is_refused_by_its_name() -> None:
    assert refusal(NAME, {"prompt": "hi", "logit_bias": {"5": 1.5}}).startswith("logit_bias is not available: it names")
    asked = ask(NAME, {"prompt": "hi", "stream": True, "return_likelihoods": "GENERATION"})
    with pytest.raises(ValidationException, match="return_likelihoods is not available while streaming"):
        cohere.speak(asked)


@pytest.mark.parametrize("wanted", ["GENERATION", "ALL"])
def test_likelihoods_are_told_where_they_are_asked_for(wanted: Literal["GENERATION", "ALL"]) -> None:
    asked = ask(NAME, {"prompt": "hi", "return_likelihoods": wanted})
    assert asked.prompt.likelihoods == wanted
    last = Piece("", "stop", 2, 2, likelihoods=(("a", -1.5), ("b", -0.5)))
    generation, empty = cohere.answer(asked, [Answer("ab", last), Answer("", Piece("", "stop", 2, 1))])["generations"]
    assert generation["likelihood"] == -1.0
    assert generation["token_likelihoods"] == [{"token": "a", "likelihood": -1.5}, {"token": "b", "likelihood": -0.5}]
    assert empty["token_likelihoods"] == []
    assert "likelihood" not in empty


def test_an_answer_has_a_generation_each_and_the_prompt() -> None:
    asked = ask(NAME, {"prompt": "hi", "num_generations": 2})
    answers = [Answer("yes", Piece("", "stop", 2, 1)), Answer("no no", Piece("", "length", 2, 2))]
    document = cohere.answer(asked, answers)
    ids = [document.pop("id"), *(each.pop("id") for each in document["generations"])]
    assert document == {
        "generations": [
            {"finish_reason": "COMPLETE", "text": "yes"},
            {"finish_reason": "MAX_TOKENS", "text": "no no"},
        ],
        "prompt": "hi",
    }
    assert len(set(ids)) == 3


def test_a_stream_comes_in_pieces() -> None:
    asked = ask(NAME, {"prompt": "hi", "stream": True})
    assert spoken(NAME, asked, PIECES) == [
        {"text": "he", "is_finished": False},
        {"text": "llo", "is_finished": False},
        {"finish_reason": "COMPLETE", "is_finished": True},
    ]


def test_the_pieces_of_several_generations_are_told_apart() -> None:
    asked = ask(NAME, {"prompt": "hi", "stream": True, "num_generations": 2})
    chunks = spoken(NAME, asked, [Piece("a"), Piece("", "stop", 2, 1), Piece("b", "length", 2, 1)])
    assert chunks == [
        {"text": "a", "is_finished": False, "index": 0},
        {"finish_reason": "COMPLETE", "is_finished": True, "index": 0},
        {"text": "b", "is_finished": False, "index": 1},
        {"finish_reason": "MAX_TOKENS", "is_finished": True, "index": 1},
    ]


def test_without_stream_the_whole_answer_is_one_chunk() -> None:
    asked = ask(NAME, {"prompt": "hi", "num_generations": 2})
    [chunk] = spoken(NAME, asked, [*PIECES, Piece("x", "length", 2, 1)])
    assert [each["text"] for each in chunk["generations"]] == ["hello", "x"]
    assert chunk["prompt"] == "hi"


def test_converse_s_body_keeps_the_schema() -> None:
    asked = composed(NAME, Chat((Turn("user", "hi"),), max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",)))
    assert asked.prompt == Prompt("User: hi\nBot:", max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",))
