"""Meta Llama's JSON."""

from typing import Any

import pytest

from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects import llama
from outcrop.serve.dialects.family import Answer, Asked, Chat, encode
from tests.serve.dialect_world import PIECES, ask, composed, malformed, refusal, spoken

NAME = llama.NAME


def test_defaults_are_aws_s() -> None:
    prompt = ask(NAME, {"prompt": "[INST] hi [/INST]", "images": []}, largest=2048).prompt
    assert prompt == Prompt("[INST] hi [/INST]", max_tokens=512, temperature=0.5, top_p=0.9)


def test_a_top_p_of_nothing_leaves_the_likeliest_token() -> None:
    prompt = ask(NAME, {"prompt": "hi", "top_p": 0, "temperature": 1}).prompt
    assert (prompt.temperature, prompt.top_p) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"prompt": "hi", "max_gen_len": 8192}, "#/max_gen_len: 8192 is not less or equal to 2048"),
        ({"prompt": "hi", "stop": ["a"]}, "#: extraneous key [stop] is not permitted"),
        ({"max_tokens": 3}, "#: required key [prompt] not found#: extraneous key [max_tokens] is not permitted"),
        ({"prompt": ["hi"]}, "#/prompt: expected type: String, found: JSONArray"),
        ({"prompt": "hi", "temperature": 1.5}, "#/temperature: 1.5 is not less or equal to 1"),
        ({"prompt": "hi", "top_p": -0.5}, "#/top_p: -0.5 is not greater or equal to 0"),
        ({"prompt": "hi", "max_gen_len": 10**100}, f"#/max_gen_len: 1{'0' * 63}… is not less or equal to 2048"),
    ],
)
def test_refusals_are_in_aws_s_words(document: Any, told: str) -> None:
    assert malformed(NAME, document, largest=2048) == told


def test_images_are_refused_by_their_name() -> None:
    assert refusal(NAME, {"prompt": "hi", "images": ["aGk="]}).startswith("images are not available")


@pytest.mark.parametrize(("finish", "reason"), [("stop", "stop"), ("length", "length"), ("stop_sequence", "stop")])
def test_an_answer_has_aws_s_members_in_aws_s_order(finish: str, reason: str) -> None:
    document = llama.answer(Asked(Prompt("hi")), [Answer("届きます", Piece("", finish, 7, 3))])
    assert encode(document).decode() == (
        '{"generation":"届きます","prompt_token_count":7,"generation_token_count":3,"stop_reason":"' + reason + '"}'
    )


def test_counts_grow_and_the_prompt_s_stands_in_the_first_chunk_alone() -> None:
    chunks = spoken(NAME, Asked(Prompt("hi")), PIECES)
    members = ("generation", "prompt_token_count", "generation_token_count", "stop_reason")
    assert [tuple(chunk[name] for name in members) for chunk in chunks] == [
        ("he", 7, 1, None),
        ("llo", None, 2, None),
        ("", None, 3, "stop"),
    ]


def test_converse_s_body_keeps_the_schema() -> None:
    chat = Chat((Turn("user", "hi"),), system="Be kind.", max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",))
    prompt = composed(NAME, chat).prompt
    assert (prompt.max_tokens, prompt.temperature, prompt.top_p) == (9, 0.5, 0.25)


def test_a_long_prompt_is_told_the_context() -> None:
    assert llama.too_long(8191, "9000") == (
        "This model's maximum context length is 8192 tokens. Please reduce the length of the prompt"
    )
