"""What a run will do, from its own shards: steps, tokens in the model's own tokens, the longest example, and misfits.

The shards are made by the very functions that the job calls, so plan and run cannot disagree; of a big file a sample is
tokenised and the rest is reckoned from it, which the answer says. Knows datasets; nothing of time, memory or money.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from outcrop.datasets.formats import Fault
from outcrop.datasets.plan import Plan, evaluations
from outcrop.datasets.shards import write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.estimate.sample import Sample, thinned
from outcrop.records import TrainSpec

KEPT_FAULTS: Final = 20
"""Examples that do not fit, told by their place."""


@dataclass(frozen=True, slots=True)
class Source:
    """A checked file of the dataset: where it lies, and how many records it holds."""

    path: Path
    records: int


@dataclass(frozen=True, slots=True)
class Foresight:
    """The sizes of a run; tokens are the model's own, and those of all epochs."""

    examples: int
    validation_examples: int
    held_out: int
    """Examples of the training file that are kept for evaluation: evalPercentage without a validation file."""
    splits: int
    """Documents that go on in the next sequence."""
    epochs: int
    batch_size: int
    steps_per_epoch: int
    steps: int
    tokens: int
    scored_tokens: int
    """Labels among the tokens: what the loss falls on."""
    validation_tokens: int
    """Of one evaluation."""
    evaluations: int
    """In the whole run, if early stopping does not end it before."""
    longest: int
    """Tokens of the longest example."""
    median: int
    packed: bool
    """Whether examples are full sequences of packed documents: continued pre-training."""
    estimated: bool
    """Whether tokens were counted in a sample; examples and steps of fine-tuning are exact all the same."""
    sampled_examples: int
    """Training examples that were tokenised."""

    def document(self) -> dict[str, Any]:
        """As JSON's types; the names are those of the job's own plan event."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Unfit:
    """Examples that the weights cannot take: the job would fail on them, so there is no plan."""

    count: int
    """In the files as a whole where `estimated`, else exactly."""
    estimated: bool
    faults: tuple[tuple[str, Fault], ...]
    """The first of them, each with the name of its file; none of a sampled file, whose numbers are its own."""


def foresee(
    spec: TrainSpec,
    sources: Sequence[tuple[str, Source]],
    folder: Path,
    budget: int,
    pulse: Callable[[], None] = lambda: None,
) -> tuple[Foresight, Plan] | Unfit:
    """Make the shards under folder/plan and read the sizes off them.

    sources: name and file, the training file first. budget: bytes of each file that are tokenised at most. Raises
    OutcropError for weights without a tokenizer or with a chat template that cannot be trained on.
    """
    encoder = Encoder.read(Path(spec.base))
    faults: list[tuple[str, Fault]] = []
    samples, too_long = [], 0.0
    for index, (name, source) in enumerate(sources):
        shard = "train" if index == 0 else f"validation-{index - 1}"
        sample = thinned(source.path, source.records, budget, folder / f"{shard}.sample")

        def note(fault: Fault, name: str = name, known: bool = sample.whole) -> None:
            if known and len(faults) < KEPT_FAULTS:
                faults.append((name, fault))

        count = write_shard(
            sample.path,
            spec.format,
            encoder,
            folder / "plan" / shard,
            note,
            limits=spec.limits,
            longest=spec.max_sequence_length,
            pulse=pulse,
        )
        samples.append(sample)
        too_long += count * source.records / sample.lines
    if too_long:
        return Unfit(round(too_long), not all(sample.whole for sample in samples), tuple(faults))
    plan = Plan.open(
        folder / "plan",
        validators=len(sources) - 1,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        seed=spec.seed,
        evaluation_share=spec.evaluation_share,
    )
    shares = [source.records / sample.lines for (_, source), sample in zip(sources, samples, strict=True)]
    return _sizes(plan, shares, samples, packed=spec.format == "text", patience=spec.early_stopping_patience), plan


def _sizes(
    plan: Plan, shares: Sequence[float], samples: Sequence[Sample], *, packed: bool, patience: int | None
) -> Foresight:
    """The plan's sizes, those of samples multiplied to their files'."""
    share = shares[0]
    lengths = plan.train.lengths()
    examples = round(len(plan.train) * share)
    steps = -(-examples // plan.batch_size)
    # What is held out of the training file is as much of a sample as the rest of it.
    each_share = [share] if plan.held_out else shares[1:]
    validation = [
        (round(len(shard) * each), round(shard.total() * each))
        for shard, each in zip(plan.validation, each_share, strict=True)
    ]
    return Foresight(
        examples=examples,
        validation_examples=sum(count for count, _ in validation),
        held_out=round(plan.held_out * share),
        splits=round(plan.train.splits * share),
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        steps_per_epoch=steps,
        steps=steps * plan.epochs,
        tokens=round(plan.tokens * share),
        scored_tokens=round(plan.scored_tokens * share),
        validation_tokens=sum(tokens for _, tokens in validation),
        evaluations=evaluations(patience, plan.epochs, steps) * plan.epochs if plan.validation else 0,
        longest=int(lengths.max()),
        median=int(np.median(lengths)),
        packed=packed,
        estimated=not all(sample.whole for sample in samples),
        sampled_examples=len(plan.train),
    )
