"""A few real training steps in a child process, kept for the next time: what this machine makes of these weights.

Knows how the child is started, what it answers and where answers are kept; nothing of torch, prices or screens. The
child is outcrop/train/calibrate.py.
"""

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from outcrop.datasets.plan import Plan
from outcrop.durable import replace_file
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec

VERSION: Final = 3
"""Counts up when answers of earlier versions must not be used any more."""
COMMAND: Final = ("-P", "-m", "outcrop.train.calibrate")
PATIENCE: Final = 600.0
"""Seconds that a calibration may take before it is given up: three steps of a large model on a slow machine."""
POLL: Final = 0.2
KEPT_SECONDS: Final = 86_400.0
"""How long an answer is good: a day, as machines and their other work change."""
QUIETER: Final = 0.25
"""Where the machine has become this much quieter since, the steps are taken anew."""


class NoCalibration(OutcropError):
    """The steps could not be taken; the message says why. An estimate without them has no time in it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a few steps took on this machine."""

    start_seconds: float
    """From the start of the process to the first step: Python, torch, the weights."""
    step_seconds: float
    """What a step takes besides its tokens: the optimizer, most of all."""
    token_seconds: float
    """What one more token in a step takes."""
    spread: float
    """Standard deviation of measured over foretold seconds of a step."""
    steps: int
    """Steps that were timed."""
    evaluation_token_seconds: float | None
    """A token of a validation set; None where there was none."""
    checkpoint_seconds: float
    checkpoint_bytes: int
    parameters: int
    trainable_parameters: int
    loaded_bytes: int
    """Memory of the process once the weights were loaded."""
    peak_bytes: int
    """Memory of the process at its largest, in the plan's largest step."""
    device_peak_bytes: int
    """Memory of the GPU at its largest; 0 without one."""
    device_free_bytes: int
    """What the child might have had of it in all, when the steps were taken; 0 without one."""
    device: str
    """cpu, or the GPU's name."""
    dtype: str
    threads: int
    recomputed: bool
    """Whether layers were computed again on their way back, for lack of memory."""
    load: float
    """How busy the machine was with other work when they were taken: 0 not at all, 1 every core."""
    cached: bool = False
    """Whether an earlier run took the steps."""

    @property
    def tokens_per_second(self) -> float:
        """Of a step, the optimizer's share left out."""
        return 1 / self.token_seconds if self.token_seconds else 0.0


def calibrate(
    spec: TrainSpec,
    plan: Plan,
    folder: Path,
    kept: Path | None,
    *,
    environment: Mapping[str, str],
    patience: float = PATIENCE,
    again: bool = False,
    pulse: Callable[[], None] = lambda: None,
) -> Calibration:
    """Take the steps, or find what they took the last time under the same circumstances.

    folder: where plan/ lies with the plan's shards. kept: folder of earlier answers; None: none are kept.
    environment: the child's. again: with layers that are computed again on their way back, as the job would have them
    for lack of memory; where there is a GPU the child alone knows which memory counts, and decides. `pulse` is called
    some times a second and may raise. Raises NoCalibration.
    """
    place = kept / f"{_key(spec, plan, environment, again=again)}.json" if kept else None
    load = busy()
    if place is not None and (answer := _kept(place, load)) is not None:
        return fitted(answer, cached=True)
    answer = {"load": load, **_run(spec, folder, environment, patience, pulse, again=again)}
    if place is not None:
        place.parent.mkdir(exist_ok=True)
        replace_file(place, json.dumps({"base": spec.base_name, **answer}, indent=2) + "\n", mode=0o600)
    return fitted(answer)


