"""What goes through a model together: within the budget, whole, and the largest of a plan is the largest there is."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from outcrop.datasets.packs import Pack, largest, packs, shapes
from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard
from outcrop.train.calibrate import choose

BUDGET = 64


def plan_of(lengths: Sequence[int], batch_size: int, *, segment: int = 1000) -> Plan:
    """Three epochs over examples of so many tokens, each in segments of at most so many; every third is a label."""
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    starts = [place for start, end in pairwise(offsets.tolist()) for place in range(start, end, segment)]
    scored = (np.arange(offsets[-1]) % 3 == 1).astype(np.uint8)
    shard = Shard(np.zeros(offsets[-1], np.int32), scored, offsets, np.array(starts), np.array(lengths))
    return Plan(shard, (), 3, batch_size, seed=3)


def every_pack(plan: Plan) -> list[Pack]:
    found = []
    for step in range(plan.steps):
        for stretches in packs(plan.train, plan.examples(step).tolist(), BUDGET):
            labels = sum(int(plan.train.scored[start:end].sum()) for start, end in stretches)
            found.append(Pack(tuple(end - start for start, end in stretches), labels))
    return found


def tokens_of(pack: Pack) -> int:
    return pack.tokens


def squares_of(pack: Pack) -> int:
    return sum(length**2 for length in pack.lengths)


def lengths_of(count: int, most: int, seed: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(seed).integers(2, most, count)]


@pytest.mark.parametrize("most", [8, 30, 100])
@pytest.mark.parametrize("segment", [7, 1000])
def test_a_step_s_packs_are_all_of_it_within_the_budget(most: int, segment: int) -> None:
    plan = plan_of(lengths_of(50, most, 1), 8, segment=segment)
    for step in range(plan.steps):
        examples = plan.examples(step).tolist()
        found = list(packs(plan.train, examples, BUDGET))
        stretches = [stretch for index in examples for stretch in plan.train.stretches(index)]
        assert sorted(stretch for one in found for stretch in one) == sorted(stretches)
        for one in found:
            assert len(one) == 1 or sum(end - start for start, end in one) <= BUDGET


@pytest.mark.parametrize("most", [8, 30, 100])
def test_the_largest_pack_is_the_largest_of_all_steps(most: int) -> None:
    plan = plan_of(lengths_of(400, most, 2), 8)
    for size in (tokens_of, squares_of):
        pack, step = largest(plan, BUDGET, size)
        assert size(pack) == max(size(one) for one in every_pack(plan))
        ways = packs(plan.train, plan.examples(step).tolist(), BUDGET)
        assert pack.lengths in [tuple(end - start for start, end in way) for way in ways]


def test_the_step_of_the_largest_pack_need_not_be_the_one_of_the_most_tokens() -> None:
    plan = plan_of([50, *[6] * 12, *[40] * 8], 2)
    pack, step = largest(plan, BUDGET, squares_of)
    tokens = [int(plan.train.lengths()[plan.examples(one)].sum()) for one in range(plan.steps)]
    assert (pack.lengths, tokens[step]) == ((6, 50), 56)
    assert max(tokens) >= 80
    assert choose(plan, step)[0] == step, "a calibration begins with it"


def test_shapes_are_the_lengths_that_come() -> None:
    assert shapes(plan_of([5] * 12, 4)) == 2, "of one example, and of one step"
    assert shapes(plan_of([5] * 13, 4)) == 3, "the last step is a short one"
    assert shapes(plan_of([9] * 4, 4, segment=7)) == 3, "segments of 7 and 2"
