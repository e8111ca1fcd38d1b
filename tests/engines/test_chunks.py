"""Several rows of one sequence attend as exactly as bfloat16 numbers allow, however sharp the heads are."""

import pytest
import torch

from outcrop.engines import attention
from outcrop.engines.attention import attend, keep
from outcrop.engines.batch import Batch, Part
from outcrop.kernels.rule import Rule

CPU = torch.device("cpu")


@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("window", [None, 40])
@pytest.mark.parametrize("start_rows", [(0, 150), (90, 140)])
@pytest.mark.parametrize("heads", [(4, 16), (2, 16), (4, 24), (2, 24)])
def test_a_chunk_in_bfloat16(
    start_rows: tuple[int, int],
    heads: tuple[int, int],
    window: int | None,
    tiles: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not tiles:  # as on processors that do not multiply pairs of bfloat16 numbers
        monkeypatch.setattr(attention, "several_fit", lambda query: False)
    (start, rows), (kv_heads, width) = start_rows, heads
    torch.manual_seed(start + width)
    length, scale = start + rows, width**-0.5
    query, key = (3 * torch.randn(length, count, width).bfloat16() for count in (4, kv_heads))
    value = torch.randn(length, kv_heads, width).bfloat16()
    layer = torch.zeros(2, kv_heads, 300, width, dtype=torch.bfloat16).unbind()
    for kept, told in zip(layer, (key, value), strict=True):
        kept[:, 7 : 7 + start] = told[:start].transpose(0, 1)
    batch = Batch([Part(list(range(rows)), start, 7, None, 1)], CPU)
    keep(batch, layer, key[start:], value[start:])
    found = attend(batch, layer, Rule(scale, window), query[start:])
    keys, values = (one.repeat_interleave(4 // kv_heads, 1).double() for one in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query[start:].double(), keys) * scale
    distance = torch.arange(start, length)[:, None] - torch.arange(length)
    seen = (distance >= 0) & (distance < (window or length))
    shares = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    truth = torch.einsum("hqk,khd->qhd", shares, values)
    assert found.dtype == torch.bfloat16
    # Shares and answers are rounded once each, by 2^-9 at most; scores in bfloat16 were off by 0.01 here.
    assert (found.double() - truth).norm() < 0.004 * truth.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("shape", [(4, 24), (3, 16)])
def test_queries_that_do_not_fit_the_keys_are_refused(dtype: torch.dtype, rows: int, shape: tuple[int, int]) -> None:
    layer = torch.zeros(2, 2, 300, 16, dtype=dtype).unbind()
    batch = Batch([Part([1] * rows, 0, 0)], CPU)
    with pytest.raises(RuntimeError, match="do not meet keys"):
        attend(batch, layer, Rule(1.0), torch.zeros(rows, *shape, dtype=dtype))
