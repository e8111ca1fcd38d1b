"""The engine's kernels beside what torch has for the same, in the shapes of the serving benchmark's 39M model.

    OMP_NUM_THREADS=2 python -m benchmarks.kernels [--rounds 40]

Every call finds the caches of the processor full of other things, as in a step, where weights pass through them between
two calls. Sides in turn; median microseconds on one thread and on as many as there are cores. Writes
results/kernels.json.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks.machine import machine
from outcrop import kernels
from outcrop.engines import plain, products
from outcrop.engines.batch import Batch, Part
from outcrop.engines.cache import Cache
from outcrop.engines.lean import LeanModel
from outcrop.kernels import attention, chunk, rows
from outcrop.kernels.peaks import peaks
from outcrop.kernels.product import PairedWeight, supported
from outcrop.kernels.rule import Rule

RESULT: Final = Path(__file__).parent / "results" / "kernels.json"
HIDDEN, INNER, VOCABULARY, LAYERS = 512, 1536, 32_001, 8
HEADS, KV, WIDTH = 8, 2, 64
ANSWERS, CONTEXT, PROMPT = 16, 128, 150
FLUSH: Final = 64 * 2**20
"""Bytes that are read before each call: twice what the last cache of the machine holds."""

Side = Callable[[], object]
Case = tuple[str, Side, Side]
"""What it is, torch's way, the kernel."""


def cases() -> Iterator[Case]:
    """Everything that is compared; torch's results and the kernels' lie as near as bfloat16 allows."""
    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw).bfloat16()

    yield from _attending(drawn)
    for count in (1, 16, 64, 256):
        yield _products(drawn, count)
    hidden, added, by = drawn(ANSWERS, HIDDEN), drawn(ANSWERS, HIDDEN), rows.Norm(drawn(HIDDEN), 1e-6)
    both, logits = drawn(ANSWERS, 2 * INNER), drawn(ANSWERS, VOCABULARY)
    yield (
        f"norm of {ANSWERS} rows, with the sum before it",
        lambda: plain.norm(hidden, added, by),
        lambda: rows.norm(hidden, added, by),
    )
    yield f"gate of {ANSWERS} rows", lambda: plain.gate(both), lambda: rows.gate(both)
    yield _turning(drawn)
    yield f"largest logit of {ANSWERS} rows", lambda: logits.max(-1), lambda: peaks(logits)
    yield from _steps()


def _attending(drawn: Callable[..., Tensor]) -> Iterator[Case]:
    """Answers, a row each, and one prompt."""
    room = 448
    keys, values = (drawn(KV, ANSWERS * room, WIDTH) for _ in range(2))
    # torch reads a float32 cache faster than a bfloat16 one: its own side has what suits it.
    wide_keys, wide_values = keys.float(), values.float()
    query = drawn(ANSWERS, HEADS, WIDTH)
    starts = [place * room for place in range(ANSWERS)]
    where = torch.tensor([[start, CONTEXT] for start in starts])
    grouped = query.float().view(ANSWERS, 1, KV, HEADS // KV, WIDTH)

    def by_torch() -> Tensor:
        found = []
        for row, start in zip(grouped, starts, strict=True):
            seen = (slice(None), slice(None), slice(start, start + CONTEXT))
            found.append(scaled_dot_product_attention(row, wide_keys[None][seen], wide_values[None][seen]))
        return torch.cat(found)

    yield (
        f"attention of {ANSWERS} answers over {CONTEXT} tokens each",
        by_torch,
        lambda: attention.attend(query, (keys, values), where, CONTEXT, Rule(WIDTH**-0.5)),
    )
    if not supported():
        return
    asked = drawn(PROMPT, HEADS, WIDTH)
    q, k, v = (one.unsqueeze(0) for one in (asked.transpose(0, 1), keys[:, :PROMPT], values[:, :PROMPT]))
    yield (
        f"attention of a prompt of {PROMPT} tokens",
        lambda: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        lambda: chunk.attend(asked, (keys, values), 0, 0, Rule(WIDTH**-0.5)),
    )


def _products(drawn: Callable[..., Tensor], count: int) -> Case:
    """All products of the model, one after the other: its weights pass once."""
    shapes = [((HEADS + 2 * KV) * WIDTH, HIDDEN), (HIDDEN, HIDDEN), (2 * INNER, HIDDEN), (HIDDEN, INNER)] * LAYERS
    weights = [drawn(*shape) for shape in (*shapes, (VOCABULARY, HIDDEN))]
    read = {width: drawn(count, width) for width in (HIDDEN, INNER)}
    laid = [torch.ops.mkldnn._reorder_linear_weight(one, 16) for one in weights]
    ours = [PairedWeight(one, None) for one in weights] if supported() else []

    def by_onednn() -> None:
        for one, weight in zip(weights, laid, strict=True):
            torch.ops.mkldnn._linear_pointwise(read[one.shape[1]], weight, None, "none", [], "")

    def by_kernel() -> None:
        for one, weight in zip(weights, ours, strict=True):
            weight(read[one.shape[1]])

    return f"all products of the model, {count} rows", by_onednn, by_kernel if ours else by_onednn


def _turning(drawn: Callable[..., Tensor]) -> Case:
    """Rotation of queries and keys, and the writing of keys and values."""
    made = drawn(ANSWERS, (HEADS + 2 * KV) * WIDTH)
    angles = torch.rand(ANSWERS, WIDTH // 2) * 6
    turns = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), -1)
    layer, places = (drawn(KV, 7168, WIDTH), drawn(KV, 7168, WIDTH)), torch.arange(ANSWERS) * 448
    return (
        f"rotation and keeping of {ANSWERS} rows",
        lambda: plain.turn(made, turns, layer, places, None),
        lambda: rows.turn(made, turns, layer, places, None),
    )


