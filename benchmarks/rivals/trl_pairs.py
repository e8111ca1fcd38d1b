"""TRL's SFTTrainer with PEFT on token ids and label marks that are given: run with the rivals' own Python.

    python trl_pairs.py BASE SHARD OUT SETTINGS

BASE: weights; SHARD: folder with tokens.npy, scored.npy, offsets.npy: the peer trains on our very ids and labels;
OUT: where the PEFT adapter and result.json go; SETTINGS: JSON (epochs, batch_size, learning_rate, warmup_steps, rank,
alpha, seed, dtype).
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

STARTED = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402


def examples(shard: Path) -> Dataset:
    """The shard's examples as TRL takes tokenised prompt/completion data."""
    tokens, scored = np.load(shard / "tokens.npy"), np.load(shard / "scored.npy")
    offsets = np.load(shard / "offsets.npy")
    places = list(pairwise(offsets))
    return Dataset.from_dict(
        {
            "input_ids": [tokens[start:end].tolist() for start, end in places],
            "completion_mask": [scored[start:end].tolist() for start, end in places],
        }
    )


def main(base: str, shard: str, out: str, settings: str) -> None:
    """Train and write the adapter."""
    given = json.loads(settings)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, given["dtype"]))
    config = SFTConfig(
        output_dir=f"{out}/trainer",
        num_train_epochs=given["epochs"],
        per_device_train_batch_size=given["batch_size"],
        learning_rate=given["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=given["warmup_steps"],
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=given["seed"],
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        completion_only_loss=True,
        max_length=None,
        report_to=[],
        save_strategy="no",
        logging_steps=50,
        dataloader_num_workers=0,
        disable_tqdm=True,
    )
    lora = LoraConfig(
        r=given["rank"], lora_alpha=given["alpha"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=examples(Path(shard)),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=lora,
    )
    found = trainer.train()
    trainer.model.save_pretrained(f"{out}/adapter")
    result = {
        "wall_seconds": round(time.monotonic() - STARTED, 2),
        "train_seconds": round(found.metrics["train_runtime"], 2),
        "training_loss": found.training_loss,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    Path(out, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
