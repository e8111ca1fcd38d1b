"""The trainer beside its peers: same weights file, ids, labels, order and optimizer settings, in turn, in one run.

    python -m benchmarks.train --rivals rivals/bin/python --unsloth unsloth/bin/python
        [--model 40m|0.5b] [--task lora|full|cpt|whole-job] [--quick]
    python -m benchmarks.train --model 8b --device cuda

Each contender is a process of its own; rounds alternate. Counted are real tokens a second within steps (the first
three left out), wall time from process start to weights on disk, and peak memory; losses of the first step must agree
within one in a hundred. Beside them stands what matrix products reach on this machine at that moment, of the step's own
shapes and of large squares. Tasks: lora and full (pairs of 40 to 670 tokens, eight a step), cpt (sequences of 1,024
tokens, every one scored, LoRA), whole-job (1,200 short pairs once, LoRA: what counts is the wall time). `--quick` shows
that all of it runs and writes nothing; else results/train-<model>-<task>.json is written. The 8b runs ours alone, on
sequences of 4,096 tokens, as NVIDIA's published figure was measured; on a GPU the table says how they were attended to.
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
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from benchmarks.machine import machine
from outcrop.catalog.catalog import Catalog
from outcrop.commands.options import SPIN_COUNT
from outcrop.train import flops

RIVALS: Final = Path(__file__).parent / "rivals"
RESULTS: Final = Path(__file__).parent / "results"
WARM: Final = 3
RANK: Final = 16

IDS: Final[dict[str, Any]] = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
MODELS: Final[dict[str, Callable[[], Any]]] = {
    "40m": lambda: Qwen2Config(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, intermediate_size=1536,
        vocab_size=32001, max_position_embeddings=4096, tie_word_embeddings=True, **IDS,
    ),
    "0.5b": lambda: Qwen2Config(
        hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
        vocab_size=151936, max_position_embeddings=4096, tie_word_embeddings=True, **IDS,
    ),
    "8b": lambda: LlamaConfig(
        hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8, intermediate_size=14336,
        vocab_size=128256, max_position_embeddings=8192, **IDS,
    ),
}  # fmt: skip
"""0.5b is Qwen2.5-0.5B's own configuration, 8b Llama 3.1's. Weights are random: speed does not depend on them."""

CONTENDERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "outcrop": ("ours", {}),
    "trl, its defaults": ("trl_train.py", {"dtype": "float32"}),
    "trl, bf16, no checkpointing": ("trl_train.py", {"dtype": "bfloat16", "checkpointing": False}),
    "trl, bf16, padding-free": (
        "trl_train.py", {"dtype": "bfloat16", "checkpointing": False, "padding_free": True},
    ),
    "trl, bf16, packed": ("trl_train.py", {"dtype": "bfloat16", "checkpointing": False, "packing": 2048}),
    "unsloth, its defaults": ("unsloth_train.py", {"dtype": "bfloat16", "unsloth_defaults": True}),
    "unsloth, no checkpointing": ("unsloth_train.py", {"dtype": "bfloat16", "checkpointing": False}),
    "by hand (transformers + PEFT, bf16)": ("naive_train.py", {"dtype": "bfloat16"}),
}  # fmt: skip
"""TRL's packing puts other examples into a step, so only its speed is compared, not its losses."""


@dataclass(frozen=True, slots=True)
class Task:
    """What all contenders are given."""

    method: str
    batch: int
    """Examples an optimizer step."""
    steps: int
    lengths: tuple[int, int]
    """Of examples: the least and the most tokens."""
    prompts: bool = True
    """Whether examples begin with tokens that are no labels."""
    unfit: tuple[str, ...] = ()
    """Contenders that it makes no sense for."""


PACKING: Final = ("trl, bf16, padding-free", "trl, bf16, packed")
TASKS: Final = {
    "lora": Task("lora", batch=8, steps=15, lengths=(40, 670)),
    "full": Task("full", batch=8, steps=10, lengths=(40, 670)),
    "cpt": Task("lora", batch=2, steps=10, lengths=(1024, 1024), prompts=False, unfit=PACKING),
    "whole-job": Task("lora", batch=8, steps=150, lengths=(20, 120)),
    "long": Task("lora", batch=8, steps=10, lengths=(4096, 4096), prompts=False, unfit=PACKING),
}


