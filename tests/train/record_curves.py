"""Records the curves beside test_signs.py: python -m tests.train.record_curves [NAME …]. Real runs of the bundled base.

What a run is meant to show is in its numbers alone: too many epochs over too few examples, a rate of nearly zero, one
that is far too large, examples unlike all others in the middle of a run. demo.json is a job's own, through the server.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import outcrop
from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.loop import Course, train
from outcrop.train.text import load_learner

BASE = Path(outcrop.__file__).parent / "bases" / "text"
CURVES = Path(__file__).parent / "curves"
STEP = ("step", "loss", "gradient_norm", "scored_tokens", "tokens", "seconds")
EVAL = ("step", "validator", "loss", "tokens", "seconds")


@dataclass(frozen=True)
class Scene:
    """What is trained, and how."""

    examples: int
    epochs: int
    batch: int
    rate: float
    validation: int = 0
    strange: int = 0
    """Examples of noise that are put among the others."""
    seed: int = 0
    """Decides, among other things, when the strange ones come."""


SCENES = {
    "healthy": Scene(examples=240, epochs=2, batch=8, rate=0.005, validation=24),
    "overfitting": Scene(examples=12, epochs=24, batch=4, rate=0.006, validation=24),
    "idle": Scene(examples=64, epochs=5, batch=4, rate=1e-9, validation=8),
    "exploding": Scene(examples=80, epochs=4, batch=4, rate=0.4),
    "strange": Scene(examples=480, epochs=1, batch=8, rate=0.005, strange=2, seed=32),
}


def pairs(folder: Path, scene: Scene) -> Iterator[tuple[str, list[str]]]:
    """The files of a scene, from the project's own dataset."""
    script = Path(__file__).parents[2] / "examples" / "make_dataset.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, stdout=subprocess.DEVNULL)
    train = (folder / "train.jsonl").read_text("utf-8").splitlines()[: scene.examples]
    draw = random.Random(0)
    texts = ["".join(chr(draw.randrange(0x21, 0x2FF)) for _ in range(300)) for _ in range(scene.strange)]
    noise = [json.dumps({"prompt": "qq zz", "completion": f" {text}"}) for text in texts]
    yield "train", [*train, *noise]
    if scene.validation:
        yield "validation-0", (folder / "validation.jsonl").read_text("utf-8").splitlines()[: scene.validation]


def record(scene: Scene, folder: Path) -> dict[str, Any]:
    """Run a scene through the very loop of a job."""
    encoder = Encoder.read(BASE)
    for name, lines in pairs(folder, scene):
        source = folder / f"{name}.scene.jsonl"
        source.write_text("\n".join(lines) + "\n", "utf-8")
        write_shard(source, "prompt-completion", encoder, folder / "plan" / name, print)
    plan = Plan.open(
        folder / "plan",
        validators=int(scene.validation > 0),
        epochs=scene.epochs,
        batch_size=scene.batch,
        seed=scene.seed,
    )
    course = Course(
        steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, learning_rate=scene.rate, warmup_steps=5,
        schedule="linear", weight_decay=0.0, clip=1.0, checkpoint_seconds=1e9,
    )  # fmt: skip
    learner = load_learner(BASE, plan, method="lora", rank=16, alpha=32.0, seed=0, device="cpu")
    told: dict[str, list[list[Any]]] = {"step": [], "eval": []}
    members = {"step": STEP, "eval": EVAL}

    def emit(kind: str, **given: Any) -> None:
        if kind in told:
            told[kind].append([float(f"{given[name]:.6g}") for name in members[kind]])

    try:
        train(learner, course, Checkpoints(folder / "checkpoint", "k"), emit, lambda: False)
    except OutcropError as fault:
        print(fault)
    course_told = {"steps": plan.steps, "steps_per_epoch": plan.steps_per_epoch, "warmup_steps": 5, "clip": 1.0}
    return {"course": course_told, "step": [list(STEP), *told["step"]], "eval": [list(EVAL), *told["eval"]]}


if __name__ == "__main__":
    CURVES.mkdir(exist_ok=True)
    for name in sys.argv[1:] or SCENES:
        with TemporaryDirectory() as folder:
            found = record(SCENES[name], Path(folder))
        rows = ",\n".join(f'"{key}": [{", ".join(map(json.dumps, found[key]))}]' for key in ("step", "eval"))
        text = '{"course": ' + json.dumps(found["course"]) + f",\n{rows}}}\n"
        (CURVES / f"{name}.json").write_text(text, "utf-8")
        print(name, len(found["step"]) - 1, "steps")
