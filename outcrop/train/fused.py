"""Causal attention of segments by kernels of our own, on CPUs that multiply pairs of bfloat16 numbers.

As `causal`, whose functions it has: scores are never rounded and never stored, only the logarithm of each row's sum is
kept for the way back, which makes them again. Runs are equal to the bit whatever the number of threads. Knows tensors;
nothing of models or of who packs.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from outcrop.train.causal import Heads, Runs

EVEN: Final = 32
WIDEST: Final = 256
"""Heads are multiples of the one wide, and no wider than the other."""


def takes(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether heads of such numbers, so many wide, go this way."""
    return width % EVEN == 0 and width <= WIDEST and _runs(device, dtype)


def runs_on(rows: Tensor) -> bool:
    """Whether kernels take such rows of a layer of their own."""
    return _runs(rows.device, rows.dtype)


def _runs(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type != "cpu" or dtype != torch.bfloat16:
        return False
    # A kernel's compiler is not loaded where none is needed.
    from outcrop.kernels import product

    return product.pays()


def attention(  # noqa: PLR0917
    query: Tensor, key: Tensor, value: Tensor, runs: Runs, scale: float, shared: int = 0, window: int | None = None
) -> Tensor:
    """As causal.attention(); window: how many places a row sees, itself among them."""
    found: Tensor = _Attention.apply(query, key, value, tuple(runs), scale, shared, window)  # type: ignore[no-untyped-call]
    return found


def attend(
    heads: Heads, runs: Runs, scale: float, shared: int = 0, window: int | None = None
) -> tuple[Tensor, list[Tensor]]:
    """What attention() returns, and what descend() wants."""
    from outcrop.kernels import segments

    query, key, value = (_even(one) for one in heads)
    found, sums = segments.attend(query, key, value, segments.cuts(tuple(runs), shared), scale, window or 0)
    return found, [found, sums]


def descend(  # noqa: PLR0917
    above: Tensor,
    heads: Heads,
    kept: Sequence[Tensor],
    runs: Runs,
    scale: float,
    shared: int = 0,
    window: int | None = None,
) -> Heads:
    """Gradients of query, key and value, in their shapes, from that of attend()'s answers and what it kept."""
    from outcrop.kernels import segments, segments_back

    query, key, value = (_even(one) for one in heads)
    found, sums = kept
    cut = segments.cuts(tuple(runs), shared)
    return segments_back.descend(_even(above), query, key, value, found, sums, cut, scale, window or 0)


class _Attention(torch.autograd.Function):
    """The whole row at once."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        runs: Runs,
        scale: float,
        shared: int,
        window: int | None,
    ) -> Tensor:
        """See attention()."""
        found, kept = attend((query, key, value), runs, scale, shared, window)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.how = runs, scale, shared, window
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value, *kept = ctx.saved_tensors
        return *descend(gradients[0], (query, key, value), kept, *ctx.how), None, None, None, None


def _even(rows: Tensor) -> Tensor:
    """The numbers of a row lie beside each other: kernels read them by address."""
    return rows if rows.stride(2) == 1 else rows.contiguous()
