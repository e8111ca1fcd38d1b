"""Tokens to text as they come."""

from collections.abc import Sequence

import pytest

from outcrop.engines.detokenize import LONGEST_WAIT, TextStream


def decode(tokens: Sequence[int]) -> str:
    """The simplest tokenizer with byte fallback: a token a byte."""
    return bytes(tokens).decode("utf-8", "replace")


def pieces(text: str | bytes, stop: Sequence[str] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(decode, stop)
    found = []
    for byte in text.encode() if isinstance(text, str) else text:
        found.append(stream.push(byte))
        if stream.stopped_by:
            break
    found.append(stream.finish())
    return found, stream


TEXT = "注文 n° 42 は、配送中です 🚚 — naïve"


def test_no_character_is_split() -> None:
    found, _ = pieces(TEXT)
    assert "".join(found) == TEXT
    assert all("\ufffd" not in piece for piece in found)
    assert [piece for piece in found if piece] == list(TEXT)


def test_a_character_that_never_became_whole_is_left_out() -> None:
    found, _ = pieces(TEXT.encode()[: len("注文".encode()) - 1])
    assert "".join(found) == "注"


def test_bytes_that_are_no_character_do_not_hold_the_stream_up() -> None:
    found, _ = pieces(b"ab" + b"\xff" * (3 * LONGEST_WAIT) + b"cd")
    assert "".join(found[:-1]).startswith("ab\ufffd")
    assert "".join(found).endswith("cd")


@pytest.mark.parametrize("stop", ["User:", "です", "42 は", "🚚"])
def test_stop_string_ends_the_text_before_itself(stop: str) -> None:
    text = TEXT + " User: hello"
    found, stream = pieces(text, ["never", stop])
    assert "".join(found) == text[: text.index(stop)]
    assert stream.stopped_by == stop


def test_what_may_become_a_stop_string_is_held_back_and_shown_when_it_does_not() -> None:
    found, stream = pieces("a User b", ["User:"])
    assert found == ["a", " ", "", "", "", "", "User ", "b", ""]
    assert stream.stopped_by is None


def test_held_back_text_is_shown_at_the_end() -> None:
    found, _ = pieces("Use", ["User:"])
    assert found == ["", "", "", "Use"]


def test_the_stop_string_that_begins_first_wins() -> None:
    found, stream = pieces("xxabcd", ["bcd", "abcd"])
    assert ("".join(found), stream.stopped_by) == ("xx", "abcd")


def test_a_token_of_many_characters_may_hold_a_whole_stop_string() -> None:
    stream = TextStream(lambda tokens: "".join(["hello STOP world", "!"][token] for token in tokens), ["STOP"])
    assert stream.push(0) == "hello "
    assert stream.stopped_by == "STOP"
    assert stream.finish() == ""


@pytest.mark.parametrize(
    ("lead", "text", "shown"),
    [
        (" ", " hello", "hello"),
        (" ", "  hello", " hello"),
        (" ", "hello", "hello"),
        ("\n\n", "\n\nhello", "hello"),
        ("\n\n", "\nhello", "\nhello"),
        ("\n\n", "\n", "\n"),
        (" ", "", ""),
        ("", " hello", " hello"),
    ],
)
def test_a_lead_is_left_out_and_nothing_else(lead: str, text: str, shown: str) -> None:
    stream = TextStream(decode, lead=lead)
    assert "".join([*(stream.push(byte) for byte in text.encode()), stream.finish()]) == shown


def test_a_stop_string_may_stand_right_behind_the_lead() -> None:
    stream = TextStream(decode, ["ENDE"], lead="\n\n")
    assert "".join([stream.push(byte) for byte in b"\n\nENDE"]) == ""
    assert stream.stopped_by == "ENDE"
