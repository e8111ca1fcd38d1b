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
GRADIENT, OPTIMIZER = 4, 8
"""Bytes of a trained number: its gradient, and AdamW's two moments, all float32."""
PROCESS: Final = 400 << 20
"""Bytes of a training process without weights: torch, transformers and what they keep (measured: 380 to 450 MB).
sources/memory.py has a bound from below, for a no that is sure."""
LOGIT: Final = 30
"""Bytes of one number in a label's row of logits, in all its forms."""
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
    number = 4 if spec.method == "full" else memory.number_bytes(seen.width)
    numbers = trained(spec, seen)
    factors = 0 if spec.method == "full" else numbers * 4
    at_once = max(plan.longest, min(TOKENS_AT_ONCE, spec.batch_size * plan.longest))
    parts = {
        "parameters": seen.parameters * number + factors,
        "gradients": numbers * GRADIENT,
        "optimizer": numbers * OPTIMIZER,
        "activations": at_once * _activation_bytes(seen, number, plan.scored_tokens / max(1, plan.tokens)),
        "process": PROCESS,
    }
    return MemoryNeed(source="formula", **parts, needed=sum(parts.values()), available=memory.here().free)


def measured(spec: TrainSpec, found: Calibration) -> MemoryNeed:
    """From the largest step of the plan, as it really ran."""
    seen = look(Path(spec.base), spec.base_name)
    numbers = found.trainable_parameters
    weights = found.parameters * (2 if found.dtype in ("bfloat16", "float16") else 4)
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


def _activation_bytes(seen: Look, number: int, scored: float) -> int:
    """Bytes that one token leaves behind for the backward pass, `scored` of all tokens being labels.

    Of each layer some 22 vectors of the width (norms, queries, keys, values, attention, residuals, the adapters'
    inputs) and 5.5 of the inner width (gate, up, their product, and its derivative); in bfloat16 about half of them are
    float32 all the same. A label has its row of logits several times over: as computed, as float32, their softmax, and
    the gradients of these. Fitted to the bundled base: docs/decisions/estimates.md has the figures.
    """
    config = seen.config
    layers = int(config.get("num_hidden_layers", config.get("n_layer", 1)))
    inner = int(config.get("intermediate_size") or 4 * seen.width)
    vocabulary = int(config.get("vocab_size", 0))
    vectors = layers * (22 * seen.width + 5.5 * inner) * (3 if number == 2 else 4)
    return round(vectors + scored * vocabulary * LOGIT)
