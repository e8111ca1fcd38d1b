"""Prompts that are far too long are not tokenised whole: they are counted and refused, or cut first."""

from pathlib import Path

import pytest

from outcrop.datasets.reading import PIECE, PromptTooLong, Reader
from outcrop.datasets.tokens import Encoder
from outcrop.records import Prompt, Turn
from tests.engines.tiny import CONTEXT, write_llama


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    return Encoder.read(write_llama(tmp_path / "llama"))


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Characters of every text that is tokenised."""
    seen: list[int] = []

    def watched(name: str) -> None:
        encode = getattr(Encoder, name)

        def noted(self: Encoder, texts: list[str]) -> list[list[int]]:
            seen.extend(map(len, texts))
            return encode(self, texts)

        monkeypatch.setattr(Encoder, name, noted)

    watched("prompts")
    watched("completions")
    return seen


def test_a_prompt_of_millions_of_characters_is_counted_in_pieces(encoder: Encoder, pieces: list[int]) -> None:
    length = 3 * PIECE + 5
    with pytest.raises(PromptTooLong) as refused:
        Reader(encoder, CONTEXT).fit(Prompt("~" * length))
    assert (refused.value.tokens, refused.value.limit) == (len(encoder.start) + length, CONTEXT - 1)
    assert str(refused.value).endswith(f"request input token count: about {len(encoder.start) + length}")
    assert pieces == [PIECE, PIECE, PIECE, 5]


def test_a_shorter_one_is_counted_exactly(encoder: Encoder) -> None:
    reader = Reader(encoder, CONTEXT)
    for prompt in (
        Prompt("the order is late " * (PIECE // 18)),
        Prompt("", turns=(Turn("user", "late " * (PIECE // 5 - 1)),), system="Be"),
    ):
        with pytest.raises(PromptTooLong) as refused:
            reader.fit(prompt)
        assert (refused.value.tokens, refused.value.about) == (len(reader.whole(prompt)), False)
        assert "about" not in str(refused.value)


def test_so_is_a_conversation(encoder: Encoder, pieces: list[int]) -> None:
    turns = (Turn("user", "~" * PIECE), Turn("assistant", "a"), Turn("user", "~" * 7))
    with pytest.raises(PromptTooLong):
        Reader(encoder, CONTEXT).fit(Prompt("", turns=turns))
    assert pieces == [PIECE, 1, 7]
    pieces.clear()
    with pytest.raises(PromptTooLong):
        Reader(encoder, CONTEXT).fit(Prompt("", turns=(Turn("user", "a"),), system="~" * PIECE))
    assert pieces == [1, PIECE]


def test_what_is_only_counted_is_not_tokenised_whole_either(encoder: Encoder, pieces: list[int]) -> None:
    reader = Reader(encoder, CONTEXT)
    assert reader.bounded(Prompt("~" * 50)) == reader.whole(Prompt("~" * 50))
    assert len(reader.bounded(Prompt("~" * (CONTEXT + 5)))) > CONTEXT
    pieces.clear()
    for truncate in ("END", None):
        with pytest.raises(PromptTooLong):
            reader.bounded(Prompt("~" * (PIECE + 1), truncate=truncate))  # type: ignore[arg-type]
    assert max(pieces) == PIECE


@pytest.mark.parametrize("side", ["START", "END"])
def test_what_is_cut_is_what_would_be_left_of_the_whole(encoder: Encoder, pieces: list[int], side: str) -> None:
    text = "".join(chr(33 + number % 90) for number in range(PIECE))
    prompt = Prompt(text, max_tokens=3, truncate=side)  # type: ignore[arg-type]
    reader = Reader(encoder, CONTEXT)
    found = reader.fit(prompt)
    assert max(pieces) < len(text)
    whole = reader.whole(prompt)
    start, room = len(encoder.start), CONTEXT - 3
    assert found == (whole[:room] if side == "END" else [*whole[:start], *whole[len(whole) - room + start :]])
