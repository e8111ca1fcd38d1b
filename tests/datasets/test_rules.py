"""Every rule of every format: one line that breaks it, where the finger points, and what is said."""

import json
from typing import Any

import pytest

from outcrop.datasets.formats import FORMATS, Conversation, Document, Fault, Pair, examine, form, parse
from outcrop.datasets.match import PAD
from outcrop.datasets.scan import scan
from outcrop.records import Turn

USER = '{"role": "user", "content": "q"}'
ASSISTANT = '{"role": "assistant", "content": "a"}'
ASKED = '{"role": "user", "content": [{"text": "q"}]}'
SAID = '{"role": "assistant", "content": [{"text": "a"}]}'
VERSION = '"schemaVersion": "bedrock-conversation-2024"'

AWS_SAMPLE = (
    '{"system": "system message","messages": [{"role": "user", "content": "Hello there."},'
    '{"role": "assistant", "content": "Hi, how can I help you?"},{"role": "user", "content": "what are LLMs?"},'
    '{"role": "assistant", "content": "LLM means large language model."},]}'
)
"""The multi-turn sample of the documents, to the letter."""


def messages(*turns: str, system: str = "") -> str:
    return "{" + system + '"messages": [' + ", ".join(turns) + "]}"


def conversation(*turns: str, head: str = VERSION) -> str:
    return "{" + head + ', "messages": [' + ", ".join(turns) + "]}"


GOOD: list[tuple[str, str, Any]] = [
    ("prompt-completion", '{"prompt": "what is AWS", "completion": "it\'s Amazon Web Services"}',
     Pair("what is AWS", "it's Amazon Web Services")),
    ("text", '{"input": "AWS stands for Amazon Web Services"}', Document("AWS stands for Amazon Web Services")),
    ("messages", messages(USER, ASSISTANT), Conversation(None, (Turn("user", "q"), Turn("assistant", "a")))),
    ("messages", messages(USER, ASSISTANT, USER, ASSISTANT, system='"system": "s", '),
     Conversation("s", (Turn("user", "q"), Turn("assistant", "a")) * 2)),
    ("messages", '{"messages": [' + USER + "," + ASSISTANT + '], "system": "s"}',
     Conversation("s", (Turn("user", "q"), Turn("assistant", "a")))),
    ("messages", AWS_SAMPLE.replace(",]", "]"),
     Conversation("system message", (
         Turn("user", "Hello there."), Turn("assistant", "Hi, how can I help you?"),
         Turn("user", "what are LLMs?"), Turn("assistant", "LLM means large language model.")))),
    ("conversation", conversation(ASKED, SAID), Conversation(None, (Turn("user", "q"), Turn("assistant", "a")))),
    ("conversation", conversation(ASKED, SAID, head=VERSION + ', "system": [{"text": "s"}]'),
     Conversation("s", (Turn("user", "q"), Turn("assistant", "a")))),
    ("conversation", conversation('{"role": "user", "content": [{"text": "q"}, {"text": "r"}]}', SAID),
     Conversation(None, (Turn("user", "qr"), Turn("assistant", "a")))),
]  # fmt: skip

