"""Kernels say what torch's own operations say in float64, of either dtype, on one thread and on two."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from outcrop.engines import plain
from outcrop.kernels import DTYPES, chunk, rows
from outcrop.kernels.attention import attend
from outcrop.kernels.peaks import peaks
from outcrop.kernels.product import PairedWeight, supported
from outcrop.kernels.rule import Rule

NEAR = {torch.float32: 1e-5, torch.bfloat16: 2**-8}
"""Of a number's size: rounding in float32, and once to bfloat16."""


@pytest.fixture(params=[1, 2], autouse=True)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def near(found: Tensor, truth: Tensor) -> None:
    bound = NEAR[found.dtype] * (truth.abs() + truth.abs().mean())
    apart = (found.double() - truth).abs()
    assert bool((apart <= bound).all()), float((apart / bound).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(8, 2, 64, 64), (3, 3, 24, 16), (6, 1, 40, 40)])
@pytest.mark.parametrize("cap", [None, 5.0])
def test_single_rows_attend(dtype: torch.dtype, shape: tuple[int, int, int, int], cap: float | None) -> None:
    heads, kv, width, wide = shape
    torch.manual_seed(heads)
    counts = [1, 2, 3, 4, 63, 200]
    query = (2 * torch.randn(len(counts), heads, width)).to(dtype)
    keys, values = (torch.randn(kv, 1000, size).to(dtype) for size in (width, wide))
    firsts = [900, 0, 500, 20, 100, 301]
    where = torch.tensor([firsts, counts]).t().contiguous()
    found = attend(query, (keys, values), where, max(counts), Rule(width**-0.5, cap=cap))
    for row, (first, count) in enumerate(zip(firsts, counts, strict=True)):
        seen = slice(first, first + count)
        k, v = (one[:, seen].double().repeat_interleave(heads // kv, 0) for one in (keys, values))
        scores = torch.einsum("hd,hkd->hk", query[row].double(), k) * width**-0.5
        scores = scores if cap is None else cap * torch.tanh(scores / cap)
        near(found[row], torch.einsum("hk,hkd->hd", scores.softmax(-1), v))


@pytest.mark.skipif(not supported(), reason="the processor does not multiply pairs of bfloat16 numbers")
@pytest.mark.parametrize("rows_before", [(150, 0), (37, 5), (1, 3), (64, 0), (50, 200), (129, 127)])
@pytest.mark.parametrize("shape", [(8, 2, 64, 64), (4, 4, 16, 24), (2, 1, 24, 72)])
@pytest.mark.parametrize(("window", "cap"), [(None, None), (40, None), (3, 5.0), (None, 5.0)])
def test_chunks_attend(
    rows_before: tuple[int, int], shape: tuple[int, int, int, int], window: int | None, cap: float | None
) -> None:
    (rows, before), (heads, kv, width, wide) = rows_before, shape
    torch.manual_seed(rows + width)
    end, place = before + rows, 7
    query = (2 * torch.randn(rows, heads, width)).bfloat16()
    # Around the sequence lies what must never be read.
    keys, values = (torch.full((kv, end + 80, size), math.nan).bfloat16() for size in (width, wide))
    for one in (keys, values):
        one[:, place : place + end] = torch.randn(kv, end, one.shape[2]).bfloat16()
    found = chunk.attend(query, (keys, values), place, before, Rule(width**-0.5, window, cap))
    k, v = (one[:, place : place + end].double().repeat_interleave(heads // kv, 0) for one in (keys, values))
    scores = torch.einsum("qhd,hkd->hqk", query.double(), k) * width**-0.5
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    distance = torch.arange(before, end)[:, None] - torch.arange(end)
    scores = scores.masked_fill(~((distance >= 0) & (distance < (window or end))), -math.inf)
    truth = torch.einsum("hqk,hkd->qhd", scores.softmax(-1), v)
    assert float((found.double() - truth).norm()) < 0.004 * float(truth.norm())


def test_keys_far_apart_neither_overflow_nor_vanish() -> None:
    keys = torch.tensor([300.0, -300.0, 299.0])[None, :, None].expand(1, 3, 16).contiguous()
    values = torch.eye(3)[None]
    found = attend(torch.ones(1, 1, 16), (keys, values), torch.tensor([[0, 3]]), 3, Rule(1 / 16))
    assert torch.allclose(found[0, 0], torch.tensor([1.0, 0.0, -1.0]).softmax(-1).new_tensor([0.731059, 0, 0.268941]))


def test_what_is_no_number_stays_none() -> None:
    for dtype in DTYPES:
        query, keys = torch.ones(1, 1, 8, dtype=dtype), torch.ones(1, 2, 8, dtype=dtype)
        keys[0, 1, 3] = float("nan")
        found = attend(query, (keys, torch.ones_like(keys)), torch.tensor([[0, 2]]), 2, Rule(1.0))
        assert bool(found.isnan().all())
        hidden = torch.full((1, 8), float("nan"), dtype=dtype)
        assert bool(rows.norm(hidden, None, rows.Norm(torch.ones(8, dtype=dtype), 1e-6)).isnan().all())
        assert bool(rows.gate(torch.full((1, 16), float("nan"), dtype=dtype)).isnan().all())


@pytest.mark.skipif(not supported(), reason="the processor does not multiply pairs of bfloat16 numbers")
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 127, 128, 129, 300])
@pytest.mark.parametrize(("outputs", "inputs"), [(64, 32), (1, 2), (130, 50), (200, 514)])
@pytest.mark.parametrize("biased", [True, False])
def test_products(count: int, outputs: int, inputs: int, biased: bool) -> None:
    torch.manual_seed(count)
    x, weight = torch.randn(count, inputs).bfloat16(), torch.randn(outputs, inputs).bfloat16()
    bias = torch.randn(outputs).bfloat16() if biased else None
    found = PairedWeight(weight, bias)(x)
    truth = x.double() @ weight.double().t() + (0 if bias is None else bias.double())
    near(found, truth)


@pytest.mark.skipif(not supported(), reason="the processor does not multiply pairs of bfloat16 numbers")
@pytest.mark.parametrize("count", [1, 3, 8, 9, 13, 130])
@pytest.mark.parametrize(("outputs", "inputs"), [(70, 16), (64, 34), (33, 2)])
def test_products_that_are_added(count: int, outputs: int, inputs: int) -> None:
    torch.manual_seed(count)
    x, weight = torch.randn(count, inputs).bfloat16(), torch.randn(outputs, inputs).bfloat16()
    found = torch.randn(count, outputs).bfloat16()
    truth = found.double() + x.double() @ weight.double().t()
    PairedWeight(weight, None).into(found, x, adds=True).run()
    near(found, truth)


@pytest.mark.skipif(not supported(), reason="the processor does not multiply pairs of bfloat16 numbers")
def test_a_product_of_what_is_no_number_is_none() -> None:
    x, weight = torch.ones(5, 8).bfloat16(), torch.ones(70, 8).bfloat16()
    x[2, 3], weight[69, 1] = float("nan"), float("inf")
    found = PairedWeight(weight, None)(x)
    assert bool(found[2].isnan().all())
    assert found[0].tolist() == [8.0] * 69 + [float("inf")]


@pytest.mark.skipif(not supported(), reason="the processor does not multiply pairs of bfloat16 numbers")
def test_a_product_reads_what_fits_its_weight_only() -> None:
    product = PairedWeight(torch.ones(70, 8).bfloat16(), None)
    for other in (torch.ones(5, 6).bfloat16(), torch.ones(5, 8), torch.ones(5, 8).half()):
        with pytest.raises(RuntimeError, match="do not meet 8 in bfloat16"):
            product(other)
    # At an odd place of memory, and turned over.
    flat = torch.arange(41).bfloat16()
    assert torch.equal(product(flat[1:].view(5, 8)), flat[1:].view(5, 8).sum(1, keepdim=True).expand(5, 70))
    assert torch.equal(product(flat[1:].view(8, 5).t()), flat[1:].view(8, 5).sum(0)[:, None].expand(5, 70))
    assert product(flat[:0].view(0, 8)).shape == (0, 70)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 8), (16, 512), (300, 130)])