def _steps() -> Iterator[Case]:
    """Whole steps of the model: by torch's operations alone, and as the engine runs them."""
    config = Qwen2Config(
        hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=KV,
        intermediate_size=INNER, vocab_size=VOCABULARY, max_position_embeddings=4096, tie_word_embeddings=True,
        dtype="bfloat16",
    )  # fmt: skip

    def made() -> tuple[LeanModel, Cache]:
        torch.manual_seed(0)
        model = LeanModel(Qwen2ForCausalLM(config).bfloat16())
        cache = Cache(ANSWERS * 448, model.shapes, model.dtype, model.device)
        for layer in cache.layers:
            for one in layer:
                one.normal_()
        return model, cache

    with _torch_alone():
        theirs = made()
    ours = made()

    def by_torch(parts: list[Part]) -> Side:
        def run() -> None:
            with _torch_alone():
                theirs[0].run(Batch.of(parts, theirs[0].device), theirs[1])

        return run

    def by_kernels(parts: list[Part]) -> Side:
        return lambda: ours[0].run(Batch.of(parts, ours[0].device), ours[1])

    for count in (1, ANSWERS):
        answers = [Part([5], CONTEXT - 1, number * 448) for number in range(count)]
        yield (
            f"a whole step of {count} answers over {CONTEXT} tokens each, up to their logits",
            by_torch(answers),
            by_kernels(answers),
        )
    prompt = [Part(list(range(256)), 0, 0)]
    yield "a whole step of a prompt of 256 tokens", by_torch(prompt), by_kernels(prompt)


@contextmanager
def _torch_alone() -> Iterator[None]:
    """The engine as it is where kernels read no tensors."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(kernels, "run", return_value=False))
        stack.enter_context(patch.object(products, "pays", return_value=False))
        yield


def compared(case: Case, rounds: int, passing: Tensor) -> dict[str, float]:
    """Median microseconds of both sides, in turn."""
    _, *sides = case
    taken: Sequence[list[float]] = ([], [])
    for turn in range(rounds + 2):
        both = list(zip(sides, taken, strict=True))
        for side, times in both if turn % 2 else reversed(both):
            passing.sum()
            began = time.perf_counter()
            side()
            times.append((time.perf_counter() - began) * 1e6)
    return {name: round(statistics.median(times[2:]), 1) for name, times in zip(("torch", "ours"), taken, strict=True)}


def main() -> None:
    """Compare everything, on one thread and on all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    passing = torch.zeros(FLUSH // 4)
    found: list[dict[str, Any]] = []
    with torch.inference_mode():
        for case in cases():
            row: dict[str, Any] = {"what": case[0]}
            for threads in sorted({1, cores}):
                torch.set_num_threads(threads)
                row[f"threads_{threads}"] = compared(case, options.rounds, passing)
            found.append(row)
            print(row, flush=True)
    told = {"machine": machine("outcrop", "torch", "numba"), "unit": "microseconds, median", "cases": found}
    options.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
