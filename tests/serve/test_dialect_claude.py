"""Claude's Messages JSON: turns and system in both their forms, Anthropic's words, and the events of a stream."""

from typing import Any

import pytest

from outcrop.records import Piece, Prompt, Turn
from outcrop.serve.dialects import claude
from outcrop.serve.dialects.family import Answer, Asked, Chat
from tests.serve.dialect_world import PIECES, ask, composed, malformed, refusal, spoken

NAME = claude.NAME
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
USER = {"role": "user", "content": "hi"}


def body(**members: Any) -> dict[str, Any]:
    return {"anthropic_version": claude.VERSION, "max_tokens": 9, "messages": [USER], **members}


def said(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_defaults_are_aws_s() -> None:
    asked = ask(NAME, body(), model=HAIKU)
    turns = (Turn("user", "hi"),)
    assert asked == Asked(Prompt(max_tokens=9, temperature=1.0, top_p=0.999, turns=turns), "claude-3-haiku-20240307")


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku-20240307"),
        ("anthropic.claude-instant-v1", "claude-instant"),
        ("anthropic.claude-sonnet-4", "claude-sonnet-4"),
        ("my.support-v1", "my.support-v1"),
        ("my.support-v1:0", "my.support-v1:0"),
        ("not-anthropic.claude-v1", "not-anthropic.claude-v1"),
    ],
)
def test_an_answer_names_anthropic_s_models_as_anthropic_does_and_others_by_their_ids(model_id: str, name: str) -> None:
    assert ask(NAME, body(), model=model_id).model == name


def test_every_setting_and_both_forms_of_content_are_read() -> None:
    blocks = [{"type": "text", "text": "Where"}, {"type": "text", "text": " is it?"}]
    prompt = ask(
        NAME,
        body(
            messages=[
                said("user", blocks),
                said("assistant", "It"),
                said("user", "Yes?"),
                said("assistant", [blocks[0]]),
            ],
            system=[{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}],
            temperature=0.25,
            top_p=0.5,
            top_k=500,
            stop_sequences=["\n\nHuman:"],
            metadata={"user_id": "a"},
            tools=[],
        ),
    ).prompt
    turns = (
        Turn("user", "Where is it?"),
        Turn("assistant", "It"),
        Turn("user", "Yes?"),
        Turn("assistant", "Where"),
    )
    assert prompt == Prompt(
        max_tokens=9, temperature=0.25, top_p=0.5, top_k=500, stop=("\n\nHuman:",), turns=turns, system="Be kind."
    )
    assert ask(NAME, body(system="Be kind.")).prompt.system == "Be kind."
    assert ask(NAME, body(system="")).prompt.system is None


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (
            {"prompt": "hi"},
            (
                "#: required key [anthropic_version] not found#: required key [max_tokens] not found"
                "#: required key [messages] not found#: extraneous key [prompt] is not permitted"
            ),
        ),
        (body(stream=True), "#: extraneous key [stream] is not permitted"),
        (body(anthropic_version="2023-06-01"), "#/anthropic_version: 2023-06-01 is not a valid enum value"),
        (body(max_tokens=0), "#/max_tokens: 0 is not greater or equal to 1"),
        (body(temperature=1.5), "#/temperature: 1.5 is not less or equal to 1"),
        (body(messages=[said("system", "x")]), "#/messages/0/role: system is not a valid enum value"),
        (body(messages=[{"role": "user"}]), "#/messages/0: required key [content] not found"),
        (
            body(messages=[said("user", 3)]),
            "#/messages/0/content: no subschema matched out of the total 2 subschemas",
        ),
        (
            body(messages=[said("user", [{"text": "hi"}])]),
            "#/messages/0/content/0: required key [type] not found",
        ),
        (
            body(messages=[said("user", [{"type": "text", "text": "hi", "cache_control": {}}])]),
            "#/messages/0/content/0: extraneous key [cache_control] is not permitted",
        ),
        (body(messages=[said("user", [{"type": "text"}])]), "#/messages/0/content/0: required key [text] not found"),
    ],
)
def test_shapes_are_the_schema_s(document: Any, told: str) -> None:
    assert malformed(NAME, document) == told


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"messages": []}, "messages: at least one message is required"),
        ({"messages": [said("assistant", "x")]}, 'messages: first message must use the "user" role'),
        (
            {"messages": [USER, USER]},
            'messages: roles must alternate between "user" and "assistant", but found multiple "user" roles in a row',
        ),
        ({"messages": [said("user", "")]}, "messages: text content blocks must be non-empty"),
        ({"messages": [said("user", " \n")]}, "messages: text content blocks must contain non-whitespace text"),
        ({"messages": [said("user", [])]}, "messages.0: all messages must have non-empty content"),
        ({"system": " "}, "system: text content blocks must contain non-whitespace text"),
        (
            {"messages": [USER, said("assistant", "Yes ")]},
            "messages: final assistant content cannot end with trailing whitespace",
        ),
        (
            {"max_tokens": 4097},
            "max_tokens: 4097 > 4096, which is the maximum allowed number of output tokens for claude-3-haiku-20240307",
        ),
        (
            {"tools": [{"name": "a"}]},
            "tools: not available for this model, which reads and writes text only. Leave tools out.",
        ),
        (
            {"tool_choice": {"type": "any"}},
            "tool_choice: not available for this model, which reads and writes text only. Leave tool_choice out.",
        ),
        (
            {"messages": [USER, said("assistant", "x"), said("user", [{"type": "image", "source": {}}])]},
            "messages.2.content.0: image blocks are not available for this model, which reads text only",
        ),
    ],
)
def test_what_must_hold_between_messages_is_told_in_anthropic_s_words(members: dict[str, Any], told: str) -> None:
    assert refusal(NAME, body(**members), model=HAIKU) == told


