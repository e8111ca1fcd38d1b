"""Where a result comes from: data, base, tokenizer, template, hyperparameters asked and effective, seed, code, machine.

Written beside the weights as lineage.json and among the job's outputs, so that it goes wherever they are copied. The
stories of all ancestors down to the foundation weights stand in it, so it stays whole when they are deleted.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from outcrop import weights
from outcrop.datasets.plan import Plan, plan_document
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec, rate_over
from outcrop.train.intake import Dataset
from outcrop.train.loop import Progress
from outcrop.train.revision import code
from outcrop.train.text import TextLearner

LINEAGE_FILE: Final = "lineage.json"
WEIGHTS: Final = "*.safetensors"

EFFECTIVE: Final = (
    "method", "format", "epochs", "batch_size", "learning_rate", "warmup_steps", "schedule", "lora_rank", "lora_alpha",
    "weight_decay", "clip", "seed", "max_sequence_length", "early_stopping_patience", "early_stopping_threshold",
    "evaluation_share",
)  # fmt: skip
"""Members of the spec that decided the run."""


def ancestors(spec: TrainSpec) -> list[dict[str, Any]]:
    """The stories of all models that the job's parent comes from and its own, oldest first; none without a parent.

    Raises OutcropError for a parent without a story: better before the training than after.
    """
    if spec.parent_arn is None:
        return []
    path = Path(spec.parent or spec.base) / LINEAGE_FILE
    try:
        story: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutcropError(f"{path}, the lineage of {spec.parent_arn}, cannot be read: {error}") from error
    own = {name: value for name, value in story.items() if name != "ancestors"}
    return [*story.get("ancestors", []), {"model_arn": spec.parent_arn, **own}]


def lineage(
    spec: TrainSpec,
    plan: Plan,
    datasets: Sequence[Dataset],
    learner: TextLearner,
    progress: Progress,
    *,
    folder: Path,
) -> dict[str, Any]:
    """The story of a finished run whose weights lie in `folder`, as JSON's types.

    The same for the same job however often it was interrupted.
    """
    return {
        "job_arn": spec.job_arn,
        "model_name": spec.model_name,
        "base_model_id": spec.base_model_id,
        "customization": spec.customization,
        "base": _base(spec, learner),
        "parent": _parent(spec),
        "datasets": [asdict(dataset) for dataset in datasets],
        "hyperparameters": _hyperparameters(spec, plan),
        "plan": plan_document(plan),
        "result": {
            "weights": "adapter" if (folder / "adapter_config.json").exists() else "model",
            "sha256": weights.fingerprint(folder, WEIGHTS),
            "examples": plan.examples_until(progress.step),
            **{name: value for name, value in progress.outcome().items() if name != "seconds"},
        },
        "machine": _machine(learner),
        "versions": {
            "outcrop": code(),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "python": platform.python_version(),
        },
        "ancestors": ancestors(spec),
    }


def write(story: dict[str, Any], folder: Path) -> None:
    """Leave a story in its weights' folder."""
    text = json.dumps(story, ensure_ascii=False, indent=2) + "\n"
    (folder / LINEAGE_FILE).write_text(text, encoding="utf-8")


def _base(spec: TrainSpec, learner: TextLearner) -> dict[str, Any]:
    """The whole weights that were loaded, and how they read text."""
    folder = Path(spec.base)
    encoder = Encoder.read(folder)
    return {
        # Of a chain upon a whole custom model that model is what was loaded; its own story names the foundation's.
        "name": str(spec.parent_arn) if spec.whole_parent else spec.base_name,
        "sha256": weights.fingerprint(folder, WEIGHTS),
        "tokenizer_sha256": encoder.fingerprint,
        "template_sha256": encoder.chat.fingerprint,
        "own_template": encoder.chat.own,
        "parameters": weights.count_parameters(learner.model),
    }


def _parent(spec: TrainSpec) -> dict[str, Any] | None:
    """The custom model that the job started from; its hash is `result.sha256` of the parent's own story."""
    if spec.parent_arn is None:
        return None
    folder = Path(spec.parent or spec.base)
    return {"arn": spec.parent_arn, "sha256": weights.fingerprint(folder, WEIGHTS)}


def _hyperparameters(spec: TrainSpec, plan: Plan) -> dict[str, Any]:
    stated = asdict(spec) | {"learning_rate": rate_over(spec.learning_rate, spec.rate_steps, plan.steps)}
    return {"asked": dict(spec.hyperparameters), "effective": {name: stated[name] for name in EFFECTIVE}}


def _machine(learner: TextLearner) -> dict[str, Any]:
    cuda = learner.device.type == "cuda"
    return {
        "device": str(learner.device),
        "device_name": torch.cuda.get_device_name(learner.device) if cuda else _processor(),
        "dtype": str(learner.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
    }


def _processor() -> str | None:
    """What the system calls its processor; None where it does not say."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or None  # ARM tells numbers, and no name
