"""From a stored job to what its child is told: TrainSpec.

Knows a job's request, the catalogue and the custom models; nothing of processes, credentials or events.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from outcrop.catalog.catalog import Catalog, WeightsChoice, effective_weights
from outcrop.catalog.origin import Origin, origin_of_custom, origin_of_foundation
from outcrop.catalog.rows import FoundationModel
from outcrop.errors import OutcropError
from outcrop.records import CUSTOM_MODEL, Job, Model, TrainSpec, kind_of

Specify = Callable[[Job], tuple[TrainSpec, str | None]]
"""A job's spec, and a warning for its log."""

ALPHA_PER_RANK: Final = 2.0
"""LoRA's alpha where only the rank is given: the updates keep their size when the rank changes."""
UNSTATED_BATCH: Final = 1
"""Examples a step where a row has no batchSize and nobody gave one (Nova): what AWS's own notebook sends for Nova, and
the default of Titan and Llama. It stands among the effective hyperparameters of the lineage."""


class Models(WeightsChoice, Protocol):
    """The part of the store's models that a spec is made of."""

    def by_arn(self, arn: str) -> Model | None:
        """The custom model of this ARN."""
        ...


def specifier(
    catalog: Catalog, models: Models, folder: Path, checkpoint_seconds: float, *, enforce_advice: bool = False
) -> Specify:
    """The function that makes specs of the weights chosen at the moment a job starts; folder: of custom models."""

    def specify(job: Job) -> tuple[TrainSpec, str | None]:
        row = catalog.find(job.base_model_id)
        if row is None:
            raise OutcropError(f"the catalogue has no model {job.base_model_id} any more")
        start = origin(job, row, catalog, models, folder)
        return train_spec(job, catalog, start, checkpoint_seconds, enforce_advice=enforce_advice)

    return specify


def origin(job: Job, row: FoundationModel, catalog: Catalog, models: Models, folder: Path) -> Origin:
    """The weights that a job starts from; raises OutcropError when they are not there."""
    base = job.request["baseModelIdentifier"]
    if kind_of(base) != CUSTOM_MODEL:
        return origin_of_foundation(catalog, effective_weights(row, models))
    parent = models.by_arn(base)
    if parent is None:
        raise OutcropError(f"there is no model {base} to start from")
    return origin_of_custom(catalog, parent, folder)


def train_spec(
    job: Job, catalog: Catalog, start: Origin, checkpoint_seconds: float = 60.0, *, enforce_advice: bool = False
) -> tuple[TrainSpec, str | None]:
    """What the child of this job is told, and the warning about a capped learning rate.

    Raises OutcropError when the catalogue has no such model or no such customization of it.
    """
    row = catalog.find(job.base_model_id)
    kind = job.request.get("customizationType", "FINE_TUNING")
    if row is None or kind not in row.customizations:
        raise OutcropError(f"{job.base_model_id} has no {kind} in the catalogue")
    way, echoed = row.customizations[kind], job.request.get("hyperParameters", {})
    given = catalog.plain_hyperparameters(row, kind, echoed)
    method: Literal["lora", "full"] = "full" if given.get("method") == "full" else "lora"
    asked = float(given.get(way.rate, way.hyperparameters[way.rate].default or "1"))
    rate, warning = catalog.effective_learning_rate(row, method, asked, start.weights, kind)
    effective = _effective(given)
    validation = tuple(one["s3Uri"] for one in job.request.get("validationDataConfig", {}).get("validators", ()))
    if validation:  # then AWS holds nothing out of the training file
        effective["evaluation_share"] = None
    spec = TrainSpec(
        job_arn=job.arn,
        job_id=job.id,
        base_model_id=job.base_model_id,
        base=str(start.base),
        base_name=start.weights,
        training=job.request["trainingDataConfig"]["s3Uri"],
        output=job.request["outputDataConfig"]["s3Uri"],
        validation=validation,
        format=way.format,
        limits=catalog.limits(row, effective["batch_size"], kind, enforce_advice=enforce_advice),
        method=method,
        learning_rate=rate,
        rate_steps=catalog.rates_of(start.weights).learning_rate_steps.get(method),
        checkpoint_seconds=checkpoint_seconds,
        hyperparameters=dict(echoed),
        customization=kind,
        model_name=job.request["customModelName"],
        parent=str(start.adapter) if start.adapter else None,
        parent_arn=start.custom.arn if start.custom else None,
        whole_parent=start.whole,
        **effective,
    )
    return spec, warning


def _effective(given: Mapping[str, str]) -> dict[str, Any]:
    """Members of the spec that hyperparameters decide, but for method and rate; `given` has numbers and no words."""
    rank = int(given.get("loraRank", "16"))
    length, patience, share = (
        given.get(name) for name in ("maxSequenceLength", "earlyStoppingPatience", "evalPercentage")
    )
    return {
        "epochs": int(given.get("epochCount", "1")),
        "batch_size": int(given.get("batchSize", UNSTATED_BATCH)),
        "warmup_steps": int(given.get("learningRateWarmupSteps", "0")),
        "schedule": given.get("learningRateSchedule", "linear"),
        "lora_rank": rank,
        "lora_alpha": float(given.get("loraAlpha", ALPHA_PER_RANK * rank)),
        "seed": int(given.get("seed", "0")),
        "max_sequence_length": int(length) if length is not None else None,
        "export": given.get("export") == "true",
        "early_stopping_patience": int(patience) if patience is not None else None,
        "early_stopping_threshold": float(given.get("earlyStoppingThreshold", "0")),
        "evaluation_share": float(share) / 100 if share is not None else None,
    }
