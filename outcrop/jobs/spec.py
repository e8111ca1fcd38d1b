"""From a stored job to what its child is told: TrainSpec, and spec.json in the job directory.

Knows a job's request and the catalogue; nothing of processes, credentials or events.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from outcrop.catalog.catalog import Catalog, WeightsChoice, effective_weights
from outcrop.directory import replace_file
from outcrop.errors import OutcropError
from outcrop.records import Job, TrainSpec

Specify = Callable[[Job], tuple[TrainSpec, str | None]]
"""A job's spec, and a warning for its log."""

ALPHA_PER_RANK: Final = 2.0
"""LoRA's alpha where only the rank is given: the updates keep their size when the rank changes."""


def specifier(catalog: Catalog, choices: WeightsChoice, checkpoint_seconds: float) -> Specify:
    """The function that makes specs of the weights chosen at the moment a job starts."""

    def specify(job: Job) -> tuple[TrainSpec, str | None]:
        row = catalog.find(job.base_model_id)
        if row is None:
            raise OutcropError(f"the catalogue has no model {job.base_model_id} any more")
        return train_spec(job, catalog, effective_weights(row, choices), checkpoint_seconds)

    return specify


def train_spec(
    job: Job, catalog: Catalog, weights: str, checkpoint_seconds: float = 60.0
) -> tuple[TrainSpec, str | None]:
    """What the child of this job is told, and the warning about a capped learning rate.

    weights: the name of the base weights. Raises OutcropError when there are no such weights or no such model.
    """
    row = catalog.find(job.base_model_id)
    kind = job.request.get("customizationType", "FINE_TUNING")
    if row is None or kind not in row.customizations:
        raise OutcropError(f"{job.base_model_id} has no {kind} in the catalogue")
    if ":custom-model/" in job.request["baseModelIdentifier"]:
        raise OutcropError(f"{job.request['baseModelIdentifier']}: a custom model cannot be customized again yet")
    given: Mapping[str, str] = job.request.get("hyperParameters", {})
    way = row.customizations[kind]
    method: Literal["lora", "full"] = "full" if given.get("method") == "full" else "lora"
    batch_size = int(given.get("batchSize", "1"))
    rate, warning = catalog.effective_learning_rate(row, method, float(given[way.rate]), weights, kind)
    rank = int(given.get("loraRank", "16"))
    length = given.get("maxSequenceLength")
    spec = TrainSpec(
        job_arn=job.arn,
        job_id=job.id,
        base_model_id=job.base_model_id,
        base=str(catalog.weights_folder(weights)),
        base_name=weights,
        training=job.request["trainingDataConfig"]["s3Uri"],
        output=job.request["outputDataConfig"]["s3Uri"],
        validation=tuple(one["s3Uri"] for one in job.request.get("validationDataConfig", {}).get("validators", ())),
        format=way.format,
        limits=catalog.limits(row, batch_size),
        method=method,
        epochs=int(given["epochCount"]),
        batch_size=batch_size,
        learning_rate=rate,
        warmup_steps=int(given.get("learningRateWarmupSteps", "0")),
        schedule=given.get("learningRateSchedule", "linear"),
        lora_rank=rank,
        lora_alpha=float(given.get("loraAlpha", ALPHA_PER_RANK * rank)),
        seed=int(given.get("seed", "0")),
        max_sequence_length=int(length) if length is not None else None,
        export=given.get("export") == "true",
        checkpoint_seconds=checkpoint_seconds,
        hyperparameters=dict(given),
    )
    return spec, warning


def save(spec: TrainSpec, path: Path) -> None:
    """Write spec.json whole or not at all."""
    replace_file(path, msgspec.json.encode(spec).decode() + "\n", mode=0o600)


def load(path: Path) -> TrainSpec:
    """Read spec.json; raises OutcropError when it is missing or broken."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainSpec)
    except (OSError, msgspec.MsgspecError) as fault:
        raise OutcropError(f"cannot read the job's {path}: {fault}") from fault
