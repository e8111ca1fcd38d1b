"""Whole models trained in two widths: the model multiplies in a narrow type, the optimizer adds to float32 masters.

A step of a whole model changes most weights by less than bfloat16 can tell, so what is added up must be wider than
what is multiplied. Knows parameters; nothing of what the model is or of the loop.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Masters:
    """The float32 weights of a model whose own weights are their roundings."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        """Take a float32 model's weights as masters and leave roundings in it; gradients go to the masters at once."""
        self._narrow: list[nn.Parameter] = list(model.parameters())
        self.parameters = [nn.Parameter(one.detach()) for one in self._narrow]
        for narrow, master in zip(self._narrow, self.parameters, strict=True):
            # Parameters alone: tables that a model makes for itself, like those of its positions, stay exact.
            narrow.data = master.detach().to(dtype)
            narrow.register_post_accumulate_grad_hook(_handing_to(master))  # type: ignore[no-untyped-call]

    def round(self) -> None:
        """Bring the model up to what its masters have become; whether they changed torch does not always tell."""
        for narrow, master in zip(self._narrow, self.parameters, strict=True):
            narrow.data.copy_(master.detach())

    def widen(self) -> None:
        """Put the masters themselves into the model, to be saved: it is not for training any more."""
        for narrow, master in zip(self._narrow, self.parameters, strict=True):
            narrow.data = master.detach()


def can_narrow(model: Any) -> bool:
    """Whether all weights of an architecture may be rounded: some name parts that must stay float32."""
    kept = (getattr(model, name, None) for name in ("_keep_in_fp32_modules", "_keep_in_fp32_modules_strict"))
    return not any(kept)


def _handing_to(master: nn.Parameter) -> Any:
    """What a parameter does with a finished gradient: adds it to its master's, in float32, and forgets it."""

    def hand(narrow: Tensor) -> None:
        found = narrow.grad
        if found is None:
            return
        narrow.grad = None
        if master.grad is None:
            master.grad = found.float()
        else:
            master.grad.add_(found)

    return hand
