"""Records made into token shards, and the order in which training takes them: decided once, before any torch.

The estimate and the run read the same shards, so they cannot disagree. The order is a pure function of seed and epoch:
a resumed run computes it again and restores nothing. Knows tokenizers and datasets; nothing of models, losses or jobs.
"""

import shutil
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.check import read_pairs
from outcrop.datasets.formats import SNIPPET, Fault, Pair
from outcrop.datasets.tokens import Encoder
from outcrop.records import Limits

SHARD_VERSION: Final = 1
"""Counts up when the same text would become other shards."""

BATCH: Final = 512
"""Records that are tokenised together."""


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The token ids of one file's examples, laid end to end and mapped from disk."""

    tokens: NDArray[np.int32]
    scored: NDArray[np.uint8]
    """1 where the token is a label: those of the completion and the end token. Never the first of an example."""
    offsets: NDArray[np.int64]
    """Where each example starts, and one more: where the last one ends."""

    @classmethod
    def open(cls, folder: Path) -> "Shard":
        """Map a shard that write_shard has finished."""
        return cls(
            tokens=np.load(folder / "tokens.npy", mmap_mode="r"),
            scored=np.load(folder / "scored.npy", mmap_mode="r"),
            offsets=np.load(folder / "offsets.npy"),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def example(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Token ids and label marks of one example, both of its length."""
        place = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[place], self.scored[place]

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        return np.diff(self.offsets)

    def scored_tokens(self) -> int:
        """Labels in the whole shard."""
        return int(self.scored.sum(dtype=np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What a run will do: its shards, and which examples each optimizer step takes."""

    train: Shard
    validation: tuple[Shard, ...]
    epochs: int
    batch_size: int
    seed: int

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
        return int(self.train.offsets[-1]) * self.epochs

    @property
    def scored_tokens(self) -> int:
        """Labels of the whole run."""
        return self.train.scored_tokens() * self.epochs

    def examples(self, step: int) -> NDArray[np.int64]:
        """The examples of a step (from 0): a slice of its epoch's order."""
        epoch, place = divmod(step, self.steps_per_epoch)
        start = place * self.batch_size
        return order(self.seed, epoch, len(self.train))[start : start + self.batch_size]


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of range(count): the same for the same seed and epoch, on every machine and numpy version.

    Sorted by raw Philox words, whose stream numpy promises never to change (its permutation() carries no such promise).
    """
    words = np.random.Philox(key=np.array([seed % 2**64, epoch], dtype=np.uint64)).random_raw(count)
    found = np.argsort(words, kind="stable")
    found.setflags(write=False)
    return found


def write_shard(
    source: Path,
    encoder: Encoder,
    folder: Path,
    sink: Callable[[Fault], object],
    *,
    limits: Limits = NO_LIMITS,
    longest: int | None = None,
    pulse: Callable[[], None] = lambda: None,
) -> int:
    """Tokenise what check_pairs accepts of a file into a shard folder; returns how many of those examples do not fit.

    An example is start + prompt + completion + end. Nothing is cut: one longer than `longest` (or the model's context,
    whichever is smaller) goes to `sink` as a fault, and then no shard is left behind. The folder appears whole or not
    at all. `pulse` is called now and then and may raise.
    """
    limit = min((bound for bound in (longest, encoder.context) if bound), default=None)
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    offsets = array("q", [0])
    faults = 0
    with (draft / "tokens").open("wb") as tokens, (draft / "scored").open("wb") as scored:
        records = read_pairs(source, limits)
        while batch := list(islice(records, BATCH)):
            pulse()
            for number, pair, ids, start in _encode(batch, encoder):
                fault = _unfit(number, pair, start, len(ids), limit)
                if fault is not None:
                    faults += 1
                    sink(fault)
                    continue
                tokens.write(np.asarray(ids, dtype=np.int32).tobytes())
                scored.write(bytes(start) + b"\1" * (len(ids) - start))
                offsets.append(offsets[-1] + len(ids))
    if not faults:
        shutil.rmtree(folder, ignore_errors=True)
        _finish(draft, offsets)
        draft.rename(folder)
    shutil.rmtree(draft, ignore_errors=True)
    return faults


def _encode(batch: list[tuple[int, Pair]], encoder: Encoder) -> Iterator[tuple[int, Pair, list[int], int]]:
    """Line, record, ids, and where the labels start."""
    prompts = encoder.prompts([pair.prompt for _, pair in batch])
    completions = encoder.completions([pair.completion for _, pair in batch])
    for (number, pair), prompt, completion in zip(batch, prompts, completions, strict=True):
        # The first token has nothing before it to be predicted from, so it is no label even if the prompt is no token.
        yield number, pair, [*prompt, *completion, encoder.end], max(len(prompt), 1)


def _unfit(number: int, pair: Pair, start: int, length: int, limit: int | None) -> Fault | None:
    """Why an example of this many tokens, the labels from `start` on, cannot be trained on."""
    if limit is not None and length > limit:
        reason = (
            f"{length} tokens (prompt {start} with its start token, completion {length - start} with its end token); "
            f"the weights behind this model take {limit}"
        )
    elif start >= length:
        reason = "the tokenizer makes no token of this record, so nothing of it could be learnt"
    else:
        return None
    return Fault(number, 0, reason, pair.prompt[:SNIPPET], "context")


def _finish(draft: Path, offsets: "array[int]") -> None:
    """Turn the raw streams into .npy files, which carry their own type and size."""
    for name, dtype in (("tokens", np.int32), ("scored", np.uint8)):
        raw = np.memmap(draft / name, dtype=dtype, mode="r") if offsets[-1] else np.empty(0, dtype)
        np.save(draft / f"{name}.npy", raw)
        (draft / name).unlink()
    np.save(draft / "offsets.npy", np.frombuffer(offsets, dtype=np.int64))


def plan_document(plan: Plan) -> dict[str, int]:
    """The plan's sizes, as the plan event and the estimate show them; tokens are those of the whole run."""
    return {
        "examples": len(plan.train),
        "validation_examples": sum(len(shard) for shard in plan.validation),
        "tokens": plan.tokens,
        "scored_tokens": plan.scored_tokens,
        "steps": plan.steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
    }
