"""Where a result comes from: data, base, tokenizer, hyperparameters asked and effective, seed and versions.

Written beside the weights as lineage.json, so that they carry their own story wherever they are copied.
"""

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
from outcrop.records import TrainSpec
from outcrop.train.intake import Dataset
from outcrop.train.loop import Progress
from outcrop.train.text import TextLearner

EFFECTIVE: Final = (
    "method", "epochs", "batch_size", "learning_rate", "warmup_steps", "schedule", "lora_rank", "lora_alpha",
    "weight_decay", "clip", "seed", "max_sequence_length",
)  # fmt: skip
"""Members of the spec that decided the run."""


def lineage(
    spec: TrainSpec, plan: Plan, datasets: Sequence[Dataset], learner: TextLearner, progress: Progress
) -> dict[str, Any]:
    """The story of a finished run, as JSON's types; the same for the same job however often it was interrupted."""
    base = Path(spec.base)
    stated = asdict(spec)
    return {
        "job_arn": spec.job_arn,
        "base_model_id": spec.base_model_id,
        "base": {
            "name": spec.base_name,
            "sha256": weights.fingerprint(base),
            "tokenizer_sha256": Encoder.read(base).fingerprint,
            "parameters": learner.total_parameters(),
        },
        "datasets": [asdict(dataset) for dataset in datasets],
        "hyperparameters": {
            "asked": dict(spec.hyperparameters),
            "effective": {name: stated[name] for name in EFFECTIVE},
        },
        "plan": plan_document(plan),
        "result": {
            "training_loss": progress.training_loss,
            "validation_losses": progress.validation_losses,
            "tokens": progress.tokens,
            "scored_tokens": progress.scored,
        },
        "machine": {
            "device": str(learner.device),
            "dtype": str(learner.dtype).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "cpus": len(os.sched_getaffinity(0)),
        },
        "versions": {
            "outcrop": version("outcrop"),
            "torch": torch.__version__,
            "transformers": version("transformers"),
            "python": platform.python_version(),
        },
    }
