"""transformers' own generate, batched its best way: run with the rivals' own Python, on the ids that are given.

    python serve_transformers.py MODEL WORK OUT SETTINGS

WORK: JSON as benchmarks/serve.py writes it (prompts as ids, levels, new_tokens). SETTINGS: JSON (dtype; compile: a
static cache and torch.compile as generate offers them). A batch has as many prompts as the level, taken in order of
length so that the least is padded, on the left; greedy, the end token ignored. There is no stream to time: generate
gives a batch at once.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

WARM_TOKENS = 8


def batches(prompts: list[list[int]], level: int) -> list[list[list[int]]]:
    """The level's requests, those of like length together."""
    chosen = sorted(prompts, key=len)
    return [chosen[start : start + level] for start in range(0, len(chosen), level)]


def generate(model: Any, batch: list[list[int]], tokens: int, options: dict[str, Any]) -> int:
    """Answer a batch; returns how many tokens were made."""
    width = max(map(len, batch))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in batch])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch])
    with torch.inference_mode():
        made = model.generate(ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, **options)
    return int(made[:, width:].numel())


def main(folder: str, work_file: str, out: str, settings: str) -> None:
    """Measure every level and write the result."""
    work, given = json.loads(Path(work_file).read_text()), json.loads(settings)
    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, given["dtype"])).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    loaded = time.perf_counter() - began
    options: dict[str, Any] = {"cache_implementation": "static"} if given.get("compile") else {}
    if given.get("compile"):
        model.forward = torch.compile(model.forward, mode="default", dynamic=True)
    prompts = [prompt["ids"] for prompt in work["prompts"]]
    found: dict[str, Any] = {"levels": {}, "load_seconds": round(loaded, 2)}
    for level, plan in work["levels"].items():
        count = plan["count"]
        todo = batches(prompts[plan["start"] : plan["start"] + count], int(level))
        generate(model, todo[0], WARM_TOKENS, options)
        began = time.perf_counter()
        made = sum(generate(model, batch, work["new_tokens"], options) for batch in todo)
        seconds = time.perf_counter() - began
        if made != count * work["new_tokens"]:
            raise SystemExit(f"{made} tokens instead of {count * work['new_tokens']}")
        found["levels"][level] = {"tokens_per_second": round(made / seconds, 1), "seconds": round(seconds, 3)}
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
