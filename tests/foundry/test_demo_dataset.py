"""The demo's data: right sizes, the same for a seed, no name and no number in two splits, one reply to every prompt."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples import make_dataset

SCRIPT = Path(make_dataset.__file__)
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def splits() -> dict[str, list[dict[str, str]]]:
    return make_dataset.make()


def names(pairs: list[dict[str, str]]) -> set[str]:
    """Every known family name that a completion addresses."""
    known = {*make_dataset._JAPANESE_NAMES.split(), *make_dataset._ENGLISH_NAMES.split()}
    found = set()
    for pair in pairs:
        begin = re.match(r" (?:(.+?)様、|(?:[A-Z][a-z ]+, |[A-Z][a-z]+ )([A-Z][a-z]+)[.,])", pair["completion"])
        assert begin, pair
        name = begin[1] or begin[2]
        assert name in known
        assert name in pair["prompt"]
        found.add(name)
    return found


def numbers(pairs: list[dict[str, str]]) -> set[str]:
    found = [re.findall(r"\d{5}", pair["prompt"]) for pair in pairs]
    assert all(len(each) == 1 for each in found)
    return {each[0] for each in found}


def test_sizes(splits: dict[str, list[dict[str, str]]]) -> None:
    assert {split: len(pairs) for split, pairs in splits.items()} == {"train": 1600, "validation": 200, "test": 200}
    assert all(set(pair) == {"prompt", "completion"} for pairs in splits.values() for pair in pairs)


@pytest.mark.parametrize(("one", "other"), [("train", "validation"), ("train", "test"), ("validation", "test")])
def test_no_name_and_no_number_is_in_two_splits(splits: dict[str, list[dict[str, str]]], one: str, other: str) -> None:
    assert not names(splits[one]) & names(splits[other])
    assert not numbers(splits[one]) & numbers(splits[other])


def test_every_number_of_a_reply_is_the_prompt_s(splits: dict[str, list[dict[str, str]]]) -> None:
    for pair in (pair for pairs in splits.values() for pair in pairs):
        copied = set(re.findall(r"\d+", pair["completion"]))
        assert copied == set(re.findall(r"\d{5}", pair["prompt"]))


def test_a_prompt_has_one_reply_and_a_reply_says_which_prompt(splits: dict[str, list[dict[str, str]]]) -> None:
    everything = [(pair["prompt"], pair["completion"]) for pairs in splits.values() for pair in pairs]
    assert len({prompt for prompt, _ in everything}) == len(everything)
    assert len({completion for _, completion in everything}) == len(everything)


def test_no_phrasing_belongs_to_two_reasons() -> None:
    for japanese in (True, False):
        reasons = make_dataset.intents(japanese)
        assert len(reasons) >= 12
        phrasings = [phrasing for reason in reasons for phrasing in reason.phrasings]
        assert len(set(phrasings)) == len(phrasings)
        assert all(phrasing.count("{number}") == 1 for phrasing in phrasings)
        assert all(len(reason.phrasings) >= 4 for reason in reasons)


def test_the_script_writes_what_make_returns_and_again_the_same(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        command = [sys.executable, "-I", str(SCRIPT), str(tmp_path / folder), "--train", "40", "--validation", "9"]
        subprocess.run(command, check=True, capture_output=True)
    made = make_dataset.make(train=40, validation=9)
    for split in SPLITS:
        written = (tmp_path / "one" / f"{split}.jsonl").read_bytes()
        assert written == (tmp_path / "two" / f"{split}.jsonl").read_bytes()
        assert [json.loads(line) for line in written.decode().splitlines()] == made[split]


def test_another_seed_makes_other_pairs() -> None:
    assert make_dataset.make(10, 2, 2, seed=8) != make_dataset.make(10, 2, 2, seed=7)
