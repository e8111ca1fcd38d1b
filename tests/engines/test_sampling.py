"""One row of logits to one token."""

from collections import Counter

import pytest
import torch

from outcrop.engines.sampling import FIRST_LOOK, NoFiniteLogits, Sampler

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def drawn(sampler: Sampler, logits: torch.Tensor = LOGITS, count: int = 2000) -> Counter[int]:
    return Counter(sampler.choose(logits) for _ in range(count))


def test_greedy_takes_the_likeliest_and_no_random_number() -> None:
    assert drawn(Sampler(0.0, 0.1, 0, None)) == {0: 2000}


def test_temperature_one_draws_in_proportion() -> None:
    counts = drawn(Sampler(1.0, 1.0, 0, seed=3), count=20_000)
    assert [counts[token] / 20_000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.015)


def test_low_temperature_sharpens() -> None:
    counts = drawn(Sampler(0.5, 1.0, 0, seed=3), count=20_000)
    squares = [0.25, 0.09, 0.0225, 0.0025]
    expected = [square / sum(squares) for square in squares]
    assert [counts[token] / 20_000 for token in range(4)] == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.4, {0}), (0.49, {0}), (0.51, {0, 1}), (0.9, {0, 1, 2}), (1.0, {0, 1, 2, 3})]
)
def test_top_p_keeps_the_shortest_head(top_p: float, kept: set[int]) -> None:
    assert set(drawn(Sampler(1.0, top_p, 0, seed=5))) == kept


def test_top_k_keeps_so_many_and_top_p_acts_within_them() -> None:
    assert set(drawn(Sampler(1.0, 1.0, 2, seed=5))) == {0, 1}
    # Of 0.5 and 0.3 the first alone is 0.625 of what is left.
    assert set(drawn(Sampler(1.0, 0.6, 2, seed=5))) == {0}


def test_kept_tokens_keep_their_proportions() -> None:
    counts = drawn(Sampler(1.0, 0.7, 0, seed=9), count=20_000)
    assert counts[0] / 20_000 == pytest.approx(0.5 / 0.8, abs=0.015)


@pytest.mark.parametrize("spread", [0.01, 3.0])
def test_large_vocabulary_is_cut_as_a_full_sort_cuts_it(spread: float) -> None:
    """A flat distribution needs more than the first look; a peaked one does not. Both keep the same set."""
    torch.manual_seed(0)
    logits = torch.randn(4 * FIRST_LOOK) * spread
    probabilities, order = logits.softmax(-1).sort(descending=True)
    kept = set(order[(probabilities.cumsum(-1) - probabilities) < 0.9].tolist())
    assert (len(kept) > FIRST_LOOK) == (spread < 1)
    seen = set(drawn(Sampler(1.0, 0.9, 0, seed=1), logits, 6000))
    assert seen <= kept
    assert len(seen) > len(kept) / 2


def test_same_seed_same_tokens_other_seed_others() -> None:
    torch.manual_seed(0)
    rows = torch.randn(50, 100)
    first, again, other = (
        [sampler.choose(row) for row in rows]
        for sampler in (Sampler(1.0, 0.9, 0, 11), Sampler(1.0, 0.9, 0, 11), Sampler(1.0, 0.9, 0, 12))
    )
    assert first == again
    assert first != other


def test_without_a_seed_requests_differ() -> None:
    rows = torch.zeros(30, 100)
    assert [Sampler(1.0, 1.0, 0, None).choose(row) for row in rows] != [0] * 30
    assert len({tuple(sampler.choose(row) for row in rows) for sampler in (Sampler(1, 1, 0, None) for _ in "ab")}) == 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused(temperature: float) -> None:
    with pytest.raises(NoFiniteLogits):
        Sampler(temperature, 1.0, 0, 1).choose(torch.full((5,), float("nan")))
