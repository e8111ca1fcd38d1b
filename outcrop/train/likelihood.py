"""Negative log-likelihood of labels, without ever holding the logits in float32, or, from hidden states, at all.

Autograd's own way keeps the float32 logits, their log-softmax and the gradient of either; a vocabulary is large, and
on a CPU these passes over memory cost as much as a layer. Knows tensors; nothing of models or labels' meaning.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

LEARNING: Final = 2**27
"""Logits that there are at one time where a head learns: the sum of its gradients is a pass over all of it."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """How much is taken at a time."""

    rows: int
    """That go through a head together: fewer make slow products, and so do rows beyond a multiple of these."""
    softmax: int
    """Logits that are taken together in float32."""


CPU: Final = Pieces(rows=256, softmax=2**19)
"""Two megabytes in float32 stay in cache."""

GPU: Final = Pieces(rows=1024, softmax=2**26)
"""Large kernels, and less than a gigabyte for them with a vocabulary of 128,256."""

VANISHING: Final = 1e-30
"""A share of the softmax below which float32 does not give its logarithm well."""


def negative_log_likelihood(logits: Tensor, targets: Tensor, share: float = 1.0) -> Tensor:
    """Sum over all labels, times `share`: a float32 scalar, of (N, vocabulary) logits in any dtype and (N,) targets.

    `share` is one over the labels of an optimizer step: given here, no pass over the gradient is needed to apply it.
    """
    found: Tensor = _OfLogits.apply(logits, targets, share)  # type: ignore[no-untyped-call]
    return found


def head_likelihood(hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, share: float = 1.0) -> Tensor:
    """The same of (N, width) hidden states and the (vocabulary, width) head that makes logits of them, chunk by chunk.

    Gradients are made in the same passes; that of the head is summed in float32.
    """
    found: Tensor = _OfHidden.apply(hidden, head, bias, targets, share)  # type: ignore[no-untyped-call]
    return found


class _OfLogits(torch.autograd.Function):
    """The gradient is made beside the value, in one reading of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, share: float) -> Tensor:
        """See negative_log_likelihood()."""
        slopes = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        found = _descend(logits, targets, share, slopes)
        ctx.save_for_backward(slopes)
        return (found * share).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The slopes, times what comes from above."""
        return _times(ctx.saved_tensors[0], gradients[0]), None, None


class _OfHidden(torch.autograd.Function):
    """Chunks of rows: logits, their slopes in the same place, and what follows from those."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any, hidden: Tensor, head: Tensor, bias: Tensor | None, targets: Tensor, share: float
    ) -> Tensor:
        """See head_likelihood()."""
        downwards, learns, shifts = ctx.needs_input_grad[:3]
        found = hidden.new_zeros((), dtype=torch.float64)
        to_hidden = torch.empty_like(hidden) if downwards else None
        to_head: Tensor | None = None
        to_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and shifts else None
        at_once = _pieces_of(hidden).rows
        if learns:
            at_once = max(at_once, LEARNING // len(head) // at_once * at_once)
        for rows in _pieces(len(hidden), at_once):
            logits = functional.linear(hidden[rows], head, bias)
            slopes = logits if downwards or learns or shifts else None
            found += _descend(logits, targets[rows], 1.0, slopes)
            # The share is taken inside the products, where it costs no pass and is not rounded.
            if to_hidden is not None:
                torch.addmm(to_hidden[rows], logits, head, beta=0, alpha=share, out=to_hidden[rows])
            if learns:
                piece = torch.addmm(head, logits.t(), hidden[rows], beta=0, alpha=share)
                # Passes over all of a head cost as much as a layer, so a sum is made only where there are several.
                to_head = piece if at_once >= len(hidden) else _added(to_head, piece)
            if to_bias is not None:
                to_bias.add_(logits.sum(dim=0, dtype=torch.float32), alpha=share)
        if learns and to_head is None:
            to_head = torch.zeros_like(head)
        ctx.save_for_backward(to_hidden, *(None if one is None else one.to(head.dtype) for one in (to_head, to_bias)))
        return (found * share).float()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """What was found, times what comes from above."""
        return *(_times(one, gradients[0]) for one in ctx.saved_tensors), None, None


def _added(total: Tensor | None, piece: Tensor) -> Tensor:
    """A sum in float32."""
    return piece.float() if total is None else total.add_(piece)


def _times(found: Tensor | None, above: Tensor) -> Tensor | None:
    """A gradient times what comes from above: one, where the loss is the end of the graph."""
    return found if found is None or bool(above == 1) else found * above.to(found.dtype)


def _descend(logits: Tensor, targets: Tensor, share: float, slopes: Tensor | None) -> Tensor:
    """The sum (float64) over all labels; the gradient of its `share` goes into `slopes`, maybe the logits."""
    found = logits.new_zeros((), dtype=torch.float64)
    losses_of = _losses_on_cpu if logits.device.type == "cpu" else _losses
    for rows in _pieces(len(logits), max(1, _pieces_of(logits).softmax // max(1, logits.shape[1]))):
        label = targets[rows].unsqueeze(1)
        shares, nll, chosen = losses_of(logits[rows].float(), label)
        found += nll.sum(dtype=torch.float64)
        if slopes is not None:
            # Softmax, less one at the label.
            shares.scatter_(1, label, chosen - 1)
            slopes[rows] = shares if share == 1.0 else shares.mul_(share)
    return found


def _losses_on_cpu(exact: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of float32 logits (N, vocabulary): the softmax; of (N, 1) labels: their loss, and their softmax."""
    # One kernel that goes over a row while it is in cache, with an exponential that is faster than exp().
    shares = torch.softmax(exact, dim=-1)
    chosen = shares.gather(1, label)
    if bool((chosen < VANISHING).any()):
        return shares, torch.logsumexp(exact, dim=-1, keepdim=True) - exact.gather(1, label), chosen
    return shares, chosen.log().neg_(), chosen


def _losses(exact: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same without a question, for whose answer a GPU would be waited for."""
    logs = torch.log_softmax(exact, dim=-1)
    nll = logs.gather(1, label).neg_()
    shares = logs.exp_()
    return shares, nll, shares.gather(1, label)


def _pieces_of(tensor: Tensor) -> Pieces:
    return CPU if tensor.device.type == "cpu" else GPU


def _pieces(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
