"""Attention by kernels of our own: torch's values and gradients, as exactly as by torch's products, and repeatable."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig

from outcrop.kernels import product, segments, segments_back
from outcrop.train import attention, causal, fused

ROOT = Path(__file__).parents[2]
WORSE = 1.1
"""How much larger its errors may be than those of `causal`, as roots of their mean squares: mostly they are smaller."""

pytestmark = pytest.mark.skipif(not product.pays(), reason="this processor multiplies no pairs of bfloat16 numbers")

Case = tuple[tuple[tuple[int, int], ...], int, int, int, int, int | None]
CASES: dict[str, Case] = {
    "single tokens": (((1, 3),), 0, 4, 4, 32, None),
    "one more than a block": (((64, 1), (65, 2), (63, 1)), 0, 4, 2, 64, None),
    "lengths as they come": (((7, 3), (40, 1), (131, 1), (200, 1)), 0, 6, 1, 32, None),
    "wide heads": (((90, 2),), 0, 2, 1, 256, None),
    "heads of 96": (((33, 1), (70, 1)), 0, 3, 3, 96, None),
    "shared": (((1, 2), (50, 2)), 19, 4, 2, 64, None),
    "much shared": (((9, 3), (70, 1)), 150, 4, 2, 64, None),
    "a window": (((200, 1), (30, 2)), 0, 4, 2, 64, 21),
    "a window over what is shared": (((100, 2),), 77, 4, 2, 32, 65),
    "a window of one": (((70, 1),), 5, 2, 2, 32, 1),
}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def drawn(case: Case) -> tuple[list[Tensor], Tensor]:
    """Query, key and value as models make them, heads within tokens; and what comes from above."""
    runs, shared, heads, kv_heads, width, _ = case
    torch.manual_seed(shared + width)
    total = shared + sum(length * count for length, count in runs)
    made = [torch.randn(total, count, width).bfloat16() for count in (heads, kv_heads, kv_heads)]
    return made, torch.randn(total, heads, width).bfloat16()


def exact(made: list[Tensor], case: Case) -> Tensor:
    """A segment after the other through torch's own attention, in float64."""
    runs, shared, *_, window = case
    pieces, start = [], 0
    for length in [shared] * bool(shared) + [one for one, count in runs for _ in range(count)]:
        before = shared if start else 0
        rows = [*range(before), *range(start, start + length)]
        q, k, v = (one[rows].transpose(0, 1)[None].double() for one in made)
        apart = torch.arange(len(rows))[:, None] - torch.arange(len(rows))
        seen = (apart >= 0) & (apart < (window or len(rows)))
        found = scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.3, enable_gqa=True)[0]
        pieces.append(found[:, before:].transpose(0, 1))
        start += length
    return torch.cat(pieces)


def outcome(way: Any, made: list[Tensor], above: Tensor) -> list[Tensor]:
    """The answers of a way, and the gradients of what went in."""
    given = [one.detach().requires_grad_() for one in made]
    found = way(given)
    return [found.detach(), *torch.autograd.grad(found, given, above.to(found.dtype))]


def by_kernel(case: Case) -> Any:
    runs, shared, *_, window = case

    def way(given: list[Tensor]) -> Tensor:
        query, key, value = (one.transpose(0, 1) for one in given)
        return fused.attention(query, key, value, runs, 0.3, shared, window)

    return way


def by_products(case: Case) -> Any:
    runs, shared, *_, window = case
    lengths = [one for one, count in runs for _ in range(count)]

    def way(given: list[Tensor]) -> Tensor:
        query, key, value = (one.transpose(0, 1) for one in given)
        if attention.sliding_window_spares(lengths, window, shared):
            return causal.attention(query, key, value, runs, 0.3, shared)
        return attention.by_length((query, key, value), lengths, 0.3, shared, window=window)

    return way


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_it_is_torchs_and_as_exact_as_products_of_torch(case: Case) -> None:
    made, above = drawn(case)
    wanted = outcome(lambda given: exact(given, case), [one.double() for one in made], above)
    ours, usual = outcome(by_kernel(case), made, above), outcome(by_products(case), made, above)
    for mine, other, right in zip(ours, usual, wanted, strict=True):
        assert mine.shape == right.shape
        assert mine.dtype == torch.bfloat16
        apart, theirs = (float((one.double() - right).square().mean().sqrt()) for one in (mine, other))
        # What is rounded once, to a number of eight bits, is off by so much at least.
        assert apart <= max(WORSE * theirs, 2**-9 * float(right.abs().max()))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
