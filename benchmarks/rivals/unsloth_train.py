"""Unsloth's CPU backend on token ids and label marks that are given: run with a Python that has unsloth.

    python unsloth_train.py BASE EXAMPLES OUT SETTINGS

Arguments as trl_train.py's, whose trainer it is, patched by unsloth. One setting more: unsloth_defaults, with which it
keeps its own choice of gradient checkpointing.
"""

import json
import sys
import time

STARTED = time.monotonic()

from unsloth import FastLanguageModel  # noqa: E402,I001  # before transformers and TRL, which it patches
import torch  # noqa: E402
from trl_train import tune  # noqa: E402

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main(base: str, folder: str, out: str, settings: str) -> None:
    """Train and write the weights."""
    given = json.loads(settings)
    model, tokenizer = FastLanguageModel.from_pretrained(
        base,
        max_seq_length=4096,
        dtype=torch.bfloat16,
        load_in_4bit=False,
        full_finetuning=given["method"] == "full",
    )
    if given["method"] == "lora":
        kept = {} if given.get("unsloth_defaults") else {"use_gradient_checkpointing": False}
        model = FastLanguageModel.get_peft_model(
            model,
            r=given["rank"],
            lora_alpha=given["alpha"],
            lora_dropout=0,
            target_modules=LAYERS,
            random_state=given["seed"],
            **kept,
        )
    tune(model, tokenizer, None, folder, out, given, STARTED)


if __name__ == "__main__":
    main(*sys.argv[1:])
