"""The foundry's one command on a very small plan: it learns, it leaves a whole base behind, and it does so again."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from foundry.cast import Plan, cast
from foundry.layout import Shape
from foundry.training import Stage, rate_at

TINY = Plan(
    shape=Shape(vocabulary=2200, hidden=32, layers=2, heads=2, inner=64, positions=1024),
    stages=(Stage(50, 8, 128), Stage(4, 2, 256)),
    peak=1e-2,
    seed=3,
    tokenizer_pairs=1500,
    exam_count=3,
    save_every=20,
)


def test_a_tiny_base_is_cast_and_cast_again(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        lines: list[str] = []
        record = cast(TINY, tmp_path / "one", lines.append)
        again = cast(TINY, tmp_path / "two", lines.append)
    finally:
        torch.set_num_threads(threads)
    losses = [point["loss"] for point in record["curve"]]
    assert losses[-1] < 7.0 < losses[0] + 1.0
    assert losses[-1] < losses[0]
    assert record["tokens"] == 50 * 8 * 128 + 4 * 2 * 256
    assert set(record["scores"]) == set(record["shares"])
    assert record["sha256"] == again["sha256"]
    assert json.loads(lines[0])["step"] == 50
    folder = tmp_path / "one"
    assert json.loads((folder / "training.json").read_text("utf-8")) == json.loads(json.dumps(record))
    assert "stand-in" in (folder / "README.md").read_text("utf-8")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    made = model.generate(**tokenizer("echo 12\n>", return_tensors="pt"), max_new_tokens=3, do_sample=False)
    assert made.shape[1] > len(tokenizer("echo 12\n>").input_ids)


def test_the_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    rates = [rate_at(step, 100, 1.0, 10) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0.02 <= rates[-1] < 0.021