REFUSED: list[tuple[str, str, str, str, str]] = [
    # format, line, text at which the finger points, reason, kind
    ("messages", AWS_SAMPLE, "]}", "sample in AWS's own guide has this comma", "jsonl"),
    ("messages", messages(USER, ASSISTANT)[:-1] + ",}", "}", "a comma stands before the }", "jsonl"),
    ("prompt-completion", '{"prompt": "a", "completion": "b"},', ",", "a comma stands after the record", "jsonl"),
    ("prompt-completion", '{"prompt": "a", "completion": "b"} {"prompt"', '{"prompt"', "a second record", "jsonl"),
    ("prompt-completion", "{'prompt': 'a', 'completion': 'b'}", "'prompt'", "straight double quotes", "jsonl"),
    ("prompt-completion", '{"prompt": “a”, "completion": "b"}', "“a”", "straight double quotes", "jsonl"),
    ("prompt-completion", '{"prompt": None, "completion": "b"}', "None", "JSON writes null", "jsonl"),
    ("prompt-completion", '{"prompt": , "completion": "b"}', ', "c', "a value is missing before the ,", "jsonl"),
    ("prompt-completion", '{"prompt": "a\\x", "completion": "b"}', "\\x", "\\x is no escape of JSON", "jsonl"),
    ("prompt-completion", '{"prompt": "a\\u12", "completion": "b"}', "\\u12", "four hexadecimal digits", "jsonl"),
    ("prompt-completion", '{"prompt" "a"}', '"a"', "expected ':'", "jsonl"),
    ("prompt-completion", "[", "", "one JSON value over many lines", "jsonl"),
    ("prompt-completion", '{"prompt": "a", "completion": "b', "", "column 31 has no end", "jsonl"),
    ("prompt-completion", '{"prompt": ' + "[" * 200 + "]" * 200 + "}", "", "more than 100 deep", "jsonl"),
    ("prompt-completion", '{"prompt": "a", "completion": ""}', '""', "completion is empty", "shape"),
    ("prompt-completion", '{"prompt": "a", "Completion": "b"}', '"Completion"', "is completion meant?", "shape"),
    ("prompt-completion", '{"prompt": {"a": 1, "a": 2}}', '"a": 2', "the member a stands twice", "shape"),
    ("prompt-completion", '{"input": "a", "output": "b"}', "{", "members of the 2023 preview", "shape"),
    ("prompt-completion", '{"image-ref": "s3://b/k.png", "caption": "b"}', "{", "record of an image model", "shape"),
    ("prompt-completion", messages(USER, ASSISTANT), "{", "looks like messages with plain strings", "shape"),
    ("prompt-completion", conversation(ASKED, SAID), "{", "looks like conversations in blocks", "shape"),
    ("prompt-completion", '{"input": "a"}', "{", "looks like continued pre-training data", "shape"),
    ("text", '{"prompt": "a", "completion": "b"}', "{", "looks like prompt/completion", "shape"),
    ("text", '{"input": ""}', '""', "input is empty", "shape"),
    ("text", '{"input": ["a"]}', "[", "input must be a string, not an array", "shape"),
    ("text", '{"input": "a", "id": 7}', '"id"', "only input may stand here", "shape"),
    ("text", '{"input": "a", "input": "b"}', '"input": "b"', "the member input stands twice", "shape"),
    ("messages", '{"prompt": "a", "completion": "b"}', "{", "this model takes lines like", "shape"),
    ("messages", conversation(ASKED, SAID), "{", "looks like conversations in blocks", "shape"),
    ("messages", messages(USER, ASSISTANT, system='"system": "", '), '""', "system is empty", "shape"),
    ("messages", messages(USER, ASSISTANT, system='"system": null, '), "null", "system must be a string", "shape"),
    ("messages", messages(), "[]", "messages holds no message", "shape"),
    ("messages", messages(USER), "[", "messages holds one message; it needs two", "shape"),
    ("messages", messages(ASSISTANT, USER), '"assistant"', "the first message must be the user's", "shape"),
    ("messages", messages(USER, USER), '"user", "content": "q"}]', "is the user's again", "shape"),
    ("messages", messages(USER, ASSISTANT, USER), '"user", "content": "q"}]', "last message must be", "shape"),
    ("messages", messages('{"role": "system", "content": "s"}', USER), '"system"', "record's member system", "shape"),
    ("messages", messages('{"role": "human", "content": "s"}', ASSISTANT), '"human"', "user or assistant", "shape"),
    ("messages", messages(USER, '{"role": "assistant"}'), '{"role": "assistant"}', "messages[1].content is", "shape"),
    ("messages", messages(USER, '{"role": "assistant", "content": ""}'), '""', "messages[1].content is empty", "shape"),
    ("messages", messages(USER, "7"), "7", "messages[1] must be an object, not a number", "shape"),
    ("messages", messages('{"role": "user", "content": "q", "name": "x"}', ASSISTANT), '"name"', "only role", "shape"),
    ("messages", '{"messages": {}}', "{}", "messages must be an array, not an object", "shape"),
    ("messages", '{"messages": [' + USER + "," + ASSISTANT + '], "id": 1}', '"id"', "unknown member id", "shape"),
    ("messages", messages('{"role": "user", "role": "user", "content": "q"}', ASSISTANT),
     '"role": "user", "content": "q"', "the member role stands twice", "shape"),
    ("conversation", conversation(ASKED, SAID, head='"schemaVersion": "bedrock-conversion-2024"'),
     '"bedrock-', "guide misprints it", "shape"),
    ("conversation", conversation(ASKED, SAID, head='"schemaVersion": "1"'), '"1"', "must be bedrock-conv", "shape"),
    ("conversation", '{"messages": [' + ASKED + "," + SAID + "]}", "{", "member schemaVersion is missing", "shape"),
    ("conversation", conversation(ASKED, SAID, head=VERSION + ', "system": "s"'), '"s"', "not a string", "shape"),
    ("conversation", conversation(ASKED, SAID, head=VERSION + ', "system": []'), "[]", "exactly one block", "shape"),
    ("conversation", conversation(ASKED, SAID, head=VERSION + ', "system": [{"text": ""}]'), '""', "is empty", "shape"),
    ("conversation", conversation(ASKED, SAID, head=VERSION + ', "sytem": []'), '"sytem"', "is system meant?", "shape"),
    ("conversation", conversation('{"role": "user", "content": []}', SAID), "[]", "one block of text", "shape"),
    ("conversation", conversation('{"role": "user", "content": [{"image": {"format": "png"}}]}', SAID),
     '"image"', "holds an image; this model takes text only", "shape"),
    ("conversation", conversation('{"role": "user", "content": [{"video": {}}]}', SAID),
     '"video"', "holds a video; this model takes text only", "shape"),
    ("conversation", conversation('{"role": "user", "content": [{"toolUse": {}}]}', SAID),
     '"toolUse"', "a block of text holds text alone", "shape"),
    ("conversation", conversation(ASKED, ASKED), '"user", "content": [{"text": "q"}]}]}', "user's again", "shape"),
    ("conversation", messages(USER, ASSISTANT), "{", "looks like messages with plain strings", "shape"),
    *[(each, '"a"', '"a"', "the line must be an object, not a string", "shape") for each in FORMATS],
    *[(each, " ", "", "the line is blank", "jsonl") for each in FORMATS],
]  # fmt: skip


