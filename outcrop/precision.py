"""How exactly products are taken on a CPU, for both wings that multiply: training and engines. Knows torch alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def products_of(dtype: torch.dtype) -> Iterator[None]:
    """Inside, products of float32 that only hold numbers of `dtype` lose nothing, and take the time of that dtype.

    A bfloat16 product proper would round its results; torch has none on CPUs that leaves them in float32.
    """
    if dtype != torch.bfloat16:
        yield
        return
    settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # made as torch is imported
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before