def busy() -> float:
    """How much others have been working on this machine in the last minute: 0 not at all, 1 every core."""
    return min(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def _kept(place: Path, load: float) -> dict[str, Any] | None:
    """An earlier answer, unless it is old or was taken while the machine was much busier than now."""
    if not place.is_file() or time.time() - place.stat().st_mtime > KEPT_SECONDS:
        return None
    answer: dict[str, Any] = json.loads(place.read_text("utf-8"))
    return answer if answer["load"] <= load + QUIETER else None


def fitted(answer: Mapping[str, Any], *, cached: bool = False) -> Calibration:
    """The child's answer with the line through its steps: seconds = step_seconds + token_seconds * tokens."""
    tokens = np.array([step["tokens"] for step in answer["steps"]], dtype=np.float64)
    seconds = np.array([step["seconds"] for step in answer["steps"]], dtype=np.float64)
    step, token = line(tokens, seconds)
    ratios = seconds / (step + token * tokens)
    evaluation, memory = answer["evaluation"], answer["memory"]
    return Calibration(
        start_seconds=answer["start_seconds"],
        step_seconds=step,
        token_seconds=token,
        spread=float(ratios.std()),
        steps=len(seconds),
        evaluation_token_seconds=evaluation["seconds"] / evaluation["tokens"] if evaluation else None,
        checkpoint_seconds=answer["checkpoint"]["seconds"],
        checkpoint_bytes=answer["checkpoint"]["bytes"],
        parameters=answer["parameters"],
        trainable_parameters=answer["trainable_parameters"],
        loaded_bytes=memory["loaded"],
        peak_bytes=memory["peak"],
        device_peak_bytes=memory["device_peak"],
        device_free_bytes=memory["device_free"],
        device=answer["device"],
        dtype=answer["dtype"],
        threads=answer["threads"],
        recomputed=answer["recomputed"],
        load=answer["load"],
        cached=cached,
    )


def line(tokens: "np.ndarray[Any, np.dtype[np.float64]]", seconds: "np.ndarray[Any, Any]") -> tuple[float, float]:
    """Least squares with neither part below zero: (seconds of a step, seconds of a token)."""
    centred = tokens - tokens.mean()
    weight = float((centred**2).sum())
    slope = float((centred * seconds).sum()) / weight if weight else 0.0
    start = float(seconds.mean() - slope * tokens.mean())
    if slope <= 0 or start < 0:
        # Steps of one length, or noise larger than the difference: all to the tokens, which is right for the mean step.
        return 0.0, float(seconds.sum() / tokens.sum())
    return start, slope


def document(calibration: Calibration) -> dict[str, Any]:
    """As JSON's types, for reports."""
    return {**asdict(calibration), "tokens_per_second": calibration.tokens_per_second}


def _run(
    spec: TrainSpec,
    folder: Path,
    environment: Mapping[str, str],
    patience: float,
    pulse: Callable[[], None],
    *,
    again: bool,
) -> dict[str, Any]:
    """Start the child on the folder and wait for its answer."""
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    with (folder / "calibration.log").open("w+b") as log:
        child = subprocess.Popen(
            [sys.executable, *COMMAND, str(folder), *(["again"] if again else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={name: value for name, value in environment.items() if not name.startswith("AWS_")},
        )
        try:
            code = _wait(child, patience, pulse)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace").strip()
    if code is None:
        raise NoCalibration(f"three training steps took more than {patience:.0f} seconds on this machine")
    if code < 0:
        raise NoCalibration(f"the system ended the training steps (signal {-code}); most likely memory ran out")
    if code:
        raise NoCalibration(said.splitlines()[-1] if said else f"the training steps ended with status {code}")
    answer: dict[str, Any] = json.loads((folder / "calibration.json").read_text("utf-8"))
    return answer


def _wait(child: "subprocess.Popen[bytes]", patience: float, pulse: Callable[[], None]) -> int | None:
    """The child's exit status; None when patience ended first."""
    for _ in range(max(1, round(patience / POLL))):
        try:
            return child.wait(POLL)
        except subprocess.TimeoutExpired:
            pulse()
    return None


def _key(spec: TrainSpec, plan: Plan, environment: Mapping[str, str], *, again: bool) -> str:
    """What an answer depends on: weights, method, batch, lengths, and this machine with its threads."""
    lengths = plan.train.lengths()
    shape = {
        "version": VERSION,
        "weights": [_stamp(Path(folder)) for folder in (spec.base, spec.parent) if folder],
        "method": [spec.method, spec.lora_rank, spec.whole_parent],
        "batch": spec.batch_size,
        # Rounded to a sixth of an octave, so that a few lines more or less are the same circumstances.
        "lengths": [_rounded(float(lengths.mean())), _rounded(float(lengths.max()))],
        "again": again,
        "evaluated": bool(plan.validation),
        "machine": [platform.node(), platform.machine(), sorted(os.sched_getaffinity(0)), platform.python_version()],
        "threads": environment.get("OMP_NUM_THREADS"),
        "devices": environment.get("CUDA_VISIBLE_DEVICES"),
    }
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:32]


def _rounded(number: float) -> int:
    return round(6 * float(np.log2(max(number, 1.0))))


def _stamp(folder: Path) -> list[tuple[str, int, int]]:
    """Which weights lie in a folder, without reading them: names, sizes and times of its files."""
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir())