@pytest.mark.parametrize(("format", "line", "record"), GOOD)
def test_good_lines(format: str, line: str, record: Any) -> None:
    assert parse(format, line.encode(), 2) == record
    assert parse(format, json.dumps(json.loads(line), separators=(",", ":")).encode(), 2) == record


@pytest.mark.parametrize(("format", "line", "at", "reason", "kind"), REFUSED)
def test_refused_lines(format: str, line: str, at: str, reason: str, kind: str) -> None:
    fault = parse(format, line.encode(), 7)
    assert isinstance(fault, Fault), fault
    assert reason in fault.reason
    assert (fault.line, fault.kind) == (7, kind)
    if at:
        assert line.startswith(at, fault.column - 1), line[fault.column - 1 :]
    assert not scan(line.encode() + b"\n" + PAD, format).good.any()


def test_members_that_a_conversation_does_not_know_are_named() -> None:
    line = conversation(ASKED.replace("{", '{"id": 7, ', 1), SAID, head=VERSION + ', "tags": ["x"]')
    found = examine("conversation", line.encode(), 1)
    assert found == (Conversation(None, (Turn("user", "q"), Turn("assistant", "a"))), ("tags", "id"))


def test_the_shape_is_shown_in_aws_words() -> None:
    assert form("prompt-completion") == '{"prompt": "<input text>", "completion": "<output text>"}'
    for each in FORMATS:
        assert not isinstance(parse(each, form(each).encode(), 1), Fault)
