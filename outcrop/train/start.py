"""From a spec to a run's pieces: the plan opened, the base loaded, the course set. torch is imported inside.

Knows the spec's members and what the loop and the text wing ask for; nothing of events or storage.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outcrop import sizes
from outcrop.datasets.plan import Plan, evaluations
from outcrop.records import TrainSpec, rate_over
from outcrop.train import repeatable
from outcrop.train.disk import require_room

if TYPE_CHECKING:
    from outcrop.train.gauge import Gauge, Machine
    from outcrop.train.loop import Course
    from outcrop.train.text import TextLearner


def open_plan(spec: TrainSpec, folder: Path) -> Plan:
    """The plan of shards that were made before."""
    return Plan.open(
        folder,
        validators=len(spec.validation),
        epochs=spec.epochs,
        batch_size=spec.batch_size,
        seed=spec.seed,
        evaluation_share=spec.evaluation_share,
    )


def load(spec: TrainSpec, plan: Plan) -> "TextLearner":
    """The base, ready to learn, on the GPU where there is one; threads as OMP_NUM_THREADS says, else one a core."""
    import torch
    from transformers.utils import logging

    from outcrop.train.text import load_learner

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0))))
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        repeatable.prepare()
    learner = load_learner(
        Path(spec.base),
        plan,
        method=spec.method,
        rank=spec.lora_rank,
        alpha=spec.lora_alpha,
        seed=spec.seed,
        device="cuda" if on_gpu else "cpu",
        parent=Path(spec.parent) if spec.parent is not None else None,
        whole_parent=spec.whole_parent,
    )
    if on_gpu:
        repeatable.insist()
    return learner


def course(spec: TrainSpec, plan: Plan) -> "Course":
    """The loop's numbers."""
    from outcrop.train.loop import Course

    return Course(
        steps=plan.steps,
        steps_per_epoch=plan.steps_per_epoch,
        learning_rate=rate_over(spec.learning_rate, spec.rate_steps, plan.steps),
        warmup_steps=spec.warmup_steps,
        schedule=spec.schedule,
        weight_decay=spec.weight_decay,
        clip=spec.clip,
        checkpoint_seconds=spec.checkpoint_seconds,
        patience=spec.early_stopping_patience,
        threshold=spec.early_stopping_threshold,
    )


def gauge(spec: TrainSpec, plan: Plan, learner: "TextLearner", past: Sequence[Mapping[str, Any]]) -> "Gauge":
    """What adds to the loop's events; past: the events of earlier lives."""
    from outcrop.train.gauge import Gauge
    from outcrop.train.signs import Terms

    terms = Terms(
        steps=plan.steps,
        steps_per_epoch=plan.steps_per_epoch,
        warmup_steps=spec.warmup_steps,
        clip=spec.clip,
        rate="learningRateMultiplier" if "learningRateMultiplier" in spec.hyperparameters else "learningRate",
        stops_early=spec.early_stopping_patience is not None,
    )
    each = evaluations(spec.early_stopping_patience, spec.epochs, plan.steps_per_epoch) if plan.validation else 0
    return Gauge(plan, terms, each * spec.epochs, past, _machine(learner))


def _machine(learner: "TextLearner") -> "Machine | None":
    """What utilisation is reckoned from; None where the model's work cannot be counted."""
    from outcrop.train import flops
    from outcrop.train.gauge import Machine

    full = learner.adapter is None
    added = 0 if learner.adapter is None else learner.adapter.size()
    work = flops.count(learner.model, added, full=full)
    if work is None:
        return None
    return Machine(work, flops.rate(learner.device, learner.dtype))


def require_disk(directory: Path, trainable: int, result: int, *, early_stopping: bool = False) -> None:
    """Raise OutcropError unless checkpoints and a result of so many bytes will fit: better now than after hours."""
    needed = sizes.checkpoints(trainable, early_stopping=early_stopping) + result
    require_room(directory, needed, "the checkpoints and the finished weights")


def work_key(directory: Path) -> str:
    """What a checkpoint must belong to: this spec and these datasets."""
    content = (directory / "spec.json").read_bytes() + (directory / "plan" / "datasets.json").read_bytes()
    return hashlib.sha256(content).hexdigest()
