"""The makers of the base's data: the same seed makes the same pairs in every process, and no slot stays unfilled."""

import os
import re
import subprocess
import sys
from itertools import islice
from random import Random

import pytest

from foundry import copying
from foundry.cast import data_digest
from foundry.mix import SHARES, pairs
from foundry.pairs import Maker

MAKERS = tuple(maker for maker, _ in SHARES)


def test_another_process_with_another_hash_seed_makes_the_same() -> None:
    code = "from foundry.cast import data_digest; print(data_digest(5, 400))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == data_digest(5, 400)


def test_another_seed_makes_other_pairs() -> None:
    assert data_digest(5, 400) != data_digest(6, 400)


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_every_pair_is_filled_in(maker: Maker) -> None:
    rng = Random(1)
    for pair in (maker(rng) for _ in range(300)):
        assert pair.completion.strip()
        # `template` and `styled` show their slots in the prompt on purpose.
        shown = pair.completion if maker in (copying.template, copying.styled) else pair.prompt + pair.completion
        assert not re.search(r"\{[a-z]+\}", shown)


def test_what_is_looked_up_stands_in_the_prompt() -> None:
    rng = Random(2)
    for pair in (copying.echo(rng) for _ in range(200)):
        assert pair.completion.strip(" ") in pair.prompt
    for pair in (copying.recurrence(rng) for _ in range(200)):
        assert pair.completion.strip(" ") in pair.prompt


def test_both_languages_and_both_ways_to_begin_a_completion_come_up() -> None:
    drawn = list(islice(pairs(4), 2000))
    japanese = sum(bool(re.search("[ぁ-ん]", pair.prompt + pair.completion)) for pair in drawn)
    spaced = sum(pair.completion.startswith(" ") for pair in drawn)
    assert 0.3 < japanese / len(drawn) < 0.8
    assert 0.5 < spaced / len(drawn) < 0.95