def make_base(folder: Path, config: Any, device: str = "cpu") -> int:
    """Random weights of a configuration in bfloat16, with the bundled tokenizer; returns how many numbers they are."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = _empty(config)
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(folder)
    bundled = Catalog.load().weights_folder("bundled:text")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(bundled / name, folder / name)
    return sum(parameter.numel() for parameter in model.parameters())


def _empty(config: Any) -> Any:
    return LlamaForCausalLM(config) if isinstance(config, LlamaConfig) else Qwen2ForCausalLM(config)


def make_examples(folder: Path, task: Task, steps: int, vocabulary: int) -> list[list[int]]:
    """Write the examples; returns their lengths, step by step. Where they vary, most are short and a few long."""
    rng = np.random.default_rng(0)
    count = task.batch * steps
    least, most = task.lengths
    middle = np.log(least) + 0.55 * (np.log(most) - np.log(least))
    lengths = np.clip(np.exp(rng.normal(middle, 0.7, count)).astype(int), least, most)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    scored = np.zeros(offsets[-1], np.uint8)
    for start, end in pairwise(offsets):
        scored[start + (int((end - start) * rng.uniform(0.3, 0.6)) if task.prompts else 1) : end] = 1
    folder.mkdir()
    np.save(folder / "tokens.npy", rng.integers(3, min(vocabulary, 4096), offsets[-1]).astype(np.int32))
    np.save(folder / "scored.npy", scored)
    np.save(folder / "offsets.npy", offsets)
    return [one.tolist() for one in np.split(lengths, steps)]


def matrix_rates(config: Any, tokens: int, device: str) -> tuple[float, float]:
    """Operations a second of bfloat16 products: of the model's own shapes, and of large squares; the best of a few."""
    rows = torch.randn(tokens, config.hidden_size, dtype=torch.bfloat16, device=device)
    weight = torch.randn(config.intermediate_size, config.hidden_size, dtype=torch.bfloat16, device=device)
    out = torch.empty(tokens, config.intermediate_size, dtype=torch.bfloat16, device=device)
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(10):
            torch.mm(rows, weight.t(), out=out)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - started) / 10)
    return 2 * tokens * weight.numel() / best, flops.rate(torch.device(device), torch.bfloat16)


