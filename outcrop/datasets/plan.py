"""What a run will do, decided before any torch: its shards, what is held out of them, and the order of examples.

The order is a pure function of seed and epoch: a resumed run computes it again and restores nothing. Knows shards;
nothing of tokenizers, models, losses or jobs.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.shards import Shard
from outcrop.errors import OutcropError

HOLD_OUT: Final = 2**64 - 1
"""The epoch, which no run reaches, whose order says what is held out."""

MOST_EVALUATIONS: Final = 5
"""In one epoch: each one costs a forward pass over all validation data."""

SPARE_EVALUATIONS: Final = 3
"""Evaluations of a run beyond its patience: so many times may the loss still fall before the patience begins."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a run will do: its shards, and which examples each optimizer step takes."""

    train: Shard
    validation: tuple[Shard, ...]
    epochs: int
    batch_size: int
    seed: int
    held_out: int = 0
    """Examples of the training file that are the only validation set instead of being trained on."""

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        validators: int,
        epochs: int,
        batch_size: int,
        seed: int,
        evaluation_share: float | None = None,
    ) -> "Plan":
        """The plan of the shards in a folder: train, and validation-0 and on, one for each validator.

        `evaluation_share` of the training examples are held out where there is no validator; see hold_out.
        """
        train = Shard.open(folder / "train")
        validation = tuple(Shard.open(folder / f"validation-{index}") for index in range(validators))
        held_out = 0
        if evaluation_share and not validation:
            train, held = hold_out(train, evaluation_share, seed)
            validation, held_out = (held,), len(held)
        return cls(train, validation, epochs, batch_size, seed, held_out)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch; the last one may hold fewer examples."""
        return -(-len(self.train) // self.batch_size)

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.steps_per_epoch * self.epochs

    @property
    def tokens(self) -> int:
        """Tokens that the whole run trains on: every epoch counts."""
        return self.train.total() * self.epochs

    @property
    def scored_tokens(self) -> int:
        """Labels of the whole run."""
        return self.train.scored_tokens() * self.epochs

    def examples(self, step: int) -> NDArray[np.int64]:
        """The examples of a step (from 0): a slice of its epoch's order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.batch_size
        return order(self.seed, epoch, len(self.train))[start : start + self.batch_size]

    def examples_until(self, step: int) -> int:
        """How many examples the steps before this one (from 0) take together; an example counts in every epoch."""
        epochs, place = divmod(step, self.steps_per_epoch)
        return epochs * len(self.train) + min(place * self.batch_size, len(self.train))


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of range(count): the same for the same seed and epoch, on every machine and numpy version.

    Sorted by raw Philox words, whose stream numpy promises never to change (its permutation() carries no such promise).
    """
    words = np.random.Philox(key=np.array([seed % 2**64, epoch], dtype=np.uint64)).random_raw(count)
    found = np.argsort(words, kind="stable")
    found.setflags(write=False)
    return found


def hold_out(shard: Shard, share: float, seed: int) -> tuple[Shard, Shard]:
    """What is trained on and what is held out of a shard: `share` of its examples (0..1), one at least on either side.

    A pure function of the seed and the number of examples. Raises OutcropError for a shard of a single example.
    """
    if len(shard) < 2:
        raise OutcropError(
            "the training file makes a single example, so no share of it can be held out for evaluation; "
            "give more data, a validation file or no evalPercentage"
        )
    count = min(max(round(len(shard) * share), 1), len(shard) - 1)
    drawn = order(seed, HOLD_OUT, len(shard))
    return shard.part(drawn[count:]), shard.part(drawn[:count])


def evaluations(patience: int | None, epochs: int, steps_per_epoch: int) -> int:
    """Evaluations of an epoch: one at its end; with early stopping as many as a short run needs for its patience."""
    if patience is None:
        return 1
    return min(MOST_EVALUATIONS, steps_per_epoch, -(-(patience + SPARE_EVALUATIONS) // epochs))


def plan_document(plan: Plan) -> dict[str, int]:
    """The plan's sizes, as the plan event and the estimate show them; tokens are those of the whole run."""
    return {
        "records": plan.train.records,
        "examples": len(plan.train),
        "validation_examples": sum(len(shard) for shard in plan.validation),
        "held_out": plan.held_out,
        "splits": plan.train.splits,
        "tokens": plan.tokens,
        "scored_tokens": plan.scored_tokens,
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
    }
