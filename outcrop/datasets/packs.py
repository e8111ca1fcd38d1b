"""Which segments of a step go through a model together, and the largest such pack of a plan: what decides its memory.

Asked by training for every step, and before any model is loaded by whoever foretells what a job will hold. Knows shards
and plans; nothing of models or bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.plan import Plan, order
from outcrop.datasets.shards import Shard

TOKEN_BUDGET: Final = {"cpu": 4096, "cuda": 16384}
"""Tokens that go through the model at once; a longer segment goes alone. Bounds memory, changes no loss."""

LOOKED: Final = 32
"""Steps with the most tokens, and as many with the longest examples, among which the largest pack is looked for."""

Stretch = tuple[int, int]
"""Where a segment starts and ends in a shard's tokens."""


@dataclass(frozen=True, slots=True)
class Pack:
    """The sizes of segments that go through the model together."""

    lengths: tuple[int, ...]
    """Tokens of each."""
    labels: int
    """Among all of them."""

    @property
    def tokens(self) -> int:
        """Of all segments."""
        return sum(self.lengths)


def packs(shard: Shard, examples: Iterable[int], budget: int) -> Iterator[list[Stretch]]:
    """The examples' segments, shortest first, in packs of at most so many tokens; a longer segment is one alone."""
    stretches = [stretch for index in examples for stretch in shard.stretches(int(index))]
    pending: list[Stretch] = []
    tokens = 0
    for start, end in sorted(stretches, key=lambda stretch: stretch[1] - stretch[0]):
        if pending and tokens + end - start > budget:
            yield pending
            pending, tokens = [], 0
        pending.append((start, end))
        tokens += end - start
    if pending:
        yield pending


def largest(plan: Plan, budget: int, size: Callable[[Pack], int]) -> tuple[Pack, int]:
    """The pack of the plan's steps whose `size` is largest, and the first step that has it."""
    found: dict[Pack, int] = {}
    for step in _heavy(plan, budget):
        for stretches in packs(plan.train, plan.examples(step).tolist(), budget):
            labels = sum(int(plan.train.scored[start:end].sum()) for start, end in stretches)
            found.setdefault(Pack(tuple(end - start for start, end in stretches), labels), step)
    pack = max(found, key=size)
    return pack, found[pack]


def shapes(plan: Plan) -> int:
    """How many lengths of segments and of whole steps an epoch has: each asks for products of a shape of its own."""
    train = plan.train
    segments = np.diff(np.append(train.starts, train.offsets[-1]))
    totals, _ = _steps(plan, 0)
    return len(np.unique(segments)) + len(np.unique(totals))


def _steps(plan: Plan, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens of each step of an epoch, and of the longest example in it."""
    lengths = plan.train.lengths()
    ordered = lengths[order(plan.seed, epoch, len(lengths))]
    starts = np.arange(0, len(lengths), plan.batch_size)
    return np.add.reduceat(ordered, starts), np.maximum.reduceat(ordered, starts)


def _heavy(plan: Plan, budget: int) -> list[int]:
    """Steps one of which has the largest pack: no pack holds more than its step does, or than the budget allows."""
    steps = [_steps(plan, epoch) for epoch in range(plan.epochs)]
    totals, longest = (np.concatenate([step[place] for step in steps]) for place in (0, 1))
    most: NDArray[np.int64] = np.minimum(totals, np.maximum(budget, longest))
    ranked = np.concatenate((np.lexsort((longest, most))[-LOOKED:], np.argsort(longest, kind="stable")[-LOOKED:]))
    return sorted(set(ranked.tolist()))
