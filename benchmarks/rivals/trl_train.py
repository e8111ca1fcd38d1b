"""TRL's SFTTrainer with PEFT on token ids and label marks that are given: run with the rivals' own Python.

    python trl_train.py BASE EXAMPLES OUT SETTINGS

BASE: weights; EXAMPLES: folder with tokens.npy, scored.npy, offsets.npy, in the order of training; OUT: where weights
and result.json go; SETTINGS: JSON (method, epochs, batch_size, learning_rate, beta2, warmup_steps, rank, alpha, seed,
dtype, shuffle, checkpointing, padding_free, packing: tokens of a pack, group).
"""

import json
import resource
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

STARTED = time.monotonic()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from peft import LoraConfig  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback  # noqa: E402
from trl import SFTConfig, SFTTrainer  # noqa: E402


class Clock(TrainerCallback):  # type: ignore[misc]
    """When each optimizer step began and ended."""

    def __init__(self, zero: float) -> None:
        self._zero = zero
        self.started: list[float] = []
        self.ended: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.started.append(time.monotonic() - self._zero)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.ended.append(time.monotonic() - self._zero)


def examples(folder: Path) -> Dataset:
    """The examples as TRL takes tokenised prompt/completion data."""
    tokens, scored = np.load(folder / "tokens.npy"), np.load(folder / "scored.npy")
    places = list(pairwise(np.load(folder / "offsets.npy")))
    return Dataset.from_dict(
        {
            "input_ids": [tokens[start:end].tolist() for start, end in places],
            "completion_mask": [scored[start:end].tolist() for start, end in places],
        }
    )


def configuration(given: dict[str, Any], out: str) -> SFTConfig:
    """TRL's settings; what `given` does not name stays at TRL's default."""
    options: dict[str, Any] = {}
    if "checkpointing" in given:
        options["gradient_checkpointing"] = given["checkpointing"]
    if "padding_free" in given:
        options["padding_free"] = given["padding_free"]
    if "packing" in given:
        # A pack is about as many tokens as the others' steps.
        options |= {"packing": True, "max_length": given["packing"], "per_device_train_batch_size": 1}
    sampling = "random" if given.get("shuffle") else "sequential"
    if given.get("group"):
        sampling = "group_by_length"
    chosen: dict[str, Any] = {"per_device_train_batch_size": given["batch_size"], "max_length": None, **options}
    return SFTConfig(
        output_dir=f"{out}/trainer",
        num_train_epochs=given["epochs"],
        # Packs are fewer or more than the steps of the others: all examples once.
        max_steps=-1 if "packing" in given else given.get("steps", -1),
        learning_rate=given["learning_rate"],
        lr_scheduler_type="linear",
        warmup_steps=given["warmup_steps"],
        weight_decay=0.0,
        adam_beta2=given.get("beta2", 0.999),
        max_grad_norm=1.0,
        seed=given["seed"],
        use_cpu=not torch.cuda.is_available(),
        completion_only_loss=True,
        train_sampling_strategy=sampling,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        bf16=bool(given.get("autocast", False)),
        **chosen,
    )


def tune(  # noqa: PLR0917
    model: Any, tokenizer: Any, lora: LoraConfig | None, folder: str, out: str, given: dict[str, Any], started: float
) -> None:
    """Train a model, write the weights and the result."""
    clock = Clock(started)
    trainer = SFTTrainer(
        model=model,
        args=configuration(given, out),
        train_dataset=examples(Path(folder)),
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[clock],
    )
    trainer.train()
    trainer.model.save_pretrained(f"{out}/weights")
    seen = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry and "loss" in entry]
    result = {
        "step_tokens": [after - before for before, after in pairwise([0.0, *seen])] if "packing" in given else None,
        "saved_at": time.time(),
        "step_seconds": [round(end - start, 4) for start, end in zip(clock.started, clock.ended, strict=True)],
        "first_step_at": round(clock.started[0], 2),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    Path(out, "result.json").write_text(json.dumps(result))


def main(base: str, folder: str, out: str, settings: str) -> None:
    """Train and write the weights."""
    given = json.loads(settings)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, given["dtype"]))
    lora = LoraConfig(
        r=given["rank"], lora_alpha=given["alpha"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    tokenizer = AutoTokenizer.from_pretrained(base)
    tune(model, tokenizer, lora if given["method"] == "lora" else None, folder, out, given, STARTED)


if __name__ == "__main__":
    main(*sys.argv[1:])
