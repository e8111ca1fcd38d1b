"""Rows of logits to tokens."""

import math
from collections import Counter

import pytest
import torch

from outcrop.engines.sampling import BLOCK, Sampler, choose_all

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def drawn(sampler: Sampler, logits: torch.Tensor = LOGITS, count: int = 2000) -> Counter[int | None]:
    return Counter(choose_all([sampler] * count, logits.expand(count, -1)))


def one_by_one(sampler: Sampler, rows: torch.Tensor) -> list[int | None]:
    return [choose_all([sampler], row[None])[0] for row in rows]


def test_greedy_takes_the_likeliest_and_no_random_number() -> None:
    sampler, untouched = Sampler(0.0, 0.1, 0, 4), Sampler(0.0, 0.1, 0, 4)
    assert drawn(sampler) == {0: 2000}
    assert sampler.roll() == untouched.roll()


def test_temperature_one_draws_in_proportion() -> None:
    counts = drawn(Sampler(1.0, 1.0, 0, seed=3), count=20_000)
    assert [counts[token] / 20_000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)


def test_low_temperature_sharpens() -> None:
    counts = drawn(Sampler(0.5, 1.0, 0, seed=3), count=20_000)
    squares = [0.25, 0.09, 0.0225, 0.0025]
    expected = [square / sum(squares) for square in squares]
    assert [counts[token] / 20_000 for token in range(4)] == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.0, {0}), (0.4, {0}), (0.49, {0}), (0.51, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_shortest_head(top_p: float, kept: set[int]) -> None:
    assert set(drawn(Sampler(1.0, top_p, 0, seed=5))) == kept


def test_of_equal_tokens_no_more_are_kept_than_hold_top_p() -> None:
    assert set(drawn(Sampler(1.0, 0.3, 0, seed=5), torch.zeros(8))) == {0, 1, 2}


def test_top_k_keeps_so_many_and_top_p_acts_within_them() -> None:
    assert set(drawn(Sampler(1.0, 1.0, 2, seed=5))) == {0, 1}
    # Of 0.5 and 0.3 the first alone is 0.625 of what is left.
    assert set(drawn(Sampler(1.0, 0.6, 2, seed=5))) == {0}
    assert set(drawn(Sampler(1.0, 1.0, 500, seed=5))) == {0, 1, 2, 3}


def test_kept_tokens_keep_their_proportions() -> None:
    counts = drawn(Sampler(1.0, 0.7, 0, seed=9), count=20_000)
    assert counts[0] / 20_000 == pytest.approx(0.5 / 0.8, abs=0.015)


@pytest.mark.parametrize("spread", [0.01, 1.0, 3.0])
def test_a_large_vocabulary_is_cut_and_drawn_as_a_full_sort_does_it(spread: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(8 * BLOCK + 3) * spread
    probabilities, order = logits.softmax(-1).sort(descending=True)
    kept = order[(probabilities.cumsum(-1) - probabilities) < 0.9]
    counts = drawn(Sampler(1.0, 0.9, 0, seed=1), logits, 20_000)
    assert set(counts) <= set(kept.tolist())
    # In proportion all through: a tenth of the kept ones after the other, by how likely they are.
    for some in kept.chunk(10):
        share = float(logits.softmax(-1)[some].sum() / logits.softmax(-1)[kept].sum())
        assert sum(counts[int(token)] for token in some) / 20_000 == pytest.approx(share, abs=0.015)


def test_same_seed_same_tokens_other_seed_others() -> None:
    torch.manual_seed(0)
    rows = torch.randn(50, 100)
    first, again, other = (one_by_one(Sampler(1.0, 0.9, 0, seed), rows) for seed in (11, 11, 12))
    assert first == again
    assert first != other


def test_every_seed_of_64_bits_is_one_of_its_own() -> None:
    seeds = (0, 5, -5, 1, -1, 2**63 - 1, -(2**63))
    rolls = [Sampler(1.0, 1.0, 0, seed).roll() for seed in seeds]
    assert len(set(rolls)) == len(seeds)
    assert rolls == [Sampler(1.0, 1.0, 0, seed).roll() for seed in seeds]


def test_a_row_draws_the_same_whoever_else_is_in_the_step() -> None:
    """All kinds side by side, in changing company: each gets what it gets alone."""
    kinds = [(0.0, 1.0, 0), (1.0, 1.0, 0), (0.7, 0.9, 0), (1.3, 0.2, 0), (1.0, 1.0, 5), (0.9, 0.8, 40), (1.0, 0.5, 7)]
    torch.manual_seed(0)
    steps = torch.randn(30, len(kinds), 700)
    alone = [one_by_one(Sampler(*kind, seed=11), steps[:, row]) for row, kind in enumerate(kinds)]
    company = [Sampler(*kind, seed=11) for kind in kinds]
    found: list[list[int | None]] = [[] for _ in kinds]
    for number, step in enumerate(steps):
        # Another order in each step.
        order = [(number + place) % len(kinds) for place in range(len(kinds))]
        for row, token in zip(order, choose_all([company[row] for row in order], step[order]), strict=True):
            found[row].append(token)
    assert found == alone


@pytest.mark.parametrize("temperature", [1e-30, 1e-38, 1e-40, 1e-60])
@pytest.mark.parametrize(("top_p", "top_k"), [(1.0, 0), (0.9, 0), (1.0, 3), (0.5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_temperature_next_to_nothing_is_greedy(
    temperature: float, top_p: float, top_k: int, dtype: torch.dtype
) -> None:
    rows = torch.tensor([[1.0, 30.0, -5.0, 0.0, -math.inf], [1e30, 1e38, -1e38, 0.0, 1.0]], dtype=dtype)
    assert choose_all([Sampler(temperature, top_p, top_k, 1) for _ in rows], rows) == [1, 1]


def test_the_highest_temperature_draws_all_alike() -> None:
    assert set(drawn(Sampler(1e300, 1.0, 0, 1), torch.tensor([-9.0, 0.0, 9.0]), 200)) == {0, 1, 2}


def test_without_a_seed_requests_differ() -> None:
    rows = torch.zeros(30, 100)
    assert len({tuple(one_by_one(Sampler(1, 1, 0, None), rows)) for _ in "ab"}) == 2


@pytest.mark.parametrize("sampler", [Sampler(0.0, 1.0, 0, 1), Sampler(1.0, 0.9, 0, 1), Sampler(1.0, 1.0, 3, 1)])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_end_their_own_row(sampler: Sampler, bad: float) -> None:
    broken = torch.zeros(5)
    broken[2] = bad
    shut = torch.full((5,), float("-inf"))
    only = torch.tensor([float("-inf"), 0.0, float("-inf"), float("-inf"), float("-inf")])
    assert choose_all([sampler] * 4, torch.stack([broken, shut, only, shut])) == [None, None, 1, None]
