"""What a real step holds at its largest is what was reckoned, with layers computed again and without."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen3Config

from outcrop.datasets.packs import Pack
from outcrop.sources import memory, step
from outcrop.sources.look import look
from outcrop.train import block, causal, fused, likelihood

ROOT = Path(__file__).parents[2]
PLENTY = 1 << 50
MOST = 1.2
"""Like step.MOST, and something for a machine that has not been seen."""
SHAPE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 128, "intermediate_size": 352, "num_attention_heads": 2,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
WIDER = {**SHAPE, "hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 4}
CASES: dict[str, tuple[Callable[[], Any], str, str, list[int]]] = {
    "blocks that keep shares": (lambda: LlamaConfig(**SHAPE, num_hidden_layers=16), "lora", "float32", [600] * 4),
    "blocks that keep none": (lambda: LlamaConfig(**WIDER, num_hidden_layers=12), "lora", "bfloat16", [600] * 4),
    "all of long examples": (lambda: MistralConfig(**WIDER, num_hidden_layers=12), "full", "bfloat16", [1100] * 2),
    "layers of transformers": (
        lambda: Qwen3Config(**SHAPE, num_hidden_layers=12, head_dim=64), "lora", "float32", [600] * 4,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Of each case a run with plenty of memory, and one that is told to have none."""
    asked = []
    for make, method, dtype, lengths in CASES.values():
        base = tmp_path_factory.mktemp("base")
        torch.manual_seed(3)
        AutoModelForCausalLM.from_config(make()).save_pretrained(base)  # type: ignore[no-untyped-call]
        given = {"base": str(base), "method": method, "dtype": dtype, "lengths": lengths}
        asked += [{**given, "free": free} for free in (PLENTY, 0)]
    command = [sys.executable, "-m", "tests.train.peak", json.dumps(asked)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    return dict(zip(CASES, zip(runs[::2], runs[1::2], strict=True), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_a_step_holds_what_was_reckoned(case: str, found: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> None:
    for one in found[case]:
        assert one["blocks"] == ("transformers" not in case)
        assert step.LEAST * one["total"] < one["peak"] < MOST * one["total"], one


@pytest.mark.parametrize("case", CASES)
def test_layers_that_are_computed_again_hold_less(
    case: str, found: dict[str, tuple[dict[str, Any], dict[str, Any]]]
) -> None:
    plain, again = found[case]
    assert plain["said"] is None
    assert "layers are computed again on their way back" in again["said"]
    assert again["losses"] == plain["losses"]
    spared = plain["activations"] - again["activations"]
    assert spared > 100 << 20
    assert plain["peak"] - again["peak"] > spared / 2


def test_what_is_reckoned_with_is_what_training_does() -> None:
    assert {name.removesuffix("DecoderLayer") for name in block.KINDS} == {
        name.removesuffix("ForCausalLM") for name in step.BLOCKS
    }
    assert (step.KEPT, step.QUERIES) == (causal.KEPT, causal.BLOCK)
    assert (step.EVEN, step.WIDEST) == (fused.EVEN, fused.WIDEST)
    assert memory.multiplies_pairs() == fused.takes(torch.device("cpu"), torch.bfloat16, step.EVEN)
    assert {"cpu": likelihood.CPU.rows, "gpu": likelihood.GPU.rows} == step.ROWS
    assert (likelihood.LEARNING, likelihood.GPU.softmax) == (step.LEARNING, step.EXACT)


def test_a_gpu_s_float32_logits_are_reckoned(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE, num_hidden_layers=1))  # type: ignore[no-untyped-call]
    model.save_pretrained(tmp_path)
    seen, manner = look(tmp_path, "base"), step.Manner(2, blocks=False, chunked=True, on_gpu=True)

    def activations(labels: int) -> int:
        return step.need(seen, "lora", 4, Pack((4000,), labels), manner, 1).activations

    # The logits themselves in bfloat16, as far as they are there at once; their float32 and its softmax beside them.
    assert activations(300) - activations(100) == 200 * SHAPE["vocab_size"] * (2 + 8)
    assert activations(3000) == activations(2000)
