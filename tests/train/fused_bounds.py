"""A program: attention's kernels over tensors that end, or begin, where memory does; one number too far ends it.

    python -m tests.train.fused_bounds [beyond]

What they allocate lies so too, filled with what is no number. beyond: reads too far on purpose.
"""

import sys
from dataclasses import replace

import torch
from torch import Tensor

from outcrop.kernels import segments, segments_back
from tests.engines.guard_pages import SIDES, Made, drawn, everything_guarded

CASES = (
    (((1, 1),), 0, 1, 1, 32, 0),
    (((33, 2), (70, 1), (128, 1)), 0, 4, 2, 64, 0),
    (((3, 2), (61, 1)), 70, 2, 1, 96, 0),
    (((150, 1),), 9, 2, 2, 32, 40),
)


def run(put: Made, case: tuple[tuple[tuple[int, int], ...], int, int, int, int, int]) -> list[Tensor]:
    """Forwards and backwards, with pieces of work of both kinds."""
    runs, shared, heads, kv, width, window = case
    cut = segments.cuts(runs, shared)
    cut = replace(cut, table=put(of=cut.table), blocks=put(of=cut.blocks), chunks=put(of=cut.chunks))
    query, key, value = (put(cut.rows, count, width).transpose(0, 1) for count in (heads, kv, kv))
    found, sums = segments.attend(query, key, value, cut, 0.2, window)
    above, made = put(cut.rows, heads, width), [found, sums]
    for twice in (2.0, 0.0):
        segments_back.TWICE = twice
        segments_back.work.cache_clear()
        made += segments_back.descend(above, query, key, value, found, sums, cut, 0.2, window)
    return made


def main(arguments: list[str]) -> None:
    """Run them all."""
    torch.set_num_threads(2)
    if arguments == ["beyond"]:
        put = drawn(torch.bfloat16, "behind")
        rows = put(40, 1, 32).transpose(0, 1)
        segments.lay_out(rows, segments.cuts(((4000, 1),), 0), turned=True, paired=True)
        print("nobody noticed")
        return
    for case in CASES:
        torch.manual_seed(1)
        expected = run(drawn(torch.bfloat16, None), case)
        for side in SIDES:
            torch.manual_seed(1)
            with everything_guarded(side):
                found = run(drawn(torch.bfloat16, side), case)
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one, other), (case, side)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1:])