def operations(config: Any, method: str, lengths: list[list[int]], labels: list[int]) -> float:
    """Of all those steps, as flops.Work counts them for everybody."""
    with torch.device("meta"):
        model = _empty(config)
    head = model.get_output_embeddings()
    linear = [one for one in model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
    added = sum(RANK * (one.in_features + one.out_features) for one in linear) if method == "lora" else 0
    work = flops.count(model, added, full=method == "full")
    assert work is not None
    return sum(work.step(sum(step), label, step) for step, label in zip(lengths, labels, strict=True))


def run(name: str, base: Path, examples: Path, out: Path, *, settings: dict[str, Any], rival: str) -> dict[str, Any]:
    """One contender, once."""
    script, extra = CONTENDERS[name]
    out.mkdir(parents=True)
    told = json.dumps({**settings, **extra})
    command = [sys.executable, "-m", "benchmarks.ours_train"] if script == "ours" else [rival, str(RIVALS / script)]
    log = out / "log.txt"
    began = time.time()
    with log.open("w") as output:
        done = subprocess.run(
            [*command, str(base), str(examples), str(out), told],
            stdout=output,
            stderr=output,
            # As `outcrop serve` has it for its jobs; peers run as they come, alone on the machine.
            env=({"GOMP_SPINCOUNT": SPIN_COUNT} if script == "ours" else {}) | os.environ,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{log.read_text()[-3000:]}")
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    result["wall_seconds"] = result["saved_at"] - began
    return result


def main() -> None:
    """Run all contenders in turn and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivals", type=Path, help="Python of the rivals' environment; without it ours runs alone")
    parser.add_argument("--unsloth", type=Path, help="Python of unsloth's environment")
    parser.add_argument("--model", choices=list(MODELS), default="40m")
    parser.add_argument("--task", choices=list(TASKS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--quick", action="store_true", help="one round of few steps, nothing is written")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            f"--device cuda: torch {torch.__version__} sees no GPU here; run it where one is, with CUDA's torch"
        )
    chosen = options.task or ("long" if options.model == "8b" else "lora")
    task = replace(TASKS[chosen], batch=2) if options.quick else TASKS[chosen]
    steps = 5 if options.quick else options.steps or task.steps
    names = [one for one in options.only if one not in task.unfit and _python(one, options)]
    content = compare(options, task, steps, names)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"train-{options.model}-{chosen}.json").write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(content["table"], indent=2))


def compare(options: argparse.Namespace, task: Task, steps: int, names: list[str]) -> dict[str, Any]:
    """All rounds, and what is told of them."""
    config = MODELS[options.model]()
    settings = {
        "method": task.method, "epochs": 1, "steps": steps, "batch_size": task.batch, "seed": 0,
        "device": options.device, "learning_rate": 2e-4 if task.method == "lora" else 1e-5, "warmup_steps": 5,
        "rank": RANK, "alpha": 32.0,
    }  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    rates, loads = [], []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        parameters = make_base(home / "base", config, options.device)
        lengths = make_examples(home / "examples", task, steps, config.vocab_size)
        labels = _labels(home / "examples", task.batch)
        tokens = [sum(step) for step in lengths]
        for turn in range(1 if options.quick else options.rounds):
            rates.append(matrix_rates(config, int(statistics.mean(tokens)), options.device))
            loads.append(round(os.getloadavg()[0], 2))
            for name in names:
                out = home / f"{turn}-{names.index(name)}"
                rival = _python(name, options)
                result = run(name, home / "base", home / "examples", out, settings=settings, rival=rival)
                # TRL says itself how many tokens its packs held; everybody else took the same.
                taken = result.get("step_tokens") or tokens
                warm = min(WARM, len(taken) - 1)
                result["tokens_per_second"] = sum(taken[warm:]) / sum(result["step_seconds"][warm:])
                found[name].append(result)
                speed, wall = result["tokens_per_second"], result["wall_seconds"]
                print(f"{turn} {name}: {speed:.0f} tokens/s, {wall:.1f} s", flush=True)
                shutil.rmtree(out)
    each = operations(config, task.method, lengths[WARM:], labels[WARM:]) / sum(tokens[WARM:])
    medians = [statistics.median(one) for one in zip(*rates, strict=True)]
    least, most = task.lengths
    return {
        "what": f"{task.method}, {parameters / 1e6:.1f}M parameters, {task.batch} examples a step of {least} to {most} "
        "tokens",
        "machine": machine("outcrop", "torch", "transformers", "peft"),
        "load": loads,
        "rivals": (RIVALS / "requirements.txt").read_text().splitlines()[2:],
        "settings": settings,
        "contenders": {name: CONTENDERS[name][1] for name in names},
        "matrix_gflops": {"own_shapes": round(medians[0] / 1e9, 1), "squares": round(medians[1] / 1e9, 1)},
        "table": {name: summary(results, each, medians) for name, results in found.items()},
    }


def _python(name: str, options: argparse.Namespace) -> str:
    """The Python that a contender runs with; empty where there is none for it."""
    script = CONTENDERS[name][0]
    if script == "ours":
        return sys.executable
    place = options.unsloth if script.startswith("unsloth") else options.rivals
    return str(place.absolute()) if place else ""


def _labels(folder: Path, batch: int) -> list[int]:
    """Labels of each step."""
    marks, offsets = np.load(folder / "scored.npy"), np.load(folder / "offsets.npy")
    return [int(one) for one in np.add.reduceat(marks.astype(np.int64), offsets[:-1:batch])]


def summary(results: list[dict[str, Any]], each: float, rates: list[float]) -> dict[str, Any]:
    """Medians and spread of one contender; each: operations a token."""
    speeds = [result["tokens_per_second"] for result in results]
    median = statistics.median(speeds)
    return {
        "tokens_per_second": round(median, 1),
        "spread": [round(min(speeds), 1), round(max(speeds), 1)],
        "share_of_own_shapes_rate": round(median * each / rates[0], 3),
        "share_of_squares_rate": round(median * each / rates[1], 3),
        "wall_seconds": round(statistics.median(result["wall_seconds"] for result in results), 2),
        "first_step_at": statistics.median(result["first_step_at"] for result in results),
        "peak_mib": max(result["peak_mib"] for result in results),
        "first_loss": results[0]["losses"][0],
        "last_loss": results[0]["losses"][-1],
        **({"attention": results[0]["attention"]} if results[0].get("attention") else {}),
    }


if __name__ == "__main__":
    main()
