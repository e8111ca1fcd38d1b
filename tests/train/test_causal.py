"""The segments' own attention and likelihood against torch's: values and gradients."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention

from outcrop.train.causal import BLOCK, attention
from outcrop.train.likelihood import (
    Pieces,
    _losses,
    _losses_on_cpu,
    head_likelihood,
    negative_log_likelihood,
)

CLOSE = {torch.float64: 1e-5, torch.float32: 2e-5, torch.bfloat16: 3e-2}


def expected(query: Tensor, key: Tensor, value: Tensor, lengths: list[int], scale: float) -> Tensor:
    """One segment after the other through torch's own attention, in float64."""
    pieces, start = [], 0
    for length in lengths:
        place = slice(start, start + length)
        q, k, v = (one[None, :, place].double() for one in (query, key, value))
        pieces.append(scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)[0])
        start += length
    return torch.cat(pieces, dim=1).transpose(0, 1)


def assert_alike(found: Tensor, wanted: Tensor, ours: list[Tensor], theirs: list[Tensor]) -> None:
    """The values, and with one gradient from above the gradients of what went in; `theirs` and `wanted` in float64."""
    towards = torch.randn(found.shape).to(found.dtype)
    torch.autograd.backward(found, towards)
    torch.autograd.backward(wanted, towards.double())
    pairs = [(found, wanted), *((mine.grad, other.grad) for mine, other in zip(ours, theirs, strict=True))]
    for mine, other in pairs:
        assert mine is not None
        assert other is not None
        apart, size = (mine.double() - other).abs().max().item(), other.abs().max().item()
        assert apart <= CLOSE[found.dtype] * max(1.0, size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize(
    "runs", [[(1, 1)], [(7, 3)], [(1, 2), (5, 1), (19, 2)], [(BLOCK, 1), (BLOCK + 1, 2)], [(3 * BLOCK - 5, 1)]]
)
def test_attention_is_torchs(dtype: torch.dtype, heads: int, kv_heads: int, runs: list[tuple[int, int]]) -> None:
    torch.manual_seed(sum(length * count for length, count in runs) + heads)
    length, width, scale = sum(one * count for one, count in runs), 16, 0.3
    # As models make them: heads within tokens, so that neither is contiguous.
    made = [torch.randn(length, count, width).to(dtype) for count in (heads, kv_heads, kv_heads)]
    ours = [one.clone().requires_grad_() for one in made]
    theirs = [one.double().requires_grad_() for one in made]
    found = attention(*(one.transpose(0, 1) for one in ours), runs, scale)
    lengths = [one for one, count in runs for _ in range(count)]
    wanted = expected(*(one.transpose(0, 1) for one in theirs), lengths, scale)
    assert found.dtype == dtype
    assert found.shape == (length, heads, width)
    assert_alike(found, wanted, ours, theirs)


@pytest.mark.parametrize("kept", [1, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize(("shared", "runs"), [(3, [(1, 2), (4, 3)]), (BLOCK + 3, [(7, 2), (BLOCK + 1, 1)])])
def test_what_segments_share_is_seen_by_all_and_learns_from_all(  # noqa: PLR0917
    shared: int,
    runs: list[tuple[int, int]],
    kv_heads: int,
    dtype: torch.dtype,
    kept: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(shared)
    monkeypatch.setattr("outcrop.train.causal.KEPT", kept)
    lengths = [one for one, count in runs for _ in range(count)]
    made = [torch.randn(shared + sum(lengths), count, 16).to(dtype) for count in (4, kv_heads, kv_heads)]
    ours = [one.clone().requires_grad_() for one in made]
    theirs = [one.double().requires_grad_() for one in made]
    found = attention(*(one.transpose(0, 1) for one in ours), runs, 0.3, shared)
    pieces, start = [], shared
    for length in lengths:
        whole = (torch.cat((one[:shared], one[start : start + length])).transpose(0, 1) for one in theirs)
        answers = expected(*whole, [shared + length], 0.3)
        pieces.append(answers[shared:] if pieces else answers)
        start += length
    wanted = torch.cat(pieces)
    assert_alike(found, wanted, ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("above", [1.0, 3.0])
@pytest.mark.parametrize("rows", [0, 1, 37])
def test_likelihood_is_torchs(dtype: torch.dtype, rows: int, above: float, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(rows)
    monkeypatch.setattr("outcrop.train.likelihood.CPU", Pieces(rows=8, softmax=1000))
    made, targets = (3 * torch.randn(rows, 91)).to(dtype), torch.randint(91, (rows,))
    ours, theirs = made.clone().requires_grad_(), made.double().requires_grad_()
    found = negative_log_likelihood(ours, targets, 0.125)
    wanted = cross_entropy(theirs, targets, reduction="sum") * 0.125
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), wanted, rtol=1e-6)
    (found * above).backward()
    (wanted * above).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad.double(), theirs.grad, atol=1e-6 if dtype == torch.float32 else 4e-3)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("above", [1.0, 3.0])
@pytest.mark.parametrize("rows", [0, 1, 37])
def test_the_heads_likelihood_is_torchs(  # noqa: PLR0917
    rows: int, above: float, learns: bool, dtype: torch.dtype, on_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunk by chunk, whatever the head does; on_gpu: as it goes there."""
    torch.manual_seed(rows)
    monkeypatch.setattr("outcrop.train.likelihood.CPU", Pieces(rows=8, softmax=1000))
    monkeypatch.setattr("outcrop.train.likelihood.LEARNING", 1700)
    if on_gpu:
        monkeypatch.setattr("outcrop.train.likelihood._losses_on_cpu", _losses)
    made = [(scale * torch.randn(*shape)).to(dtype) for scale, shape in ((1, (rows, 16)), (1, (91, 16)), (1, (91,)))]
    targets = torch.randint(91, (rows,))
    ours = [one.clone().requires_grad_(learns or place == 0) for place, one in enumerate(made)]
    theirs = [one.double().requires_grad_(learns or place == 0) for place, one in enumerate(made)]
    found = head_likelihood(*ours, targets, 0.125)
    wanted = cross_entropy(linear(*theirs), targets, reduction="sum") * 0.125
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(float(wanted.detach()), rel=1e-6 if dtype == torch.float32 else 1e-2)
    (found * above).backward()
    (wanted * above).backward()
    for mine, other in zip(ours, theirs, strict=True):
        if not other.requires_grad:
            assert mine.grad is None
            continue
        assert mine.grad is not None
        assert other.grad is not None
        apart = float((mine.grad.double() - other.grad).abs().max()) if mine.numel() else 0.0
        assert apart <= CLOSE[dtype] * max(1.0, float(other.grad.abs().max()) if mine.numel() else 0.0)


@pytest.mark.parametrize("way", [_losses, _losses_on_cpu])
def test_a_label_that_is_all_but_impossible_costs_what_it_costs(way: Any) -> None:
    exact, label = torch.tensor([[300.0, 0.0, -50.0], [1.0, 2.0, 3.0]]), torch.tensor([[2], [0]])
    shares, nll, chosen = way(exact.clone(), label)
    assert nll.flatten().tolist() == pytest.approx([350.0, cross_entropy(exact[1:], label[1]).item()])
    torch.testing.assert_close(shares, torch.softmax(exact, dim=-1))
    assert torch.equal(chosen, shares.gather(1, label))
