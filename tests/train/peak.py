"""Real steps, each run in a process of its own: python -m tests.train.peak JSON tells what they held and was reckoned.

JSON is a list of {"base", "method", "dtype", "lengths", "free"}: a folder of weights, examples of so many tokens in one
step, and how many bytes the process is told that it may have. A line of JSON for each. They are forked off a process
that has imported everything and computed nothing, as in nursery.py; what it holds by then each of them holds too.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import transformers.models.llama.modeling_llama
import transformers.models.mistral.modeling_mistral
import transformers.models.qwen3.modeling_qwen3  # noqa: F401

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard
from outcrop.records import TrainSpec
from outcrop.sources.fit import fit
from outcrop.sources.look import look
from outcrop.sources.memory import Memory
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.loop import Course, train
from outcrop.train.memory import usage
from outcrop.train.room import make_room, manner_of
from outcrop.train.text import load_learner
from tests.train.nursery import threads

STEPS = 2


def measured(base: str, method: str, dtype: str, lengths: list[int], free: int) -> dict[str, Any]:
    """Load, make room, step."""
    torch.set_num_threads(1)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    scored = (np.arange(offsets[-1]) % 2).astype(np.uint8)
    scored[offsets[:-1]] = 0
    tokens = (np.arange(offsets[-1]) * 7 % 320).astype(np.int32)
    plan = Plan(Shard(tokens, scored, offsets, offsets[:-1], np.diff(offsets)), (), STEPS, len(lengths), seed=0)
    spec = TrainSpec("arn", "job", "m.v1:0:8k", base, "base", "s3://b/t", "s3://b", method=method, lora_rank=4)
    learner = load_learner(Path(base), plan, method=method, rank=4, alpha=8.0, seed=0, device="cpu", dtype=dtype)
    there = Memory(free, free)
    said = make_room(spec, plan, learner, refuse=False, there=there)
    losses: list[float] = []

    def emit(kind: str, **members: Any) -> None:
        losses.extend([members["loss"]] if kind == "step" else [])

    with TemporaryDirectory() as folder:
        course = Course(STEPS, 1, 1e-2, 0, "linear", 0.0, 1.0, 1e9)
        train(learner, course, Checkpoints(Path(folder), "work"), emit, lambda: False)
    found = fit(spec, look(Path(base), "base"), plan, manner_of(learner), there)
    return {
        "said": said,
        "blocks": learner.layout.blocks,
        "losses": losses,
        "peak": usage()["peak_bytes"],
        "total": found.chosen.total,
        "activations": found.chosen.activations,
    }


def main(asked: str) -> None:
    """One child after another."""
    for given in json.loads(asked):
        assert threads() == 1, "a process with threads must not be forked"
        pid = os.fork()
        if pid == 0:
            print(json.dumps(measured(**given)), flush=True)
            os._exit(0)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"{given} failed")


if __name__ == "__main__":
    main(sys.argv[1])
