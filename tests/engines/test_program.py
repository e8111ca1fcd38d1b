"""A program of kernels: each begins when the one before it is through, whoever comes late, or has no core."""

import torch
from torch import Tensor

from outcrop.kernels.attention import attend_into, scratch_for
from outcrop.kernels.native import Call
from outcrop.kernels.program import Program
from outcrop.kernels.rule import Rule

ROWS, WIDTH, STAGES = 37, 16, 40
THREADS = 5
"""More than there are cores on small machines: some are set aside in the middle of it."""


def chain(one: Tensor, other: Tensor) -> list[Call]:
    """Every row of a stage reads all rows of the one before, and writes over those of the one before that."""
    where = torch.tensor([[0, ROWS]] * ROWS)
    # One for all stages, as a step's layers have it.
    threads = max(THREADS, torch.get_num_threads())
    scratch = scratch_for(threads, 1, (one.view(1, ROWS, WIDTH), one.view(1, ROWS, WIDTH)), ROWS)
    calls = []
    for _ in range(STAGES):
        seen = one.view(1, ROWS, WIDTH)
        calls.append(attend_into(other, one, (seen, seen), where, ROWS, Rule(3.0), scratch))
        one, other = other, one
    return calls


def test_no_stage_begins_before_the_last_is_through() -> None:
    begun = torch.randn(ROWS, 1, WIDTH, generator=torch.Generator().manual_seed(1))
    one, other = begun.clone(), torch.empty_like(begun)
    for call in (calls := chain(one, other)):
        call.run()
    expected = one.clone()
    assert bool(expected.isfinite().all())
    assert not torch.equal(expected, begun)
    program = Program([calls[0], None, *calls[1:], None])
    for threads in (1, *[THREADS] * 100):
        one.copy_(begun)
        program.run(threads)
        assert torch.equal(one, expected)


def test_places_are_filled_and_emptied() -> None:
    begun = torch.randn(ROWS, 1, WIDTH, generator=torch.Generator().manual_seed(2))
    one, other = begun.clone(), torch.zeros_like(begun)
    first, second = chain(one, other)[:2]
    program = Program([None, None])
    program.run(THREADS)
    assert torch.equal(one, begun)
    program.put([1], first)
    program.run(THREADS)
    found = other.clone()
    assert bool(found.any())
    program.put([0, 1], None)
    other.zero_()
    program.run(THREADS)
    assert not bool(other.any())
    program.put([0], first)
    program.put([1], second)
    program.run(THREADS)
    assert torch.equal(other, found)
    assert not torch.equal(one, begun)
