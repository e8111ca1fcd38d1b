"""A program: the passes of a layer over tensors that end, or begin, where memory does; one number too far ends it.

    python -m tests.train.pass_bounds [beyond]

What they allocate lies so too, filled with what is no number. beyond: reads too far on purpose.
"""

import sys

import torch
from torch import Tensor

from outcrop.kernels import passes
from tests.engines.guard_pages import SIDES, Made, drawn, everything_guarded

SHAPES = ((1, 2), (16, 6), (37, 70))


def run(put: Made, count: int, width: int) -> list[Tensor]:
    """All of them."""
    gate, up, above = (put(count, width) for _ in range(3))
    scale = put(of=torch.rand(count, 1))
    heads = put(count, 3, width), put(count, width), put(count, width)
    return [
        passes.gated(gate, up),
        *passes.gated_back(above, gate, up),
        passes.normed_back(above, gate, scale, put(width), up),
        passes.turned(*heads, back=False),
        passes.turned(*heads, back=True),
    ]


def main(arguments: list[str]) -> None:
    """Run them all."""
    torch.set_num_threads(2)
    if arguments == ["beyond"]:
        put = drawn(torch.bfloat16, "behind")
        passes._run(passes._gated(), (40, 4096), [put(3, 8), torch.empty(40, 4096), torch.empty(40, 4096)])
        print("nobody noticed")
        return
    for count, width in SHAPES:
        torch.manual_seed(1)
        expected = run(drawn(torch.bfloat16, None), count, width)
        for side in SIDES:
            torch.manual_seed(1)
            with everything_guarded(side):
                found = run(drawn(torch.bfloat16, side), count, width)
            for one, other in zip(found, expected, strict=True):
                assert torch.equal(one, other), (count, width, side)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1:])
