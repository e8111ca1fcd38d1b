"""How much matrix work a step needs, and how much this machine can do in a second: their quotient is the utilisation.

Counted is what the mathematics asks for, once: forward, the gradients of activations, the gradients of trained weights.
What a faster way saves is counted all the same, but for tokens told as spared; what is done twice to spare memory is
counted once. Where an architecture's work cannot be counted, there is no figure.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

SIDE: Final = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices that the rate is measured with: large enough to reach it, over in milliseconds."""
SECONDS: Final = 0.06
FEWEST: Final = 3
"""Products that are timed, at least; the first one warms up."""


@dataclass(frozen=True, slots=True)
class Work:
    """What of a decoder decides the floating point operations of a step."""

    dense: int
    """Frozen matrix elements that every token is multiplied with, the head's left out."""
    head: int
    """Those of the head, which labels alone reach."""
    added: int
    """Elements of the adapter, which are trained."""
    attention: int
    """Layers times heads times their width."""
    full: bool
    """Whether all weights are trained."""

    def step(self, tokens: int, labels: int, lengths: Iterable[int]) -> float:
        """Floating point operations of a step; lengths: of the stretches that see themselves only."""
        passes = 6 if self.full else 4
        # Scores and their use, 2 operations an element each, half of them behind the causal mask; twice that backwards.
        seen = 3 * 2 * self.attention * sum(length * length for length in lengths)
        return float(passes * (self.dense * tokens + self.head * labels) + 6 * self.added * tokens + seen)


def count(model: Any, added: int, *, full: bool) -> Work | None:
    """The work of a decoder with so many adapter elements; None where not every token meets every matrix.

    Mixtures of experts and architectures with convolutions or recurrences are not counted.
    """
    config = model.config.get_text_config()
    if any("expert" in name and isinstance(value, int) and value > 1 for name, value in config.to_dict().items()):
        return None
    parameters = {id(parameter): parameter for parameter in model.parameters()}
    if any(parameter.ndim > 2 for parameter in parameters.values()):
        return None
    head = model.get_output_embeddings()
    apart = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if head is None or not isinstance(getattr(config, "num_hidden_layers", None), int):
        return None
    matrices = {key: one for key, one in parameters.items() if one.ndim == 2 and key not in apart | {id(head.weight)}}
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return Work(
        dense=sum(one.numel() for one in matrices.values()),
        head=head.weight.numel(),
        added=added,
        attention=config.num_hidden_layers * heads * width,
        full=full,
    )


def rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations a second of a large matrix product here and now: the best of a few."""
    side = SIDE.get(device.type, SIDE["cpu"])
    left, right = (torch.ones((side, side), dtype=dtype, device=device) for _ in range(2))
    best, began, timed = float("inf"), time.perf_counter(), 0
    while timed <= FEWEST or time.perf_counter() - began < SECONDS:
        started = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if timed:
            best = min(best, time.perf_counter() - started)
        timed += 1
    return 2.0 * side**3 / best
