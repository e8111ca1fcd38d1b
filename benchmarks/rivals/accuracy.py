"""Exact-match accuracy of a base with a PEFT adapter, by plain transformers and PEFT: one judge for all trainers.

    python accuracy.py BASE ADAPTER TEST.jsonl OUT.json

Greedy, in float32; prompts of equal length go together, so nothing is padded.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS = 24
BATCH = 64


def main(base: str, adapter: str, test: str, out: str) -> None:
    """Write {"accuracy", "count", "correct"}."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    model = model.merge_and_unload().eval()
    groups = defaultdict(list)
    for line in Path(test).read_text().splitlines():
        record = json.loads(line)
        ids = tokenizer(record["prompt"])["input_ids"]
        groups[len(ids)].append((ids, record["completion"].strip()))
    correct = count = 0
    for pairs in groups.values():
        for start in range(0, len(pairs), BATCH):
            batch = pairs[start : start + BATCH]
            with torch.inference_mode():
                made = model.generate(
                    torch.tensor([ids for ids, _ in batch]), max_new_tokens=NEW_TOKENS, do_sample=False
                )
            for row, (ids, wanted) in zip(made, batch, strict=True):
                correct += tokenizer.decode(row[len(ids) :], skip_special_tokens=True).strip() == wanted
                count += 1
    Path(out).write_text(json.dumps({"accuracy": correct / count, "count": count, "correct": correct}))


if __name__ == "__main__":
    main(*sys.argv[1:])
