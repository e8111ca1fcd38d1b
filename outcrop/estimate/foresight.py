"""What a run will do, from its own shards: steps, tokens in the model's own tokens, the longest example, and misfits.

The shards are made by the very functions that the job calls, so plan and run cannot disagree; of a big file a sample is
tokenised and the rest is reckoned from it, which the answer says. Knows datasets; nothing of time, memory or money.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from outcrop.datasets.chat import TEMPLATED
from outcrop.datasets.faults import Fault
from outcrop.datasets.lengths import Lengths, lengths_of
from outcrop.datasets.plan import Plan, evaluations
from outcrop.datasets.report import Report, failure_message
from outcrop.datasets.shards import write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.estimate.sample import Sample, thinned
from outcrop.estimate.survey import Input, Survey
from outcrop.records import TrainSpec

KEPT_FAULTS: Final = 20
"""Examples that do not fit, told by their place."""


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
    lengths: Lengths
    """Tokens of a record of the training file, or of a sample of it: an example, or, where they are packed, a whole
    document, however many sequences it lies in. What is held out counts too."""
    longest: int
    """Tokens of the longest example or sequence."""
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
    failure: str
    """What a job would say."""


def foresee(
    spec: TrainSpec, checked: Survey, folder: Path, budget: int, pulse: Callable[[float], None] = lambda _: None
) -> tuple[Foresight, Plan] | Unfit:
    """Make the shards of a dataset that passed its check under folder/plan, and read the sizes off them.

    budget: bytes of each file that are tokenised at most; `pulse` gets the share of them that is done, from 0 to 1.
    Raises OutcropError for weights without a tokenizer or with a chat template that cannot be trained on.
    """
    encoder = Encoder.read(Path(spec.base))
    if spec.format in TEMPLATED:
        encoder.chat.check(encoder)
    shards = ["train", *(f"validation-{index}" for index in range(len(checked.inputs) - 1))]
    samples = [
        thinned(given.path, report.records, budget, folder / f"{shard}.sample")
        for shard, given, report in zip(shards, checked.inputs, checked.reports, strict=True)
    ]
    total, done = sum(sample.lines for sample in samples), 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        pulse(done / total)

    misfits: list[tuple[Input, Report, Sample, int, list[Fault]]] = []
    for shard, given, report, sample in zip(shards, checked.inputs, checked.reports, samples, strict=True):
        faults: list[Fault] = []
        count = write_shard(
            sample.path,
            spec.format,
            encoder,
            folder / "plan" / shard,
            faults.append,
            limits=spec.limits,
            longest=spec.max_sequence_length,
            pulse=moved,
        )
        if count:
            misfits.append((given, report, sample, count, faults[:KEPT_FAULTS]))
    if misfits:
        return _unfit(spec, misfits)
    plan = Plan.open(
        folder / "plan",
        validators=len(samples) - 1,
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        seed=spec.seed,
        evaluation_share=spec.evaluation_share,
    )
    shares = [report.records / sample.lines for report, sample in zip(checked.reports, samples, strict=True)]
    return _sizes(plan, shares, samples, packed=spec.format == "text", patience=spec.early_stopping_patience), plan


def _unfit(spec: TrainSpec, misfits: Sequence[tuple[Input, Report, Sample, int, list[Fault]]]) -> Unfit:
    total = sum(count * report.records / sample.lines for _, report, sample, count, _ in misfits)
    faults = [(given.name, fault) for given, _, sample, _, found in misfits if sample.whole for fault in found]
    given, report, sample, count, found = misfits[0]
    if sample.whole:
        said = failure_message(replace(report, faults=tuple(found), fault_count=count), given.uri, spec.limits)
    else:
        said = (
            f"about {round(total):,} examples cannot be trained on with the weights {spec.base_name}; one of "
            f"{given.name}: {found[0].reason}"
        )
    exact = all(sample.whole for _, _, sample, _, _ in misfits)
    return Unfit(round(total), not exact, tuple(faults[:KEPT_FAULTS]), said)


def _sizes(
    plan: Plan, shares: Sequence[float], samples: Sequence[Sample], *, packed: bool, patience: int | None
) -> Foresight:
    """The plan's sizes, those of samples multiplied to their files'."""
    share = shares[0]
    lengths = lengths_of(plan.train.sizes)
    assert lengths is not None, "a shard is never empty"
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
        lengths=lengths,
        longest=int(plan.train.lengths().max()),
        packed=packed,
        estimated=not all(sample.whole for sample in samples),
        sampled_examples=len(plan.train),
    )
