"""What the bundled base learns at which learning rate: exact answers to unseen prompts, or perplexity on documents.

    python -m benchmarks.rates [--situations demo few] [--rates 2e-3 3e-3] [--seeds 0 1] [--beta2 0.999]

A situation is data, batch and epochs. Every run is a process of its own: the trainer's plan, learner and loop, and the
engine, asked greedily. `questions` needs --questions, a folder with train.jsonl and test.jsonl (banking77 of PolyAI,
CC BY 4.0); documents are the reference topics that every Python carries. The rate is the one that runs, before what
the schedule makes of it. Writes results/rates.json after every run; runs that it holds are not done again.
"""

import argparse
import json
import os
import random
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, Final
from unittest.mock import patch

from benchmarks.machine import machine
from examples.make_dataset import make
from outcrop.catalog.catalog import Catalog
from outcrop.errors import OutcropError

RESULT: Final = Path(__file__).parent / "results" / "rates.json"
THREADS: Final = "1"
"""Of a run: several go at once, and products of so small a model gain little from a second core."""
WARMUP, RANK, ALPHA, CLIP = 5, 16, 32.0, 1.0
"""What a job has that says nothing else; warm-up as Titan's default."""
PIECE: Final = 1500
"""Characters of a document."""
UNREAD: Final = 60
"""Documents that are kept for validation."""

Rows = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Situation:
    """What a person brings."""

    data: str
    """shop (the demo's pairs), questions or documents."""
    count: int
    """Records, or as many as there are."""
    batch: int
    epochs: int
    asked: int = 400
    """Unseen prompts."""


