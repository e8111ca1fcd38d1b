"""What a layer does to each row by itself, through torch's own operations: where no kernel reads such tensors.

The same three verbs as `kernels.rows`, which says what they are. Knows tensors only.
"""

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from outcrop.kernels.rows import Both, Norm


def norm(hidden: Tensor, added: Tensor | None, by: Norm) -> Tensor:
    """As kernels.rows.norm."""
    if added is not None:
        hidden.add_(added)
    return rms_norm(hidden, (hidden.shape[-1],), by.weight, by.eps)


def gate(both: Tensor) -> Tensor:
    """As kernels.rows.gate."""
    left, right = both.chunk(2, -1)
    return silu(left).mul_(right)


def turn(made: Tensor, turns: Both, layer: Both, places: Tensor, heads: Norm | None) -> Tensor:
    """As kernels.rows.turn."""
    kv, _, width = layer[0].shape
    apart = made.view(made.shape[0], -1, width)
    turning, value = apart[:, :-kv], apart[:, -kv:]
    if heads is not None:
        turning = rms_norm(turning, (width,), None, heads.eps) * heads.weight
    cos, sin = (one.unsqueeze(1) for one in turns)
    turned = torch.addcmul(turning * cos, turning.roll(width // 2, -1), sin).to(made.dtype)
    for cached, one in zip(layer, (turned[:, -kv:], value), strict=True):
        cached.index_copy_(1, places, one.transpose(0, 1))
    return turned[:, :-kv]
