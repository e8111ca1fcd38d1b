"""Nova's messages-v1: either spelling of its settings, and the events of a stream."""

from typing import Any

import pytest

from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects import nova
from outcrop.serve.dialects.family import Answer, Asked, Chat, encode
from tests.serve.dialect_world import PIECES, ask, composed, malformed, refusal, spoken

NAME = nova.NAME
USER = {"role": "user", "content": [{"text": "hi"}]}
USAGE = {
    "inputTokens": 7,
    "outputTokens": 3,
    "totalTokens": 10,
    "cacheReadInputTokenCount": 0,
    "cacheWriteInputTokenCount": 0,
}


def body(**members: Any) -> dict[str, Any]:
    return {"messages": [USER], **members}


def config(**settings: Any) -> dict[str, Any]:
    return body(inferenceConfig=settings)


def said(role: str, *texts: str) -> dict[str, Any]:
    return {"role": role, "content": [{"text": text} for text in texts]}


def test_defaults_are_aws_s_and_the_model_s_most_tokens() -> None:
    prompt = ask(NAME, body(schemaVersion="messages-v1"), largest=5000).prompt
    assert prompt == Prompt(max_tokens=5000, temperature=0.7, top_p=0.9, top_k=50, turns=(Turn("user", "hi"),))


@pytest.mark.parametrize(
    "settings",
    [{"maxTokens": 9, "topP": 0.5, "topK": 20}, {"max_new_tokens": 9, "top_p": 0.5, "top_k": 20}],
)
def test_both_spellings_mean_the_same(settings: dict[str, Any]) -> None:
    prompt = ask(NAME, config(**settings, temperature=0, stopSequences=["a"])).prompt
    assert prompt == Prompt(
        max_tokens=9, temperature=0.0, top_p=0.5, top_k=20, stop=("a",), turns=(Turn("user", "hi"),)
    )


def test_turns_and_system_are_read() -> None:
    messages = [said("user", "Where", " is it?"), said("assistant", "There."), said("user", "Thanks")]
    prompt = ask(NAME, body(messages=messages, system=[{"text": "Be "}, {"text": "kind."}])).prompt
    assert prompt.turns == (Turn("user", "Where is it?"), Turn("assistant", "There."), Turn("user", "Thanks"))
    assert prompt.system == "Be kind."


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({}, "#: required key [messages] not found"),
        (body(max_tokens=3), "#: extraneous key [max_tokens] is not permitted"),
        (config(max_tokens=3), "#/inferenceConfig: extraneous key [max_tokens] is not permitted"),
        (
            {"messages": [{"role": "user", "content": "hi"}]},
            "#/messages/0/content: expected type: JSONArray, found: String",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
            "#/messages/0/content/0: extraneous key [type] is not permitted",
        ),
        ({"messages": []}, "#/messages: expected minimum item count: 1, found: 0"),
        (
            {"messages": [{"content": []}]},
            (
                "#/messages/0: required key [role] not found"
                "#/messages/0/content: expected minimum item count: 1, found: 0"
            ),
        ),
        (
            {"messages": [{"role": "user", "content": [{}]}]},
            "#/messages/0/content/0: minimum size: [1] expected, found: [0]",
        ),
        (body(system="Be kind."), "#/system: expected type: JSONArray, found: String"),
        (body(schemaVersion="v2"), "#/schemaVersion: v2 is not a valid enum value"),
        (config(maxTokens=4097), "#/inferenceConfig/maxTokens: 4097 is not less or equal to 4096"),
        (config(max_new_tokens=4097), "#/inferenceConfig/max_new_tokens: 4097 is not less or equal to 4096"),
        (config(topK=129), "#/inferenceConfig/topK: 129 is not less or equal to 128"),
        (
            config(maxTokens=3, max_new_tokens=4),
            '#/inferenceConfig: subject must not be valid against schema {"required":["max_new_tokens","maxTokens"]}',
        ),
        (body(inferenceConfig=None), "#/inferenceConfig: expected type: JSONObject, found: Null"),
        (body(inferenceConfig=[]), "#/inferenceConfig: expected type: JSONObject, found: JSONArray"),
    ],
)
def test_refusals_are_in_aws_s_words(document: Any, told: str) -> None:
    assert malformed(NAME, document) == told


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (body(toolConfig={"tools": [{}]}), "toolConfig is not available for this model"),
        (
            {"messages": [{"role": "user", "content": [{"text": "hi"}, {"image": {}}]}]},
            "#/messages/0/content/1/image is not available for this model",
        ),
        ({"messages": [said("assistant", "hi")]}, "A conversation must start with a user message."),
        ({"messages": [USER, USER]}, "A conversation must alternate between user and assistant roles."),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_name(document: Any, told: str) -> None:
    assert refusal(NAME, document).startswith(told)


def test_an_answer_has_aws_s_members_in_aws_s_order() -> None:
    document = nova.answer(Asked(Prompt()), [Answer("hello", Piece("", "length", 7, 3))])
    assert encode(document).decode() == (
        '{"output":{"message":{"content":[{"text":"hello"}],"role":"assistant"}},"stopReason":"max_tokens","usage":'
        '{"inputTokens":7,"outputTokens":3,"totalTokens":10,"cacheReadInputTokenCount":0,"cacheWriteInputTokenCount":0}}'
    )


def test_every_piece_is_a_block_of_its_own() -> None:
    assert spoken(NAME, Asked(Prompt()), PIECES) == [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"delta": {"text": "he"}, "contentBlockIndex": 0}},
        {"contentBlockStop": {"contentBlockIndex": 0}},
        {"contentBlockDelta": {"delta": {"text": "llo"}, "contentBlockIndex": 1}},
        {"contentBlockStop": {"contentBlockIndex": 1}},
        {"messageStop": {"stopReason": "end_turn"}},
        {"metadata": {"usage": USAGE, "metrics": {}, "trace": {}}},
    ]


def test_converse_s_body_keeps_the_schema() -> None:
    turns = (Turn("user", "hi"), Turn("assistant", "yes"), Turn("user", "go"))
    chat = Chat(turns, system="Be kind.", max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",))
    assert composed(NAME, chat).prompt == Prompt(
        max_tokens=9, temperature=0.5, top_p=0.25, top_k=50, stop=("|",), turns=turns, system="Be kind."
    )
