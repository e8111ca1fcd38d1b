"""How much memory and disk a job needs, and how much of both there is here.

Memory comes from a calibration where there is one, else from the headers of the weights and a formula, and the answer
says which. What a GPU has only torch knows, so a calibration's child: until it has told, there is no verdict. Knows
sizes; nothing of time or money.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from outcrop import sizes
from outcrop.datasets.plan import Plan
from outcrop.estimate.calibration import Calibration
from outcrop.estimate.foresight import Foresight
from outcrop.records import TrainSpec
from outcrop.sources import memory
from outcrop.sources.fit import Fit, fit
from outcrop.sources.look import Look, adapter_rank, look
from outcrop.sources.memory import Memory
from outcrop.sources.step import GRADIENT, MASTER, OPTIMIZER, PROCESS, manner

NEAR: Final = 1.1
"""What a peak that was measured is divided by and multiplied with: no two runs of a program have quite the same."""
GPU_NUMBER: Final = 2
"""Bytes of a number that a GPU multiplies with: bfloat16."""
PLENTY: Final = Memory(1 << 62, 1 << 62)
"""What a GPU is taken to have until it is asked: no decision is made here in its place."""
SHARD: Final = 5
"""Bytes of a token in a shard: its id and its label mark."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes of the training process at its largest, and what they are for."""

    source: Literal["calibration", "formula"]
    of: Literal["cpu", "gpu"]
    """Whose memory it is."""
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass keeps for the backward pass, in the largest step."""
    recomputed: bool
    """Whether layers keep their inputs only and are computed again, as there is too little memory otherwise."""
    otherwise: int
    """The most likely without that, reckoned."""
    process: int
    """Python, torch and what else is there before any weights."""
    needed: int
    """The most likely."""
    low: int
    high: int
    """A run's peak lies between these two."""
    available: int | None
    """None where only a GPU's driver could tell."""
    known: bool = True
    """Whether all that layers keep is reckoned or measured; else activations, and the sums with them, are a guess."""

    @property
    def fits(self) -> bool | None:
        """Whether there is that much free now; None where that is not known."""
        return self.needed <= self.available if self.known and self.available is not None else None

    def document(self) -> dict[str, Any]:
        """As JSON's types, bytes."""
        return asdict(self) | {"fits": self.fits}


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes under the data directory while the job runs and after it."""

    data: int
    """The dataset's copy, gone once it is tokenised."""
    shards: int
    checkpoints: int
    result: int
    """The finished weights: what stays."""
    needed: int
    """At the largest moment."""
    free: int

    @property
    def fits(self) -> bool:
        """Whether the disk has that much free now."""
        return self.needed <= self.free

    def document(self) -> dict[str, Any]:
        """As JSON's types, bytes."""
        return asdict(self) | {"fits": self.fits}


def trained(spec: TrainSpec, seen: Look) -> int:
    """Numbers that the job trains."""
    return seen.parameters if spec.method == "full" else seen.lora_parameters(spec.lora_rank)


def foreseen(spec: TrainSpec, plan: Plan, *, on_gpu: bool = False) -> Fit:
    """How the plan's largest step would go into this machine's memory now; a GPU's is taken to be enough."""
    seen = look(Path(spec.base), spec.base_name)
    if on_gpu:
        return fit(spec, seen, plan, replace(manner(seen, GPU_NUMBER), blocks=False, on_gpu=True), PLENTY)
    return fit(spec, seen, plan, manner(seen, memory.number_bytes(seen.width)), memory.here())


def reckoned(found: Fit) -> MemoryNeed:
    """From the weights' headers, the plan's largest step and a formula."""
    need, on_gpu = found.chosen, found.there is PLENTY
    return MemoryNeed(
        source="formula",
        of="gpu" if on_gpu else "cpu",
        parameters=need.parameters,
        gradients=need.gradients,
        optimizer=need.optimizer,
        activations=need.activations,
        recomputed=found.recomputes,
        otherwise=found.plain.total,
        process=need.process + need.kernels,
        needed=need.total,
        low=need.least,
        high=need.most,
        available=None if on_gpu else found.there.free,
        known=need.known,
    )


def measured(spec: TrainSpec, found: Calibration, before: Fit) -> MemoryNeed:
    """From the largest step of the plan, as it really ran; before: what was reckoned of it."""
    seen = look(Path(spec.base), spec.base_name)
    numbers = found.trainable_parameters
    narrow = found.dtype in ("bfloat16", "float16")
    weights = found.parameters * (2 if narrow else 4) + (numbers * MASTER if spec.method == "full" and narrow else 0)
    gradients, optimizer = numbers * GRADIENT, numbers * OPTIMIZER
    on_device = found.device_peak_bytes
    peak = on_device or found.peak_bytes
    process = 0 if on_device else min(PROCESS, max(0, found.loaded_bytes - seen.bytes))
    return MemoryNeed(
        source="calibration",
        of="gpu" if on_device else "cpu",
        parameters=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=max(0, peak - weights - gradients - optimizer - process),
        recomputed=found.recomputed,
        otherwise=before.plain.total if found.recomputed else peak,
        process=process,
        needed=peak,
        low=round(peak / NEAR),
        # Of a few steps: the kernels of other lengths come on top of them in a whole run.
        high=max(round(peak * NEAR), before.chosen.most if before.plain.known and not on_device else 0),
        available=found.device_free_bytes if on_device else memory.here().free,
    )


def disk(spec: TrainSpec, plan: Foresight, files: Sequence[Path], place: Path) -> DiskNeed:
    """What the job's directory and the finished weights take. place: a folder on the disk that it will use."""
    seen = look(Path(spec.base), spec.base_name)
    numbers = trained(spec, seen)
    data = sum(path.stat().st_size for path in files)
    shards = (plan.tokens // max(1, plan.epochs) + plan.validation_tokens) * SHARD
    checkpoints = sizes.checkpoints(numbers, early_stopping=spec.early_stopping_patience is not None)
    return DiskNeed(
        data=data,
        shards=shards,
        checkpoints=checkpoints,
        result=(result := _result(spec, seen)),
        needed=shards + max(data, checkpoints + result),
        free=shutil.disk_usage(place).free,
    )


def _result(spec: TrainSpec, seen: Look) -> int:
    """Bytes of the finished weights: a whole model, or one adapter that does what its parent's and its own did."""
    if spec.method == "full" or spec.whole_parent:
        return seen.bytes
    rank = spec.lora_rank + (adapter_rank(Path(spec.parent)) if spec.parent else 0)
    return seen.lora_parameters(rank) * sizes.NUMBER
