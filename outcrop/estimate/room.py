"""How much memory and disk a job needs, and how much of both there is here.

Memory comes from a calibration where there is one, else from the headers of the weights and a formula, and the answer
says which. Knows sizes; nothing of time or money.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from outcrop import sizes
from outcrop.estimate.calibration import Calibration
from outcrop.estimate.foresight import Foresight
from outcrop.records import TrainSpec
from outcrop.sources import memory
from outcrop.sources.look import Look, adapter_rank, look

TOKENS_AT_ONCE: Final = 4096
"""Tokens that go through the model together on a CPU; a longer example goes alone (train/text.py)."""
MASTER, GRADIENT, OPTIMIZER = 4, 4, 8
"""Bytes of a trained number: itself, its gradient, and AdamW's two moments, all float32."""
PROCESS: Final = 400 << 20
"""Bytes of a training process without weights: torch, transformers and what they keep (measured: 380 to 450 MB).
sources/memory.py has a bound from below, for a no that is sure."""
KERNELS: Final = 100 << 20
"""Bytes that a first step in bfloat16 adds to it on a CPU, whatever its size: oneDNN's kernels and their buffers."""
DOUBT: Final = 1.4
"""What the formula is divided by and multiplied with: runs were measured from 0.85 to 1.13 of it."""
AGAIN: Final = 1.1
"""The same for a peak that was measured: no two runs of a program have quite the same."""
LOGITS: Final = {"lora": 2**24, "full": 2**27}
"""Logits that there are at one time at most: the head is scored in chunks (train/likelihood.py)."""
SHARD: Final = 5
"""Bytes of a token in a shard: its id and its label mark."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes of the training process at its largest, and what they are for."""

    source: Literal["calibration", "formula"]
    parameters: int
    gradients: int
    optimizer: int
    activations: int
    """What the forward pass keeps for the backward pass, in the largest step."""
    process: int
    """Python, torch and what else is there before any weights."""
    needed: int
    """The most likely."""
    low: int
    high: int
    """A run's peak lies between these two."""
    available: int

    @property
    def fits(self) -> bool:
        """Whether there is that much free now."""
        return self.needed <= self.available

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


def reckoned(spec: TrainSpec, plan: Foresight) -> MemoryNeed:
    """From the weights' headers and a formula."""
    seen = look(Path(spec.base), spec.base_name)
    number = memory.number_bytes(seen.width)
    numbers = trained(spec, seen)
    # Factors in float32, or the float32 masters of weights that multiply in bfloat16.
    beside = numbers * MASTER if spec.method == "lora" or number == 2 else 0
    at_once = max(plan.longest, min(TOKENS_AT_ONCE, spec.batch_size * plan.longest))
    labels = at_once * plan.scored_tokens / max(1, plan.tokens)
    parts = {
        "parameters": seen.parameters * number + beside,
        "gradients": numbers * GRADIENT,
        "optimizer": numbers * OPTIMIZER,
        "activations": at_once * _token_bytes(seen, number) + _logit_bytes(seen, spec, number, labels),
        "process": PROCESS + (KERNELS if number == 2 else 0),
    }
    # While weights are loaded they are there as they are stored, too.
    needed = max(sum(parts.values()), PROCESS + seen.bytes + seen.parameters * number)
    low, high = round(needed / DOUBT), round(needed * DOUBT)
    return MemoryNeed(source="formula", **parts, needed=needed, low=low, high=high, available=memory.here().free)


def measured(spec: TrainSpec, found: Calibration) -> MemoryNeed:
    """From the largest step of the plan, as it really ran."""
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
        parameters=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=max(0, peak - weights - gradients - optimizer - process),
        process=process,
        needed=peak,
        low=round(peak / AGAIN),
        high=round(peak * AGAIN),
        available=found.device_total_bytes or memory.here().free,
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


def _token_bytes(seen: Look, number: int) -> int:
    """Bytes that one token leaves behind for the backward pass.

    Of each layer some 22 vectors of the width (norms, queries, keys, values, attention, residuals, the adapters'
    inputs) and 5.5 of the inner width (gate, up, their product, and its derivative).
    """
    config = seen.config
    layers = int(config.get("num_hidden_layers", config.get("n_layer", 1)))
    inner = int(config.get("intermediate_size") or 4 * seen.width)
    return round(layers * (22 * seen.width + 5.5 * inner) * number)


def _logit_bytes(seen: Look, spec: TrainSpec, number: int, labels: float) -> int:
    """Bytes of the logits that there are at one time, and, where the head learns, of its gradient in float32."""
    vocabulary = int(seen.config.get("vocab_size", 0))
    held = min(labels * vocabulary, LOGITS["full" if spec.method == "full" else "lora"]) * number
    return round(held + (vocabulary * seen.width * GRADIENT if spec.method == "full" else 0))
