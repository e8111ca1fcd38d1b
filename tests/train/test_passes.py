"""A layer's small change by kernels: what torch makes in several passes, rounded once, and no memory beside it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from outcrop.kernels import product
from outcrop.train import fused, norm, rows

ROOT = Path(__file__).parents[2]
ROUNDED = 2**-8
"""A bfloat16 number is off by half of it at most, and what is made of several sums by a little more."""

pytestmark = pytest.mark.skipif(not product.pays(), reason="this processor multiplies no pairs of bfloat16 numbers")

Way = Callable[..., tuple[Tensor, ...]]


def gate(gate: Tensor, up: Tensor, above: Tensor) -> tuple[Tensor, ...]:
    return rows.gated(gate, up), *rows.gated_back(above.clone(), gate, up)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    x = x.view(len(x), -1, cos.shape[1])
    return rows.turned(x, cos, sin), rows.turned(x, cos, sin, back=True)


def even(above: Tensor, x: Tensor, beside: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    scale = x.double().square().mean(dim=1, keepdim=True).add(1e-6).rsqrt()
    found, _ = norm.descend(above, x, scale.float(), weight, beside, learns=False)
    return (found,)


def drawn(way: Way, count: int, width: int, size: float) -> list[Tensor]:
    torch.manual_seed(count)
    wide = [(size * torch.randn(count, 3 * width)).bfloat16() for _ in range(3)]
    if way is turn:
        angles = torch.rand(count, width // 2).repeat(1, 2)
        return [wide[0], angles.cos().bfloat16(), angles.sin().bfloat16()]
    return [*wide, torch.rand(3 * width).bfloat16()] if way is even else wide


@pytest.mark.parametrize("way", [gate, turn, even])
@pytest.mark.parametrize(("count", "width", "size"), [(1, 2, 1.0), (16, 6, 1.0), (37, 64, 1.0), (200, 10, 60.0)])
def test_one_pass_is_torchs_in_float64(
    way: Way, count: int, width: int, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = drawn(way, count, width, size)
    assert fused.runs_on(given[0])
    found = way(*given)
    monkeypatch.setattr(fused, "runs_on", lambda rows: False)
    wanted = way(*(one.double() for one in given))
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.bfloat16
        # Norms in torch are float32 whatever they are given.
        error = ROUNDED * other.abs().double() + 1e-6 * float(other.abs().max()) + 1e-30
        assert bool(((one.double() - other.double()).abs() <= error).all())


@pytest.mark.parametrize("way", [gate, turn, even])
def test_runs_are_equal_whatever_the_threads(way: Way) -> None:
    given, before = drawn(way, 133, 32, 1.0), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(way(*given))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(others, found[0], strict=True))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e38, -1e38])
def test_the_gate_says_of_extremes_what_torch_says(number: float) -> None:
    given = torch.full((1, 40), number).bfloat16()
    for up in (1.0, -2.0):
        other = torch.full_like(given, up)
        torch.testing.assert_close(
            rows.gated(given, other), functional.silu(given.float()).mul(up).bfloat16(), equal_nan=True
        )


@pytest.mark.parametrize("beyond", [False, True])
def test_no_pass_touches_other_memory(beyond: bool) -> None:
    command = [sys.executable, "-m", "tests.train.pass_bounds", *["beyond"][: int(beyond)]]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in ((-signal.SIGSEGV, -signal.SIGBUS) if beyond else (0,)), done.stderr
    assert done.stdout == ("" if beyond else "done\n")


@pytest.mark.parametrize("shape", [(5, 32), (4, 64)])
def test_angles_that_do_not_meet_their_heads_are_refused(shape: tuple[int, int]) -> None:
    """They are read by address: past them lies anything."""
    angles = torch.zeros(shape).bfloat16()
    with pytest.raises(RuntimeError):
        rows.turned(torch.zeros(5, 2, 64).bfloat16(), angles, angles)
