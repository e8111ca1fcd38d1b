"""What a common beginning (a system prompt before every example) costs, shared by the examples of a step and not.

    python -m benchmarks.beginnings [--weights FOLDER] [--steps 25]

The demo's own pairs behind a beginning of so many characters; two learners over one model, one of which may share, take
every step in turn, the first of them changing. Processor time of one thread, the first steps left out. Writes
results/beginnings.json.
"""

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.machine import machine
from examples.make_dataset import make
from outcrop.catalog.catalog import Catalog
from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train.text import TextLearner, load_learner

RESULT: Final = Path(__file__).parent / "results" / "beginnings.json"
BEGINNING: Final = "You are the desk of an online shop. Answer politely, name the order's number, and promise nothing. "
CHARACTERS: Final = (0, 100, 300, 700)
BATCH: Final = 8
WARM: Final = 3


def compare(base: Path, characters: int, steps: int) -> dict[str, Any]:
    """Processor seconds of the same steps, shared and apart."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "pairs.jsonl")
        beginning = (BEGINNING * -(-characters // len(BEGINNING)))[:characters]
        pairs = make(train=BATCH * steps)["train"]
        lines = [json.dumps(pair | {"prompt": beginning + pair["prompt"]}) for pair in pairs]
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        refused = write_shard(source, "prompt-completion", Encoder.read(base), Path(folder, "shard"), print)
        assert not refused
        plan = Plan(Shard.open(Path(folder, "shard")), (), 1, BATCH, seed=0)
        sharing = load_learner(base, plan, method="lora", rank=16, alpha=32.0, seed=0, device="cpu")
        apart = TextLearner(replace(sharing.layout, shares=False), plan, sharing.adapter)
        seconds, tokens, spared = [0.0, 0.0], 0, 0
        for step in range(plan.steps):
            order = [(0, sharing), (1, apart)]
            for place, learner in order if step % 2 else reversed(order):
                started = time.process_time()
                told = learner.learn(step)
                seconds[place] += (time.process_time() - started) * (step >= WARM)
                for parameter in learner.parameters():
                    parameter.grad = None
                tokens, spared = tokens + told.tokens * place, spared + told.spared
    return {
        "characters": characters,
        "tokens": tokens,
        "spared_tokens": spared,
        "seconds": {"shared": round(seconds[0], 3), "apart": round(seconds[1], 3)},
        "times_faster": round(seconds[1] / seconds[0], 2),
    }


def main() -> None:
    """Measure every length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Catalog.load().weights_folder("bundled:text"))
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for characters in CHARACTERS:
        rows.append(compare(options.weights, characters, options.steps))
        print(rows[-1], flush=True)
    found = {"machine": machine("outcrop", "torch", "transformers"), "batch_size": BATCH, "rows": rows}
    options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
