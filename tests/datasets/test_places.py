"""A reserved word is pointed at where it stands, however it is spelled there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.datasets.check import check_file
from outcrop.datasets.faults import Fault
from outcrop.datasets.places import column
from outcrop.records import Limits

WORD = "Hé\n😀:"
SPELLINGS = {
    "H": ["H", r"\u0048"],
    "é": ["é", r"\u00e9", r"\u00E9"],
    "\n": [r"\n", r"\u000a"],
    "😀": ["😀", r"\ud83d\ude00", r"\uD83D\uDE00"],
    ":": [":", r"\u003a"],
    "\\": [r"\\", r"\u005c"],
    '"': [r"\"", r"\u0022"],
    "u": ["u", r"\u0075"],
    "/": ["/", r"\/"],
}


@st.composite
def spelled(draw: st.DrawFn) -> tuple[str, str]:
    """A text with the word in it, and how a line spells the text."""
    around = st.text("".join(SPELLINGS), max_size=12)
    text = draw(around) + WORD + draw(around)
    return text, "".join(draw(st.sampled_from(SPELLINGS[character])) for character in text)


@given(spelled())
def test_the_column_is_that_of_the_words_first_character(found: tuple[str, str]) -> None:
    text, written = found
    line = f'{{"{WORD[0]}": 1, "prompt" : "{written}"}}'
    start = line.index(written, 12)
    at = column(line, WORD, [text])
    assert json.loads(f'"{line[start : at - 1]}"') == text[: text.index(WORD)]


def test_a_word_in_two_blocks_begins_in_the_first() -> None:
    line = r'{"messages": [{"content": [{"text": "a\tHu"}, {"text": "man: b"}]}]}'
    at = column(line, "Human:", ["a\tHuman: b"])
    assert line[at - 1 :].startswith('Hu"}')
    assert column(line, "Robot:", ["a\tHuman: b"]) == 0


@pytest.mark.parametrize("head", ["", "\ufeff"])
def test_a_fault_has_that_column(tmp_path: Path, head: str) -> None:
    line = r'{"prompt": "\u00e9 \u0048uman:", "completion": "b"}'
    path = tmp_path / "f.jsonl"
    path.write_text(f"{head}{line}\n{line}\n", encoding="utf-8")
    told: list[Fault] = []
    check_file(path, "prompt-completion", Limits(reserved=("Human:",)), "train", told.append)
    assert [(fault.line, fault.column, fault.kind) for fault in told] == [(1, 20, "reserved"), (2, 20, "reserved")]
    assert all(fault.snippet[fault.mark - 1 :].startswith(r"\u0048uman:") for fault in told)


class Counted(list[str]):
    """Texts that know how often somebody went through them."""

    rounds = 0

    def __iter__(self) -> Iterator[str]:
        self.rounds += 1
        return super().__iter__()


def test_a_line_of_many_texts_goes_through_them_once() -> None:
    texts = Counted(f"text {number}" for number in range(2000))
    texts[-1] += " Human:"
    line = json.dumps({"messages": [{"role": "user", "content": text} for text in texts]})
    texts.rounds = 0
    assert line[column(line, "Human:", texts) - 1 :].startswith("Human:")
    assert texts.rounds == 1