@pytest.mark.parametrize("adds", [True, False])
def test_norms(dtype: torch.dtype, shape: tuple[int, int], adds: bool) -> None:
    torch.manual_seed(shape[0])
    hidden, added = (3 * torch.randn(shape).to(dtype) for _ in range(2))
    weight = torch.rand(shape[1]).to(dtype)
    summed = hidden + added if adds else hidden.clone()
    found = rows.norm(hidden, added if adds else None, rows.Norm(weight, 1e-6))
    assert torch.equal(hidden, summed)
    near(found, plain.norm(hidden.double(), None, rows.Norm(weight.double(), 1e-6)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 8), (16, 3072), (300, 128)])
def test_gates(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    torch.manual_seed(shape[0])
    both = (20 * torch.randn(shape)).to(dtype)
    both[0, :4] = torch.tensor([200.0, -200.0, 0.0, -0.0])
    near(rows.gate(both), plain.gate(both.double()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 511, 512, 513, 5000])
def test_peaks(dtype: torch.dtype, width: int) -> None:
    torch.manual_seed(width)
    drawn = [torch.randn(width), -torch.rand(width), torch.full((width,), -0.0), torch.full((width,), -math.inf)]
    table = torch.stack([*drawn, torch.rand(width).scatter(0, torch.tensor([width // 2]), math.inf)]).to(dtype)
    heights, places = peaks(table)
    assert heights.tolist() == table.max(-1).values.tolist()
    # Of equal ones the first; torch promises none.
    assert places == [row.tolist().index(max(row.tolist())) for row in table]
    for sign in (1.0, -1.0):
        table[:, width // 3] = math.copysign(math.nan, sign)
        assert bool(peaks(table)[0].isnan().all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("count", [1, 16, 200])
def test_turns(dtype: torch.dtype, normed: bool, count: int) -> None:
    torch.manual_seed(count)
    queries, kv, width = 6, 2, 24
    made = torch.randn(count, (queries + 2 * kv) * width).to(dtype)
    angles = torch.rand(count, width // 2) * 6
    turns = angles.cos().repeat(1, 2), torch.cat((-angles.sin(), angles.sin()), -1)
    heads = rows.Norm(torch.rand(queries + kv, width).to(dtype), 1e-6) if normed else None
    places = torch.randperm(400)[:count]
    layer, truth = (tuple(torch.zeros(kv, 400, width, dtype=kind) for _ in range(2)) for kind in (dtype, torch.float64))
    found = rows.turn(made, turns, layer, places, heads)
    exact = None if heads is None else rows.Norm(heads.weight.double(), heads.eps)
    told = plain.turn(made.double(), (turns[0].double(), turns[1].double()), truth, places, exact)
    near(found, told)
    for kept, expected in zip(layer, truth, strict=True):
        near(kept, expected)


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    told = "import torch; from outcrop.kernels import rows; print(rows.gate(torch.tensor([[3.0, 2.0]])).item())"
    (tmp_path / "shut").touch()  # a file stands where the folder would be made
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "shut" / "kernels")}
    done = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(3 / (1 + 2.718281828**-3) * 2)
