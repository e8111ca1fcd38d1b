"""One line of a prompt/completion file: what is taken, what is refused, and where the finger points."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.datasets.formats import SNIPPET, Fault, Pair, Record, parse, snippet

REFUSED: list[tuple[bytes, int, str, str]] = [
    (b"", 0, "blank", "jsonl"),
    (b"   ", 0, "blank", "jsonl"),
    (b'{"prompt":"a","completion":"c"', 31, "middle of a record", "jsonl"),
    (b'{"prompt":"a" "completion":"c"}', 15, "expected ',' or '}'", "jsonl"),
    (b'{"prompt":"a","completion":"c"} x', 33, "trailing", "jsonl"),
    (b'{"prompt":"a","completion":NaN}', 28, "invalid character", "jsonl"),
    (b'{"prompt":"a\tb","completion":"c"}', 13, "U+0009", "jsonl"),
    ('{"prompt":"日本", "completion":x}'.encode(), 30, "invalid character", "jsonl"),
    (b'{"prompt":"a","completion":"\xff"}', 29, "0xff is not UTF-8", "jsonl"),
    (b'{"prompt":"a","completion":"\xed\xa0\x80"}', 29, "0xed is not UTF-8", "jsonl"),
    (rb'{"prompt":"a","completion":"\ud800"}', 29, r"\ud800 is half", "jsonl"),
    (rb'{"prompt":"a","completion":"\\\udc00x"}', 31, r"\udc00 is half", "jsonl"),
    (rb'{"prompt":"a","completion":"\ud800\ud800"}', 29, r"\ud800 is half", "jsonl"),
    (b'{"prompt":"a","prompt":"b","completion":"c"}', 15, "prompt stands twice", "shape"),
    (rb'{"prompt":"a","pr\u006fmpt":"b","completion":"c"}', 15, "prompt stands twice", "shape"),
    (b'{"prompt":"a"}', 1, "completion is missing", "shape"),
    (b'{"prompt":"a","completion":"c","x":1}', 32, "unknown member x", "shape"),
    (b'{"Prompt":"a","completion":"c"}', 2, "unknown member Prompt", "shape"),
    (b'{"prompt":1,"completion":"c"}', 11, "prompt must be a string, not a number", "shape"),
    (b'{"prompt":"x","completion": null}', 29, "completion must be a string, not null", "shape"),
    (b'{"prompt":"","completion":"x"}', 11, "prompt is empty", "shape"),
    (b'{"completion":"","prompt":"x"}', 15, "completion is empty", "shape"),
    (b'["a"]', 1, "must be an object, not an array", "shape"),
]


def parse_pair(line: bytes, number: int) -> Record | Fault:
    return parse("prompt-completion", line, number)


@pytest.mark.parametrize(("line", "column", "reason", "kind"), REFUSED)
def test_a_broken_line_is_refused_with_its_place(line: bytes, column: int, reason: str, kind: str) -> None:
    fault = parse_pair(line, 7)
    assert isinstance(fault, Fault)
    assert (fault.line, fault.column, fault.kind) == (7, column, kind)
    assert reason in fault.reason


def test_what_is_tolerated() -> None:
    line = b'{"prompt": "a", "completion": "c"}'
    assert parse_pair(b"\xef\xbb\xbf" + line + b"\r", 1) == Pair("a", "c")
    assert parse_pair(b'{"completion":"c","prompt":"a"}', 2) == Pair("a", "c")
    assert parse_pair(rb'{"prompt":"\ud83d\ude00 \\ud800","completion":"\u0000"}', 2) == Pair("😀 \\ud800", "\0")


def test_a_byte_order_mark_is_tolerated_on_the_first_line_only() -> None:
    fault = parse_pair(b'\xef\xbb\xbf{"prompt":"a","completion":"c"}', 2)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.column) == ("jsonl", 1)


def test_utf16_is_called_by_its_name() -> None:
    fault = parse_pair('{"prompt":"a","completion":"c"}'.encode("utf-16"), 1)
    assert isinstance(fault, Fault)
    assert "UTF-16" in fault.reason


def test_a_snippet_shows_the_place_and_no_more() -> None:
    text = "a" * 500 + "!" + "b" * 500
    shown = snippet(text, 501)
    assert "!" in shown
    assert len(shown) <= SNIPPET + 2
    assert snippet("short", 3) == "short"


def _strictly(line: bytes) -> Pair | None:
    """The same rules, by the standard library: the slow oracle."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("twice")
        return dict(pairs)

    def refuse(constant: str) -> float:
        raise ValueError(constant)

    try:
        found = json.loads(line.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
        if not isinstance(found, dict) or found.keys() != {"prompt", "completion"}:
            return None
        prompt, completion = found["prompt"], found["completion"]
        if not (isinstance(prompt, str) and isinstance(completion, str) and prompt and completion):
            return None
        (prompt + completion).encode("utf-8")
    except (ValueError, RecursionError):
        return None
    return Pair(prompt, completion)


MARKS = [
    b"{",
    b"}",
    b'"',
    b":",
    b",",
    b" ",
    b"[",
    b"]",
    b"\\",
    b'\\"',
    b"1",
    b"null",
    b"a",
    b"\t",
    b"\xff",
    "é".encode(),
]
WORDS = [b'"prompt"', b'"completion"', b'"x"', rb"\ud83d", rb"\ude00", rb"\u0041", b'{"prompt":"a","completion":"b"}']
PIECES = st.sampled_from(MARKS + WORDS)


@given(st.lists(PIECES, max_size=14).map(b"".join))
def test_any_line_is_judged_as_the_standard_library_judges_it(line: bytes) -> None:
    found = parse_pair(line, 2)
    expected = _strictly(line)
    assert found == expected if expected is not None else isinstance(found, Fault)
    if isinstance(found, Fault):
        assert 0 <= found.column <= len(line) + 1
        json.dumps(found.reason).encode("utf-8")


@given(st.text(min_size=1), st.text(min_size=1), st.booleans())
def test_every_text_survives(prompt: str, completion: str, ascii_only: bool) -> None:
    line = json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=ascii_only).encode("utf-8")
    assert parse_pair(line, 1) == Pair(prompt, completion)
