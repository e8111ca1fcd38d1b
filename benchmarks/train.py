"""The trainer beside its peers: same weights file, ids, labels, order and optimizer settings, in turn, in one run.

    python -m benchmarks.train --rivals rivals/bin/python [--model 40m|0.5b] [--method lora|full] [--rounds 5]

Each contender is a process of its own and trains the same steps; rounds alternate. Counted are real tokens a second
within steps (the first three left out), wall time from process start to weights on disk, and peak memory; losses of
the first step must agree within one in a hundred. Beside them stands what matrix products of the model's own shapes
reach on this machine at that moment. Writes results/train-<model>-<method>.json.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.machine import machine
from outcrop.catalog.catalog import Catalog

RIVALS: Final = Path(__file__).parent / "rivals"
RESULTS: Final = Path(__file__).parent / "results"
WARM: Final = 3
BATCH: Final = 8

SHAPES: Final[dict[str, dict[str, int]]] = {
    "40m": {
        "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 2,
        "intermediate_size": 1536, "vocab_size": 32001,
    },
    "0.5b": {
        "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151936,
    },
}  # fmt: skip
"""Qwen2's layout; 0.5b is Qwen2.5-0.5B's own configuration. Weights are random: speed does not depend on them."""

CONTENDERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "outcrop": ("ours", {}),
    "trl, its defaults": ("trl_train.py", {"dtype": "float32"}),
    "trl, best found (bf16, no checkpointing)": ("trl_train.py", {"dtype": "bfloat16", "checkpointing": False}),
    "trl, padding-free (bf16)": (
        "trl_train.py", {"dtype": "bfloat16", "checkpointing": False, "padding_free": True},
    ),
    "written by hand (transformers + PEFT, bf16)": ("naive_train.py", {"dtype": "bfloat16"}),
}  # fmt: skip


def make_base(folder: Path, shape: dict[str, int]) -> int:
    """Random weights of a shape in bfloat16, with the bundled tokenizer; returns how many numbers they are."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = Qwen2Config(**shape, **ids, max_position_embeddings=4096, tie_word_embeddings=True)
    model = Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    bundled = Catalog.load().weights_folder("bundled:text")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bundled / name, folder / name)
    return sum(parameter.numel() for parameter in model.parameters())


def make_examples(folder: Path, steps: int, vocabulary: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Examples of 40 to 670 tokens, a good half of them labels; returns the tokens of each step."""
    rng = np.random.default_rng(0)
    count = BATCH * steps
    lengths = np.clip(np.exp(rng.normal(5.2, 0.7, count)).astype(int), 40, 670)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    scored = np.zeros(offsets[-1], np.uint8)
    for start, end in pairwise(offsets):
        scored[start + int((end - start) * rng.uniform(0.3, 0.6)) : end] = 1
    folder.mkdir()
    np.save(folder / "tokens.npy", rng.integers(3, min(vocabulary, 4096), offsets[-1]).astype(np.int32))
    np.save(folder / "scored.npy", scored)
    np.save(folder / "offsets.npy", offsets)
    return np.diff(offsets[::BATCH])


def matrix_rate(shape: dict[str, int], tokens: int) -> float:
    """GFLOP/s of bfloat16 products of the model's own shapes, the best of several tries."""
    best = 0.0
    x = torch.randn(tokens, shape["hidden_size"], dtype=torch.bfloat16)
    weight = torch.randn(shape["intermediate_size"], shape["hidden_size"], dtype=torch.bfloat16)
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(10):
            torch.nn.functional.linear(x, weight)
        rate = 10 * 2 * tokens * weight.numel() / (time.perf_counter() - started) / 1e9
        best = max(best, rate)
    return best


def run(name: str, base: Path, examples: Path, out: Path, *, settings: dict[str, Any], rival: str) -> dict[str, Any]:
    """One contender, once."""
    script, extra = CONTENDERS[name]
    out.mkdir(parents=True)
    told = json.dumps({**settings, **extra})
    command = [sys.executable, "-m", "benchmarks.ours_train"] if script == "ours" else [rival, str(RIVALS / script)]
    log = out / "log.txt"
    with log.open("w") as output:
        done = subprocess.run(
            [*command, str(base), str(examples), str(out), told], stdout=output, stderr=output, check=False
        )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{log.read_text()[-3000:]}")
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


def flops_per_token(shape: dict[str, int], parameters: int, labels: float, method: str) -> float:
    """Of matrix products with weights: 4 per weight for LoRA (forward, and the gradient of the input), 6 for all."""
    head = shape["hidden_size"] * shape["vocab_size"]
    each = 4 if method == "lora" else 6
    return float(each * ((parameters - head) + labels * head))


def main() -> None:
    """Run all contenders in turn and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", type=Path, required=True, help="Python of the rivals' environment")
    parser.add_argument("--model", choices=list(SHAPES), default="40m")
    parser.add_argument("--method", choices=["lora", "full"], default="lora")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    options = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    shape = SHAPES[options.model]
    settings = {
        "method": options.method, "epochs": 1, "steps": options.steps, "batch_size": BATCH, "seed": 0,
        "learning_rate": 2e-4 if options.method == "lora" else 1e-5, "warmup_steps": 5, "rank": 16, "alpha": 32.0,
    }  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        parameters = make_base(home / "base", shape)
        tokens = make_examples(home / "examples", options.steps, shape["vocab_size"])
        labels = float(np.load(home / "examples" / "scored.npy").mean())
        rates = []
        for turn in range(options.rounds):
            rates.append(matrix_rate(shape, int(tokens.mean())))
            for name in options.only:
                out = home / f"{turn}-{list(CONTENDERS).index(name)}"
                result = run(
                    name, home / "base", home / "examples", out, settings=settings, rival=str(options.rivals.absolute())
                )
                result["tokens_per_second"] = float(tokens[WARM:].sum() / sum(result["step_seconds"][WARM:]))
                found[name].append(result)
                print(f"{turn} {name}: {result['tokens_per_second']:.0f} tokens/s", flush=True)
                shutil.rmtree(out)
    cost = flops_per_token(shape, parameters, labels, options.method)
    table = {name: summary(results, cost, statistics.median(rates)) for name, results in found.items()}
    content = {
        "what": f"{options.method}, {parameters / 1e6:.1f}M parameters, {BATCH} examples a step of 40 to 670 tokens",
        "machine": machine("outcrop", "torch", "transformers", "peft"),
        "rivals": (RIVALS / "requirements.txt").read_text().splitlines()[2:],
        "settings": settings,
        "contenders": {name: CONTENDERS[name][1] for name in options.only},
        "matrix_gflops": round(statistics.median(rates), 1),
        "table": table,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"train-{options.model}-{options.method}.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(table, indent=2))


def summary(results: list[dict[str, Any]], cost: float, rate: float) -> dict[str, Any]:
    """Medians and spread of one contender."""
    speeds = [result["tokens_per_second"] for result in results]
    median = statistics.median(speeds)
    return {
        "tokens_per_second": round(median, 1),
        "spread": [round(min(speeds), 1), round(max(speeds), 1)],
        "share_of_matrix_rate": round(median * cost / 1e9 / rate, 3),
        "wall_seconds": statistics.median(result["wall_seconds"] for result in results),
        "first_step_at": statistics.median(result["first_step_at"] for result in results),
        "peak_rss_mib": max(result["peak_rss_mib"] for result in results),
        "first_loss": results[0]["losses"][0],
        "last_loss": results[0]["losses"][-1],
    }


if __name__ == "__main__":
    main()
