"""Loops over a CPU's memory, compiled by numba for the machine at hand, where torch has no one call for them.

What they cannot read (a GPU's memory, other dtypes) goes through torch.
"""

from typing import Final

import torch

DTYPES: Final = (torch.float32, torch.bfloat16)


def run(device: torch.device, dtype: torch.dtype) -> bool:
    """True where kernels read such tensors."""
    return device.type == "cpu" and dtype in DTYPES
