"""Our trainer on token ids and label marks that are given, in the rivals' form: a process of its own, as they are.

    python -m benchmarks.ours_train BASE EXAMPLES OUT SETTINGS

Arguments as rivals/trl_train.py's. The very loop, learner and checkpoints of a job; examples in their order.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.monotonic()


def main(base: str, folder: str, out: str, settings: str) -> None:
    """Train and write the weights."""
    import numpy as np
    import torch
    from transformers.utils import logging

    from outcrop.datasets.plan import Plan
    from outcrop.datasets.shards import Shard
    from outcrop.train.checkpoint import Checkpoints
    from outcrop.train.loop import Course, train
    from outcrop.train.memory import usage
    from outcrop.train.text import load_learner

    class InOrder(Plan):
        """The plan that takes examples as they lie, as the peers do."""

        def examples(self, step: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
            """A step's examples."""
            start = step * self.batch_size
            return np.arange(start, min(start + self.batch_size, len(self.train)))

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    given = json.loads(settings)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    place = Path(folder)
    offsets = np.load(place / "offsets.npy")
    shard = Shard(
        tokens=np.load(place / "tokens.npy"),
        scored=np.load(place / "scored.npy"),
        offsets=offsets,
        starts=offsets[:-1],
        sizes=np.diff(offsets),
    )
    plan = InOrder(train=shard, validation=(), epochs=1, batch_size=given["batch_size"], seed=given["seed"])
    learner = load_learner(
        Path(base),
        plan,
        method=given["method"],
        rank=given["rank"],
        alpha=given["alpha"],
        seed=given["seed"],
        device=given["device"],
    )
    course = Course(
        steps=given["steps"],
        steps_per_epoch=plan.steps_per_epoch,
        learning_rate=given["learning_rate"],
        warmup_steps=given["warmup_steps"],
        schedule="linear",
        weight_decay=0.0,
        clip=1.0,
        checkpoint_seconds=60.0,
    )
    events: list[dict[str, Any]] = []

    def emit(kind: str, **members: Any) -> None:
        if kind == "step":
            events.append(members)

    first = time.monotonic() - STARTED
    train(learner, course, Checkpoints(Path(out) / "checkpoint", "benchmark"), emit, lambda: False)
    learner.save(Path(out) / "weights", Path(base), "benchmark")
    result = {
        "saved_at": time.time(),
        "step_seconds": [event["seconds"] for event in events],
        "first_step_at": round(first, 2),
        "losses": [event["loss"] for event in events],
        "attention": learner.layout.slower or learner.layout.told,
        "peak_mib": (usage()["device_peak_bytes"] or usage()["peak_bytes"]) >> 20,
    }
    (Path(out) / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