@pytest.mark.parametrize(
    ("finish", "stopped_by", "reason"),
    [("stop", None, "end_turn"), ("length", None, "max_tokens"), ("stop_sequence", "END", "stop_sequence")],
)
def test_an_answer(finish: str, stopped_by: str | None, reason: str) -> None:
    asked = Asked(Prompt(), "claude-3-haiku-20240307")
    document = claude.answer(asked, [Answer("hello", Piece("", finish, 7, 3, stopped_by))])
    assert document.pop("id").startswith("msg_bdrk_")
    assert document == {
        "type": "message",
        "role": "assistant",
        "model": "claude-3-haiku-20240307",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": reason,
        "stop_sequence": stopped_by,
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }


def test_an_answer_of_nothing_has_no_content() -> None:
    assert claude.answer(Asked(Prompt()), [Answer("", Piece("", "stop", 7, 1))])["content"] == []


def test_the_events_of_a_stream_are_anthropic_s_in_their_order() -> None:
    start, *rest = spoken(NAME, Asked(Prompt(), "claude-3-haiku-20240307"), PIECES)
    assert start["message"].pop("id").startswith("msg_bdrk_")
    assert start == {
        "type": "message_start",
        "message": {
            "type": "message",
            "role": "assistant",
            "model": "claude-3-haiku-20240307",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 7, "output_tokens": 1},
        },
    }
    assert rest == [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "he"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "llo"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 3},
        },
        {"type": "message_stop"},
    ]


def test_a_stream_of_one_piece_has_all_events() -> None:
    events = spoken(NAME, Asked(Prompt()), [Piece("hi", "stop_sequence", 7, 2, "END")])
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert events[4]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "END"}


def test_converse_s_body_keeps_the_schema() -> None:
    turns = (Turn("user", "hi"), Turn("assistant", "yes"), Turn("user", "go"))
    chat = Chat(turns, system="Be kind.", max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",))
    assert composed(NAME, chat).prompt == Prompt(
        max_tokens=9, temperature=0.5, top_p=0.25, stop=("|",), turns=turns, system="Be kind."
    )
