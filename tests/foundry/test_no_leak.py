"""No reply of the demo, and no telling fragment of one, is in what the base learns from: the demo shows learning."""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from examples import make_dataset
from foundry.cast import Plan
from foundry.mix import pairs

WORDS, CHARACTERS = 4, 12
SAMPLE = 30_000
ROOM = Path(__file__).parents[2] / "foundry"


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z']+", text.lower())


def fragments(japanese: bool) -> Iterator[str]:
    """All runs of 12 characters or of 4 words of the replies' own wording, slots excluded."""
    for intent in make_dataset.intents(japanese):
        for part in re.split(r"\{\w+\}", intent.reply):
            if japanese:
                yield from (part[at : at + CHARACTERS] for at in range(len(part) - CHARACTERS + 1))
            else:
                found = words(part)
                yield from (" ".join(found[at : at + WORDS]) for at in range(len(found) - WORDS + 1))


@pytest.fixture(scope="module")
def japanese_fragments() -> set[str]:
    return set(fragments(japanese=True))


@pytest.fixture(scope="module")
def english_fragments() -> set[str]:
    return set(fragments(japanese=False))


def leaks(text: str, japanese: set[str], english: set[str]) -> set[str]:
    found = words(text)
    runs = {" ".join(found[at : at + WORDS]) for at in range(len(found) - WORDS + 1)}
    return (english & runs) | (japanese & {text[at : at + CHARACTERS] for at in range(len(text) - CHARACTERS + 1)})


def test_there_is_something_to_leak(japanese_fragments: set[str], english_fragments: set[str]) -> None:
    assert len(japanese_fragments) > 150
    assert len(english_fragments) > 100
    reply = make_dataset.make(train=50)["train"]
    assert sum(bool(leaks(pair["completion"], japanese_fragments, english_fragments)) for pair in reply) >= 45


def test_no_fragment_of_a_reply_is_drawn(japanese_fragments: set[str], english_fragments: set[str]) -> None:
    for pair in islice(pairs(Plan().seed), SAMPLE):
        assert not leaks(pair.prompt + "\n" + pair.completion, japanese_fragments, english_fragments)


def test_no_fragment_of_a_reply_is_written_in_the_foundry(
    japanese_fragments: set[str], english_fragments: set[str]
) -> None:
    # Templates are looked at as they stand, so a rare one that no sample drew is found too.
    for path in ROOM.glob("*.py"):
        assert not leaks(path.read_text("utf-8"), japanese_fragments, english_fragments), path.name


def test_no_completion_of_the_demo_is_drawn() -> None:
    completions = {pair["completion"].strip() for split in make_dataset.make().values() for pair in split}
    assert len(completions) == 2000
    drawn = {pair.completion.strip() for pair in islice(pairs(Plan().seed), SAMPLE)}
    assert not completions & drawn
