"""Small datasets and specs over the bundled base, as the job loop would write them."""

import json
import os
from pathlib import Path
from typing import Any

from outcrop.catalog.catalog import BASES
from outcrop.catalog.rows import Prices
from outcrop.estimate.estimate import Terms
from outcrop.estimate.survey import Input, Survey, survey
from outcrop.records import TrainSpec

BASE = BASES / "text"
WORDS = ("the", "order", "parcel", "is", "late", "was", "lost", "where", "thank", "you", "please", "of", "course")


def write_pairs(path: Path, count: int, *, words: int = 3) -> Path:
    """A prompt/completion file of examples of different lengths."""
    with path.open("w") as file:
        for index in range(count):
            prompt = " ".join(WORDS[(index + place) % len(WORDS)] for place in range(words + index % 5))
            file.write(json.dumps({"prompt": f"{index}: {prompt}?", "completion": f" {WORDS[index % 7]}."}) + "\n")
    return path


def write_documents(path: Path, count: int) -> Path:
    """A continued pre-training file."""
    with path.open("w") as file:
        for index in range(count):
            text = " ".join(WORDS[(index * 3 + place) % len(WORDS)] for place in range(30 + 7 * index % 50))
            file.write(json.dumps({"input": f"{index} {text}"}) + "\n")
    return path


def spec_of(training: Path, *validation: Path, **changes: Any) -> TrainSpec:
    """What the child of a job over these files would be told."""
    members: dict[str, Any] = {
        "job_arn": "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/a.b/0123456789ab",
        "job_id": "0123456789ab",
        "base_model_id": "amazon.titan-text-express-v1:0:8k",
        "base": str(BASE),
        "base_name": "bundled:text",
        "training": str(training),
        "validation": tuple(map(str, validation)),
        "output": "s3://nowhere/",
        "epochs": 2,
        "lora_rank": 2,
    }
    return TrainSpec(**members | changes)


def checked(spec: TrainSpec) -> Survey:
    """The spec's files, checked."""
    files = [Input(spec.training, Path(spec.training), "train")]
    files += [Input(uri, Path(uri), "validation") for uri in spec.validation]
    return survey(files, spec.format, spec.limits)


def terms(folder: Path, **changes: Any) -> Terms:
    """Terms of an estimate in a folder; its child has one thread, as others test beside us."""
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    members: dict[str, Any] = {
        "scratch": scratch,
        "place": folder,
        "environment": {**os.environ, "OMP_NUM_THREADS": "1"},
        "prices": Prices(training_per_1k_tokens=0.008),
    }
    return Terms(**members | changes)
