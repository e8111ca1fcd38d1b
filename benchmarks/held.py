"""What a training process holds at its largest, with its layers' activations kept and with layers computed again.

    python -m benchmarks.held

Two steps of each model in a process of its own, forked as tests/train/peak.py says: loaded, all examples of a step
packed as a job packs them, one thread, the numbers that a job would compute with on this machine. Weights are
drawn at random in shapes that are told in the result, as nothing else of them matters here.
Beside what was held stands what `outcrop plan` would have said. Writes results/held.json.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen3Config

from benchmarks.machine import machine
from benchmarks.train import MODELS

RESULT: Final = Path(__file__).parent / "results" / "held.json"
MIB: Final = 1 << 20
PLENTY: Final = 1 << 40
SHORT: Final = 64
"""Tokens of an example; a step has as many of them as its tokens need."""


def _llama(width: int, layers: int, inner: int, words: int) -> LlamaConfig:
    heads = width // 64
    return LlamaConfig(
        hidden_size=width, num_hidden_layers=layers, intermediate_size=inner, vocab_size=words,
        num_attention_heads=heads, num_key_value_heads=heads, tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip


DRAWN: Final[dict[str, PretrainedConfig]] = {
    "40M, 8 layers": MODELS["40m"](),
    "20M, 24 layers": _llama(256, 24, 512, 16_000),
    "169M, 10 layers": _llama(1024, 10, 2816, 40_000),
    "Qwen3, 12 layers": Qwen3Config(
        hidden_size=512, num_hidden_layers=12, intermediate_size=1536, num_attention_heads=8, num_key_value_heads=8,
        head_dim=64, vocab_size=16_000, tie_word_embeddings=True, max_position_embeddings=4096,
    ),
}  # fmt: skip
CASES: Final = (
    ("40M, 8 layers", "lora", 2048),
    ("40M, 8 layers", "full", 2048),
    ("20M, 24 layers", "lora", 2048),
    ("20M, 24 layers", "lora", 4096),
    ("169M, 10 layers", "lora", 2048),
    ("Qwen3, 12 layers", "lora", 2048),
)


def held(base: Path, method: str, tokens: int) -> dict[str, Any]:
    """MiB at the peak and MiB reckoned, as usual and with layers computed again."""
    given = {"base": str(base), "method": method, "dtype": "auto", "lengths": [SHORT] * (tokens // SHORT)}
    asked = json.dumps([given | {"free": free} for free in (PLENTY, 1)])
    command = [sys.executable, "-m", "tests.train.peak", asked]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    usual, again = map(json.loads, told.splitlines())
    if usual["said"] is not None or "computed again" not in again["said"]:
        raise SystemExit(f"{base}: not as usual ({usual['said']}), or not again ({again['said']})")
    return {
        "blocks": usual["blocks"],
        "usual": {"held": usual["peak"] // MIB, "reckoned": usual["total"] // MIB},
        "again": {"held": again["peak"] // MIB, "reckoned": again["total"] // MIB},
    }


def main() -> None:
    """All cases."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, method, tokens in CASES:
            base = Path(folder, name)
            if not base.exists():
                torch.manual_seed(0)
                AutoModelForCausalLM.from_config(DRAWN[name], dtype=torch.bfloat16).save_pretrained(base)  # type: ignore[no-untyped-call]
            config = json.loads((base / "config.json").read_text())
            shape = {
                one: config[one] for one in ("hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")
            }
            rows.append({"model": name, "method": method, "tokens": tokens} | shape | held(base, method, tokens))
            print(json.dumps(rows[-1]))
    RESULT.write_text(json.dumps({"machine": machine("torch", "transformers"), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
