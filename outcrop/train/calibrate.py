"""The calibration child: python -m outcrop.train.calibrate DIR [again] takes a few real steps of a plan and times them.

DIR holds spec.json and plan/ as a job's directory does; again: with layers that are computed again on their way back.
The steps go through the very loop of a job: the weights that would run, the plan's own examples, clip, optimizer,
checkpoint. The answer is calibration.json in the directory; nothing of the trained numbers is kept. Knows what `run`
knows but for storage: it fetches and delivers nothing.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from outcrop.children import read_spec
from outcrop.datasets.plan import Plan
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec
from outcrop.sources import memory
from outcrop.sources.fit import fit
from outcrop.sources.look import look
from outcrop.train import repeatable
from outcrop.train.events import StopAsked
from outcrop.train.leave import leave
from outcrop.train.memory import allowed, require_memory, usage
from outcrop.train.room import make_room, manner_of
from outcrop.train.start import course, load, open_plan

if TYPE_CHECKING:
    from torch import nn

    from outcrop.train.loop import Tally
    from outcrop.train.text import TextLearner

ANSWER: Final = "calibration.json"
SECONDS: Final = 4.0
"""How long steps are taken, once the largest one is done."""
FEWEST, MOST = 3, 60
"""Timed steps: at least and at most, whatever they take."""
POOL: Final = 2000
"""Steps of the plan that are looked at to find its shortest, its longest and those between."""
QUANTILES: Final = (0.5, 1.0, 0.0, 0.75, 0.25)
EVALUATION_SECONDS: Final = 1.5


class Sampled:
    """A Learner that does chosen steps of another's plan and no evaluation."""

    def __init__(self, learner: "TextLearner", chosen: list[int]) -> None:
        self._learner, self._chosen = learner, chosen

    def parameters(self) -> "list[nn.Parameter]":
        """See Learner."""
        return self._learner.parameters()

    def learn(self, step: int) -> "Tally":
        """See Learner; the step of that place among the chosen ones."""
        return self._learner.learn(self._chosen[step])

    def validators(self) -> int:
        """See Learner."""
        return 0

    def evaluate(self, validator: int) -> "Iterator[Tally]":
        """See Learner."""
        return iter(())


def calibrate(directory: Path, started: float, *, again: bool) -> dict[str, Any]:
    """Load, step, evaluate, save; what each took. `started`: when the process began, time.monotonic's seconds."""
    spec = read_spec(directory / "spec.json")
    plan = open_plan(spec, directory / "plan")
    require_memory(spec)  # whoever asked may not have been able to tell
    import torch

    learner = load(spec, plan)
    recomputed = _recomputed(spec, plan, learner, again=again)
    repeatable.tried(learner, plan)
    ready = time.monotonic()
    loaded = usage()["peak_bytes"]
    if learner.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    # Whose memory is the largest, which need not be the one of the most tokens.
    heaviest = fit(spec, look(Path(spec.base), spec.base_name), plan, manner_of(learner), memory.here()).step
    steps, saved = _steps(spec, plan, learner, directory, choose(plan, heaviest))
    evaluation, peak = _evaluation(learner), usage()
    return {
        "start_seconds": ready - started,
        "steps": steps,
        "checkpoint": saved,
        "evaluation": evaluation,
        "device": torch.cuda.get_device_name() if learner.device.type == "cuda" else "cpu",
        "dtype": str(learner.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "parameters": learner.total_parameters(),
        "recomputed": recomputed,
        "trainable_parameters": sum(parameter.numel() for parameter in learner.parameters()),
        "memory": {
            "loaded": loaded,
            "peak": peak["peak_bytes"],
            "device_peak": peak["device_peak_bytes"],
            "device_free": allowed(on_gpu=True).free if learner.device.type == "cuda" else 0,
        },
    }


def _recomputed(spec: TrainSpec, plan: Plan, learner: "TextLearner", *, again: bool) -> bool:
    """Have layers computed again where that was asked for; beside a GPU's driver only we know whose memory counts."""
    from outcrop.train import recompute

    if memory.GPU.exists() or learner.device.type == "cuda":
        make_room(spec, plan, learner)
    elif again:
        recompute.install(learner.model)
    return recompute.installed(learner.model)


def choose(plan: Plan, heaviest: int) -> list[int]:
    """Steps of the plan: the heaviest first, a warm-up that needs all the memory a run ever needs; then a mixture."""
    lengths = plan.train.lengths()
    pool = np.unique(np.linspace(0, plan.steps - 1, num=min(plan.steps, POOL)).astype(np.int64))
    tokens = np.array([int(lengths[plan.examples(int(step))].sum()) for step in pool])
    ranked = pool[np.argsort(tokens, kind="stable")]
    mixed = [int(ranked[round(quantile * (len(ranked) - 1))]) for quantile in QUANTILES]
    others = [int(step) for step in pool[:MOST]]
    return [heaviest, *mixed, *others][: MOST + 1]


def _steps(
    spec: TrainSpec, plan: Plan, learner: "TextLearner", directory: Path, chosen: list[int]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The timed steps without the warm-up, and what the checkpoint after them took."""
    from outcrop.train.checkpoint import Checkpoints
    from outcrop.train.loop import train

    told: list[dict[str, Any]] = []
    began: list[float] = []

    def emit(kind: str, **members: Any) -> None:
        if kind == "step":
            told.append(members)
            began.append(time.monotonic())

    def enough() -> bool:
        return len(told) > FEWEST and time.monotonic() - began[0] > SECONDS

    whole = replace(
        course(spec, plan), steps=len(chosen), steps_per_epoch=len(chosen), checkpoint_seconds=1e9, patience=None
    )
    folder = directory / "checkpoint"
    with suppress(StopAsked):  # the usual end: enough was seen
        train(Sampled(learner, chosen), whole, Checkpoints(folder, "calibration"), emit, enough)
    saving = time.monotonic() - began[-1]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    timed = [{name: step[name] for name in ("tokens", "scored_tokens", "seconds")} for step in told[1:]]
    return timed, {"seconds": saving, "bytes": size}


def _evaluation(learner: "TextLearner") -> dict[str, Any] | None:
    """Tokens scored without gradients and how long that took; None without a validation set."""
    if not learner.validators():
        return None
    started, tokens = time.monotonic(), 0
    for tally in learner.evaluate(0):
        tokens += tally.tokens
        if time.monotonic() - started > EVALUATION_SECONDS:
            break
    return {"tokens": tokens, "seconds": time.monotonic() - started}


def main(arguments: list[str]) -> int:
    """Calibrate a directory. Exit status 0 once the answer is written, 1 with a sentence on standard error."""
    started = time.monotonic()
    if arguments[1:] not in ([], ["again"]) or not arguments or not Path(arguments[0]).is_dir():
        print("usage: python -m outcrop.train.calibrate DIR [again]", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    try:
        answer = calibrate(directory, started, again=len(arguments) > 1)
    except OutcropError as error:
        print(str(error), file=sys.stderr)
        return 1
    draft = directory / f".{ANSWER}.{os.getpid()}"
    draft.write_text(json.dumps(answer) + "\n", encoding="utf-8")
    draft.replace(directory / ANSWER)
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