SITUATIONS: Final = {
    "demo": Situation("shop", 1600, 8, 3),
    "few": Situation("shop", 300, 8, 3),
    "few-batch-1": Situation("shop", 300, 1, 3),
    "few-batch-1-long": Situation("shop", 300, 1, 5),
    "batch-1": Situation("shop", 1600, 1, 3),
    "batch-32": Situation("shop", 1600, 32, 3),
    "many": Situation("shop", 5000, 8, 2),
    "questions": Situation("questions", 5000, 8, 2, asked=1000),
    "all-questions": Situation("questions", 10_003, 16, 3, asked=3080),
    "documents": Situation("documents", 300, 2, 2),
    "documents-batch-1": Situation("documents", 300, 1, 2),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    situation: str
    rate: float
    seed: int
    beta2: float


def records(situation: Situation, questions: Path | None) -> tuple[Rows, Rows, Rows]:
    """What is trained on, what is validated on and what is asked; nothing of the first is in the others."""
    if situation.data == "shop":
        made = make(train=situation.count)
        # Neither test nor validation is trained on, nor decides anything: twice as many answers are half as much luck.
        return made["train"], made["validation"], (made["test"] + made["validation"])[: situation.asked]
    if situation.data == "questions":
        if questions is None:
            raise OutcropError("these questions do not come with the project: --questions FOLDER")
        train, test = (_read(questions / f"{name}.jsonl") for name in ("train", "test"))
        return train[: situation.count], test[:200], test[: situation.asked]
    pieces = [piece for topic in sorted(topics) for piece in _pieces(topics[topic])]
    random.Random(0).shuffle(pieces)
    documents = [{"input": piece} for piece in pieces]
    return documents[UNREAD:][: situation.count], documents[:UNREAD], []


def _read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _pieces(text: str) -> list[str]:
    """Whole paragraphs, as many as are not much longer than a document."""
    pieces = [""]
    for paragraph in text.split("\n\n"):
        if len(pieces[-1]) + len(paragraph) > PIECE:
            pieces.append("")
        pieces[-1] += f"{paragraph}\n\n"
    return [piece.strip() for piece in pieces if piece.strip()]


def run(cell: Cell, situation: Situation, questions: Path | None) -> dict[str, Any]:
    """Train and ask; what came out."""
    import torch
    from transformers.utils import logging

    from outcrop.datasets.plan import Plan
    from outcrop.datasets.shards import write_shard
    from outcrop.datasets.tokens import Encoder
    from outcrop.train import loop
    from outcrop.train.checkpoint import Checkpoints
    from outcrop.train.text import load_learner

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.set_num_threads(int(THREADS))
    base = Catalog.load().weights_folder("bundled:text")
    train, validation, asked = records(situation, questions)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for name, rows in (("train", train), ("validation-0", validation)):
            source = folder / f"{name}.jsonl"
            source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            form = "text" if situation.data == "documents" else "prompt-completion"
            refused = write_shard(source, form, Encoder.read(base), folder / "plan" / name, print)
            assert not refused
        plan = Plan.open(
            folder / "plan", validators=1, epochs=situation.epochs, batch_size=situation.batch, seed=cell.seed
        )
        learner = load_learner(base, plan, method="lora", rank=RANK, alpha=ALPHA, seed=cell.seed, device="cpu")
        course = loop.Course(
            steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, learning_rate=cell.rate, warmup_steps=WARMUP,
            schedule="linear", weight_decay=0.0, clip=CLIP, checkpoint_seconds=1e9,
        )  # fmt: skip
        started = time.process_time()
        with patch.object(loop, "BETAS", (loop.BETAS[0], cell.beta2)):
            checkpoints = Checkpoints(folder / "checkpoint", "benchmark")
            try:
                done = loop.train(learner, course, checkpoints, lambda *_, **__: None, lambda: False).outcome()
            except OutcropError as diverged:
                return {"diverged": str(diverged)}
        seconds = time.process_time() - started
        found = {"validation_loss": round(done["validation_losses"][0], 5)}
        if asked:
            learner.save(folder / "adapter", base, "bundled:text")
            found["exact"] = answer(base, folder / "adapter", asked)
        else:
            found["perplexity"] = round(done["validation_perplexities"][0], 3)
    return found | {
        "training_loss": round(done["training_loss"], 5),
        "steps": done["steps"],
        "processor_seconds": round(seconds, 1),
    }


def answer(base: Path, adapter: Path, asked: Rows) -> float:
    """The share of prompts whose greedy answer is the completion, spaces around it aside."""
    from outcrop.engines import host
    from outcrop.records import Prompt

    engine = host.load(
        host.arguments().parse_args(["--weights", str(base), "--name", "base", "--ready", "-", "--threads", THREADS])
    )
    loop = threading.Thread(target=engine.run)
    loop.start()
    right: list[bool] = []
    told = threading.Semaphore(0)

    def ask(row: dict[str, str]) -> None:
        text: list[str] = []

        def emit(output: Any) -> None:
            text.append(output.text)
            if output.finish or output.failure:
                right.append(output.failure is None and "".join(text).strip() == row["completion"].strip())
                told.release()

        engine.submit("adapter", Prompt(row["prompt"], max_tokens=128, temperature=0), emit)

    try:
        engine.load_adapter("adapter", adapter).result()
        for start in range(0, len(asked), 100):
            part = asked[start : start + 100]
            for row in part:
                ask(row)
            for _ in part:
                told.acquire()
    finally:
        engine.end()
        loop.join()
    return round(sum(right) / len(asked), 4)


def earlier(out: Path) -> list[dict[str, Any]]:
    """The runs that the file holds."""
    return json.loads(out.read_text())["runs"] if out.exists() else []


def save(out: Path, runs: list[dict[str, Any]]) -> None:
    """Write the file anew."""
    document = {
        "what": "the bundled base, LoRA: exact answers to unseen prompts or perplexity of unread documents, by rate",
        "settings": {"warmup_steps": WARMUP, "rank": RANK, "alpha": ALPHA, "clip": CLIP, "schedule": "linear"},
        "situations": {name: asdict(one) for name, one in SITUATIONS.items()},
        "machine": machine("outcrop", "torch", "transformers"),
        "runs": sorted(runs, key=lambda one: [one[name] for name in ("situation", "beta2", "rate", "seed")]),
    }
    text = json.dumps(document, indent=2)
    out.write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Do the runs that are missing, a few at once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--situations", nargs="+", choices=SITUATIONS, default=["demo", "few", "few-batch-1"])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 3e-3, 5e-3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--beta2", type=float, nargs="+", default=None, help="AdamW's (default: the one that runs)")
    parser.add_argument("--questions", type=Path, help="folder of banking77 in prompt/completion form")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    from outcrop.train.loop import BETAS

    os.environ["OMP_NUM_THREADS"] = THREADS
    runs = earlier(options.out)
    cells = [
        Cell(situation, rate, seed, beta2)
        for seed in options.seeds
        for situation in options.situations
        for rate in options.rates
        for beta2 in options.beta2 or [BETAS[1]]
    ]
    known = [{name: one[name] for name in asdict(cells[0])} for one in runs]
    missing = [cell for cell in cells if asdict(cell) not in known]
    spawn = get_context("spawn")  # torch's threads do not survive a fork
    with ProcessPoolExecutor(options.workers, mp_context=spawn, max_tasks_per_child=1) as pool:
        waiting = {pool.submit(run, cell, SITUATIONS[cell.situation], options.questions): cell for cell in missing}
        for future in as_completed(waiting):
            runs.append(asdict(waiting[future]) | future.result())
            print(runs[-1], flush=True)
            save(options.out, runs)


if __name__ == "__main__":
    main()