@pytest.mark.usefixtures("threads")
def test_runs_are_equal_whatever_the_threads_and_however_the_work_is_cut(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, above = drawn(case)
    torch.set_num_threads(1)
    first = outcome(by_kernel(case), made, above)
    for twice in (segments_back.TWICE, 0.0):
        monkeypatch.setattr(segments_back, "TWICE", twice)
        segments_back.work.cache_clear()
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            for one, other in zip(outcome(by_kernel(case), made, above), first, strict=True):
                assert torch.equal(one, other)
    segments_back.work.cache_clear()


def test_a_piece_of_work_for_each_thread_or_smaller_ones() -> None:
    cut = segments.cuts(((64 * 3, 1),), 0)
    assert len(segments_back.work(cut, 8, 2, 2)) == 2
    assert len(segments_back.work(cut, 8, 2, 16)) == 8 * 3 + 2 * 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_number_is_told(place: int) -> None:
    """It reaches those that see it and no segment beside theirs."""
    runs = ((40, 2),)
    made, above = drawn((runs, 0, 2, 2, 32, None))
    made[place][20] = float("nan")
    found, *gradients = outcome(by_kernel((runs, 0, 2, 2, 32, None)), made, above)
    assert found[20].isnan().all()
    assert found[40:].isfinite().all()
    assert gradients[0][20].isnan().all()
    assert gradients[1][20].isnan().all()
    assert all(one[40:].isfinite().all() for one in gradients)


def test_scores_as_large_as_they_come_do_no_harm() -> None:
    made, above = drawn((((50, 1),), 0, 2, 1, 32, None))
    large = [made[0] * 300, made[1] * 300, made[2]]
    case: Case = (((50, 1),), 0, 2, 1, 32, None)
    wanted = outcome(lambda given: exact(given, case), [one.double() for one in large], above)
    ours = outcome(by_kernel(case), large, above)
    torch.testing.assert_close(ours[0].double(), wanted[0], rtol=0.02, atol=0.02)
    assert all(one.isfinite().all() for one in ours)


def test_heads_lie_as_they_like() -> None:
    case: Case = (((30, 1), (70, 1)), 11, 4, 2, 64, None)
    made, above = drawn(case)
    expected = outcome(by_kernel(case), made, above)
    apart = [one.transpose(0, 1).contiguous().transpose(0, 1) for one in made]
    strided = [one.transpose(1, 2).contiguous().transpose(1, 2) for one in made]
    for others in (apart, strided):
        for one, other in zip(outcome(by_kernel(case), others, above), expected, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("dtype", "width", "taken"),
    [
        (torch.bfloat16, 64, True), (torch.bfloat16, 256, True), (torch.bfloat16, 48, False),
        (torch.bfloat16, 288, False), (torch.float32, 64, False),
    ],
)  # fmt: skip
def test_other_heads_go_the_usual_way(dtype: torch.dtype, width: int, taken: bool) -> None:
    assert fused.takes(torch.device("cpu"), dtype, width) == taken
    assert not fused.takes(torch.device("cuda"), dtype, width)


@pytest.mark.parametrize("short", ["value", "head", "rows"])
def test_heads_that_do_not_meet_are_refused(short: str) -> None:
    """They are read by address: past them lies anything."""
    query, key, value = torch.zeros(4, 12, 64).bfloat16(), torch.zeros(2, 12, 64).bfloat16(), torch.zeros(2, 12, 64)
    value = (value[..., :32] if short == "value" else value).bfloat16()
    query = query[:3] if short == "head" else query
    with pytest.raises(RuntimeError, match="do not meet"):
        fused.attention(query, key, value, ((13 if short == "rows" else 12, 1),), 0.3)


def test_values_of_another_width_go_a_segment_at_a_time() -> None:
    """As DeepSeek's have it."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, count, 9, width).bfloat16() for count, width in ((4, 64), (4, 64), (4, 32)))
    module = torch.nn.Module()
    module.config, module.layer_idx = LlamaConfig(), 0  # type: ignore[assignment]
    found, _ = attention.attend(module, query, key, value, None, segments=(4, 5))
    wanted = attention.by_length((query[0], key[0], value[0]), (4, 5), 64**-0.5)
    assert found.shape == (1, 9, 4, 32)
    assert torch.equal(found[0], wanted)


@pytest.mark.parametrize("extra", [(), ("beyond",)])
def test_it_touches_no_other_memory(extra: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "tests.train.fused_bounds", *extra]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode in ((-signal.SIGSEGV, -signal.SIGBUS) if extra else (0,)), done.stderr
    assert done.stdout == ("" if extra else "done\n")
