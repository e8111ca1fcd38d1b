"""Cast the bundled text base: make its data, learn its tokenizer, train it, examine it, write record and card.

    python -m foundry.cast [--out outcrop/bases/text] [--threads 2]

One command, no download. It knows every part of the foundry; nothing knows it.
"""

import argparse
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from foundry.card import card
from foundry.exam import examine
from foundry.layout import Shape, new_model, save
from foundry.mix import SHARES, pairs
from foundry.packing import Rows, diet, rows
from foundry.training import Progress, Stage, train
from foundry.vocabulary import PAD, id_of, learn

COMMAND = "python -m foundry.cast"


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides the result; the defaults make the base that is shipped."""

    shape: Shape = field(default_factory=Shape)
    stages: tuple[Stage, ...] = (Stage(1700, 16, 256), Stage(450, 8, 512), Stage(100, 4, 1024))
    """Short rows first because they cost least; the last steps lengthen what the positions have seen."""
    peak: float = 4e-3
    seed: int = 20
    tokenizer_pairs: int = 60_000
    exam_count: int = 100
    save_every: int = 500


def data_digest(seed: int, count: int) -> str:
    """SHA-256 of the first `count` pairs of a seed: tells whether the makers still make what a base was trained on."""
    digest = hashlib.sha256()
    for pair in islice(pairs(seed), count):
        digest.update(json.dumps([pair.prompt, pair.completion], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()


def cast(plan: Plan, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a base in the folder `out` and return its record; `say` gets a JSON line every fifty steps."""
    source = (pair.prompt + pair.completion for pair in islice(pairs(plan.seed), plan.tokenizer_pairs))
    tokenizer = learn(source, plan.shape.vocabulary)
    model = new_model(plan.shape, tokenizer, plan.seed)
    curve: list[dict[str, float]] = []
    recent: list[float] = []

    def report(progress: Progress) -> None:
        recent.append(progress.loss)
        if progress.step % 50 == 0 or progress.step == sum(stage.steps for stage in plan.stages):
            curve.append(asdict(progress) | {"loss": round(sum(recent) / len(recent), 4)})
            recent.clear()
            say(json.dumps(curve[-1]))
        if progress.step % plan.save_every == 0:
            save(out, model, tokenizer)

    train(model, plan.stages, _batches(plan, tokenizer), plan.peak, report)
    save(out, model, tokenizer)
    record = _record(plan, model, tokenizer, out, curve)
    (out / "training.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_card(out)
    return record


def write_card(out: Path) -> None:
    """Write README.md of the base in `out` from its training.json."""
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    (out / "README.md").write_text(card(record), encoding="utf-8")


def _batches(plan: Plan, tokenizer: Tokenizer) -> Callable[[Stage], Iterator[Rows]]:
    # One stream through all stages, so that no stage repeats what an earlier one has seen.
    stream = diet(pairs(plan.seed), tokenizer, plan.seed)
    pad = id_of(tokenizer, PAD)
    return lambda stage: rows(stream, stage.rows, stage.length, pad)


def _record(
    plan: Plan, model: LlamaForCausalLM, tokenizer: Tokenizer, out: Path, curve: list[dict[str, float]]
) -> dict[str, Any]:
    makers = tuple(maker for maker, _ in SHARES)
    scores = examine(model, tokenizer, makers, plan.exam_count, plan.seed + 1)
    files = {p.name: p for p in sorted(out.iterdir()) if p.name not in ("README.md", "training.json")}
    return {
        "command": COMMAND,
        **asdict(plan),
        "shares": {maker.__name__: weight for maker, weight in SHARES},
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": curve[-1]["tokens"],
        "seconds": round(curve[-1]["seconds"]),
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {torch.get_num_threads()} threads",
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)},
        "data_sha256": data_digest(plan.seed, 2000),
        "sha256": {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()},
        "bytes": sum(path.stat().st_size for path in files.values()),
        "scores": {name: asdict(score) for name, score in scores.items()},
        "curve": curve,
    }


def main() -> None:
    """Read the command line and cast the base that is shipped."""
    parser = argparse.ArgumentParser(description="Make the bundled text base again.")
    parser.add_argument("--out", type=Path, default=Path("outcrop/bases/text"))
    parser.add_argument("--threads", type=int, default=2, help="CPU threads; the weights depend on it in the last bits")
    parser.add_argument("--card", action="store_true", help="only write README.md again from training.json")
    given = parser.parse_args()
    if given.card:
        write_card(given.out)
        return
    torch.set_num_threads(given.threads)
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    cast(Plan(), given.out, lambda line: print(line, flush=True))


if __name__ == "__main__":
    main()
