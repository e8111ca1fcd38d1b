"""Root mean square norm of rows, as Llama and its kin have it: forwards, and backwards in few passes.

Rounded where transformers rounds. Knows tensors; nothing of layers.
"""

import torch
from torch import Tensor

from outcrop.train import fused


def normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """(N, width) rows scaled to size one, times the weight; and what each was scaled by, (N, 1) in float32."""
    wide = x.to(torch.float32, copy=True)
    scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = scale.square_().div_(x.shape[1]).add_(eps).rsqrt_()
    return weight * wide.mul_(scale).to(x.dtype), scale


def descend(
    above: Tensor, x: Tensor, scale: Tensor, weight: Tensor, beside: Tensor | None, *, learns: bool
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the rows (with `beside`, what comes to them around the norm, added) and of the weight."""
    if beside is not None and not learns and fused.runs_on(x) and x.dtype == weight.dtype == above.dtype:
        from outcrop.kernels import passes

        return passes.normed_back(above, x, scale, weight, beside), None
    even = x.to(torch.float32, copy=True).mul_(scale)
    along = above.to(torch.float32, copy=True)
    to_weight = (along * even).sum(dim=0).to(weight.dtype) if learns else None
    along.mul_(weight)
    pull = torch.linalg.vecdot(along, even).unsqueeze(1).div_(x.shape[1])
    along.sub_(even.mul_(pull)).mul_(scale)
    if beside is not None:
        along.add_(beside)
    return along.to(x.dtype), to_weight
