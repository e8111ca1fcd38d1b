"""Layers that keep only what they were given, and are computed again on the way back: memory bought with time.

Each layer is such a step of its own, so of all but one only the input is held; the second pass is the first one again,
bit for bit, and so are the gradients. Knows models by their layers; nothing of whether memory is short.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from outcrop.train.block import Block


def install(model: Any) -> int:
    """Have every layer of a decoder computed again on its way back; how many there are, 0 where none is known."""
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [one for one in model.modules() if isinstance(one, Block | GradientCheckpointingLayer)]
    for layer in layers:
        # On the one layer and not on its class: its name and its parameters' names stay what they are.
        layer.forward = partial(_forward, layer.forward)  # type: ignore[method-assign]
    return len(layers)


def installed(model: Any) -> bool:
    """Whether install() has been here."""
    return any("forward" in vars(one) for one in model.modules())


def _forward(layer: Callable[..., Any], *given: Any, **more: Any) -> Any:
    if not torch.is_grad_enabled():
        return layer(*given, **more)
    # use_reentrant: the older way asks for an input that learns, which a frozen embedding's output is not.
    return checkpoint(layer, *given, use_reentrant=False, **more)
