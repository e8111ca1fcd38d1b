"""A layer's small change, forwards and backwards: the gate bent by silu, and rotation by positions.

By kernels that take one pass, where they run; else as torch has it. Knows tensors; nothing of layers.
"""

import torch
from torch import Tensor
from torch.nn import functional

from outcrop.train import fused


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, of (N, inner)."""
    if fused.runs_on(gate):
        from outcrop.kernels import passes

        return passes.gated(gate, up)
    return functional.silu(gate).mul_(up)


def gated_back(above: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gate and up, from that of gated(), which is written over."""
    if fused.runs_on(gate):
        from outcrop.kernels import passes

        return passes.gated_back(above, gate, up)
    to_up = functional.silu(gate).mul_(above)
    return torch.ops.aten.silu_backward(above.mul_(up), gate), to_up


def turned(x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False) -> Tensor:
    """(T, heads, width) turned by its positions, (T, width); `back`: the other way, as gradients go."""
    even = cos.shape == sin.shape == (x.shape[0], x.shape[2])
    if fused.runs_on(x) and even and cos.dtype == sin.dtype == x.dtype:
        from outcrop.kernels import passes

        return passes.turned(x, cos, sin, back=back)
    half = x.shape[2] // 2
    swapped = torch.cat((x[..., half:], x[..., :half]), dim=-1)
    sign = torch.ones(2 * half, dtype=sin.dtype)
    sign[half:] = -1
    # The sign of rotate_half lies in the sines here; both halves of them are the same angles.
    along, across = cos.unsqueeze(1), (sin * sign if back else sin * -sign).unsqueeze(1)
    return (x * along).addcmul_(swapped, across)
