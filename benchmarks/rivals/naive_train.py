"""The loop that one writes by hand: transformers + PEFT in bf16, examples one by one, the head on scored tokens only.

    python naive_train.py BASE EXAMPLES OUT SETTINGS

Arguments as trl_train.py's. No padding by construction; the gradients of one optimizer step add up over its examples.
"""

import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path

STARTED = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402


def main(base: str, folder: str, out: str, settings: str) -> None:
    """Train and write the weights."""
    given = json.loads(settings)
    torch.manual_seed(given["seed"])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, given["dtype"]))
    if given["method"] == "lora":
        lora = LoraConfig(
            r=given["rank"], lora_alpha=given["alpha"], target_modules="all-linear", task_type="CAUSAL_LM"
        )
        model = get_peft_model(model, lora)
    model.train()
    place = Path(folder)
    tokens, scored = np.load(place / "tokens.npy"), np.load(place / "scored.npy")
    spans = list(pairwise(np.load(place / "offsets.npy")))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=given["learning_rate"], weight_decay=0.0, fused=True)
    steps = given["steps"]
    size, warmup = given["batch_size"], given["warmup_steps"]
    losses, seconds, first = [], [], time.monotonic() - STARTED
    for step in range(steps):
        began = time.monotonic()
        rate = (step + 1) / warmup if step < warmup else (steps - step) / max(1, steps - warmup)
        for group in optimizer.param_groups:
            group["lr"] = given["learning_rate"] * rate
        batch = spans[step * size : (step + 1) * size]
        count = sum(int(scored[start:end].sum()) for start, end in batch)
        total = 0.0
        for start, end in batch:
            ids = torch.from_numpy(tokens[start:end].astype(np.int64))
            rows = torch.from_numpy(np.flatnonzero(scored[start:end])) - 1
            logits = model(input_ids=ids[None], logits_to_keep=rows, use_cache=False).logits[0].float()
            loss = cross_entropy(logits, ids[rows + 1], reduction="sum") / count
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
        seconds.append(round(time.monotonic() - began, 4))
    model.save_pretrained(f"{out}/weights")
    result = {
        "saved_at": time.time(),
        "step_seconds": seconds,
        "first_step_at": round(first, 2),
        "losses": losses,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    Path(out, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
