"""Negative log-likelihood of labels from logits, without ever holding the logits in float32.

Autograd's own way keeps the float32 logits, their log-softmax and the gradient of either; a vocabulary is large, and
on a CPU these passes over memory cost as much as a layer. Knows tensors; nothing of models or labels' meaning.
"""

from collections.abc import Iterator
from typing import Any, Final

import torch
from torch import Tensor

CHUNK: Final = 2**20
"""Logits that are taken together: four megabytes in float32, which stay in cache."""


def negative_log_likelihood(logits: Tensor, targets: Tensor, share: float = 1.0) -> Tensor:
    """Sum over all labels, times `share`: a float32 scalar, of (N, vocabulary) logits in any dtype and (N,) targets.

    `share` is one over the labels of an optimizer step: given here, no pass over the gradient is needed to apply it.
    """
    found: Tensor = _Likelihood.apply(logits, targets, share)  # type: ignore[no-untyped-call]
    return found


class _Likelihood(torch.autograd.Function):
    """The gradient is made beside the value, in one reading of the logits, and only scaled afterwards."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, share: float) -> Tensor:
        """See negative_log_likelihood()."""
        found = logits.new_zeros((), dtype=torch.float64)
        slope = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for rows in _chunks(logits):
            label = targets[rows].unsqueeze(1)
            part = logits[rows].float()
            part = part.sub_(part.amax(dim=-1, keepdim=True))
            chosen = part.gather(1, label)
            weights = part.exp_()
            total = weights.sum(dim=-1, keepdim=True)
            found += total.log().sub_(chosen).sum(dtype=torch.float64)
            if slope is not None:
                # Softmax, less one at the label.
                weights = weights.mul_(share / total)
                slope[rows] = weights.scatter_add_(1, label, torch.full_like(total, -share))
        if slope is not None:
            ctx.save_for_backward(slope)
        return (found * share).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The slope, times what comes from above: one, for a loss that is the end of the graph."""
        (slope,) = ctx.saved_tensors
        above = gradients[0]
        return slope if bool(above == 1) else slope * above.to(slope.dtype), None, None


def _chunks(logits: Tensor) -> Iterator[slice]:
    size = max(1, CHUNK // max(1, logits.shape[1]))
    for start in range(0, len(logits), size):
        yield slice(start, start + size)
