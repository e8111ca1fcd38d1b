"""A program: every kernel over tensors that end, or begin, where memory does; one number too far ends it by a signal.

    python -m tests.engines.guard_pages [beyond]

What kernels allocate lies so too, filled with what is no number: the answers must be those of tensors as usual.
beyond: reads too far on purpose, which shows that it would be noticed.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from outcrop.kernels import DTYPES, attention, chunk, peaks, product, rows
from outcrop.kernels.rule import Rule
from outcrop.kernels.thin import Thin, ThinRows

PAGE = mmap.PAGESIZE
SIDES = ("before", "behind")
Made = Callable[..., Tensor]

_system = ctypes.CDLL(None)
_system.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_held: list[mmap.mmap] = []
_torch: Any = torch


def guarded(shape: tuple[int, ...], dtype: torch.dtype, side: str) -> Tensor:
    """A tensor with a page beside it that nobody may touch."""
    size = torch.Size(shape).numel() * dtype.itemsize
    pages = -(-size // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    _held.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        assert _system.mprotect(start + page * PAGE, PAGE, 0) == 0
    offset = PAGE if side == "before" else (pages + 1) * PAGE - size
    found = torch.frombuffer(memory, dtype=torch.uint8, count=size, offset=offset).fill_(0xFF)
    return found.view(dtype).view(shape)


@contextmanager
def everything_guarded(side: str) -> Iterator[None]:
    """What kernels ask torch for lies so too."""
    usual = torch.empty, torch.empty_like, Tensor.new_empty

    def sized(shape: tuple[Any, ...]) -> tuple[int, ...]:
        return shape if isinstance(shape[0], int) else tuple(shape[0])

    _torch.empty = lambda *shape, dtype=torch.float32: guarded(sized(shape), dtype, side)
    _torch.empty_like = lambda one: guarded(tuple(one.shape), one.dtype, side)
    _torch.Tensor.new_empty = lambda one, *shape: guarded(sized(shape), one.dtype, side)
    try:
        yield
    finally:
        _torch.empty, _torch.empty_like, _torch.Tensor.new_empty = usual


def single_rows(put: Made, dtype: torch.dtype, many: bool) -> list[Tensor]:
    """One sees all of the cache, another one its last place alone."""
    heads, kv, width, wide, places = (6, 2, 24, 33, 131) if many else (1, 1, 3, 1, 1)
    layer = put(kv, places, width), put(kv, places, wide)
    where = torch.tensor([[0, places], [places - 1, 1]])
    return [attention.attend(put(2, heads, width), layer, put(of=where), places, Rule(0.3, cap=3.0 if many else None))]


def several_rows(put: Made, dtype: torch.dtype, many: bool) -> list[Tensor]:
    """A prompt at the very end of the cache."""
    if not chunk.fits(put(1, 1, 2)):
        return []
    heads, kv, width, wide = (6, 2, 24, 65) if many else (1, 1, 2, 1)
    found = []
    for count, before, window in ((70, 65, None), (33, 100, 5), (1, 0, 1), (3, 64, None)):
        layer = put(kv, 7 + count + before, width), put(kv, 7 + count + before, wide)
        query = put(count, heads, width)
        found.append(chunk.attend(query, layer, 7, before, Rule(0.3, window, 2.0 if many else None)))
    return found


def products(put: Made, dtype: torch.dtype, many: bool) -> list[Tensor]:
    """Weights narrower and wider than a tile."""
    if dtype != torch.bfloat16 or not product.supported():
        return []
    outputs, inputs = (130, 34) if many else (1, 2)
    weight = product.PairedWeight(put(outputs, inputs), put(outputs))
    weight._laid, weight._bias = put(of=weight._laid), put(of=weight._bias)
    found = [weight(put(count, inputs)) for count in (1, 2, 5, 129)]
    for count in (1, 2, 5, 129):
        added = put(count, outputs)
        weight.into(added, put(count, inputs), adds=True).run()
        found.append(added)
    return found


def small_change(put: Made, dtype: torch.dtype, many: bool) -> list[Tensor]:
    """Norm, gate, rotation and the largest of a row."""
    count, width = (40, 1000) if many else (1, 1)
    hidden, layer = put(count, width), (put(2, 45, 6), put(2, 45, 6))
    turns = tuple(put(of=torch.rand(40, 6)) for _ in range(2))
    places, heads = put(of=torch.randperm(45)[:40]), rows.Norm(put(5, 6), 1e-6) if many else None
    turned = rows.turn(put(40, 42), (turns[0], turns[1]), layer, places, heads)
    largest, at = peaks.peaks(put(count, width))
    normed = rows.norm(hidden, put(count, width) if many else None, rows.Norm(put(width), 1e-6))
    return [hidden, *layer, turned, largest, torch.tensor(at), normed, rows.gate(put(count, 2 * width))]


def gains(put: Made, dtype: torch.dtype, many: bool) -> list[Tensor]:
    """Adapters of several ranks, none of them for some layers."""
    inputs, widths = (100, [33, 16, 5]) if many else (1, [1, 1, 1])
    ranks = ((1, 5, None), (None, None, 16), (4, 0, 3))
    usual = torch.cat
    _torch.cat = lambda some: put(of=usual(some))
    adapters = []
    for own in ranks:
        pairs = [
            None if rank is None else (put(rank, inputs), put(rank, wide))
            for rank, wide in zip(own, widths, strict=True)
        ]
        adapters.append(Thin.of([pairs]))
    _torch.cat = usual
    gaining = ThinRows([0, 2, 3, 6], [adapters[place] for place in (1, 0, 2, 0)], [(inputs, widths)])
    y = put(7, sum(widths))
    gaining.add(0, put(7, inputs), y)
    return [y]


KERNELS = (single_rows, several_rows, products, small_change, gains)


def drawn(dtype: torch.dtype, side: str | None) -> Made:
    """Makes tensors of a shape, or as another one, guarded on one side or as usual."""

    def put(*shape: int, of: Tensor | None = None) -> Tensor:
        found = torch.randn(shape).to(dtype) if of is None else of
        return (
            found if side is None or not found.numel() else guarded(tuple(found.shape), found.dtype, side).copy_(found)
        )

    return put


def main(arguments: list[str]) -> None:
    """Run them all."""
    if arguments == ["beyond"]:
        narrow, wide = guarded((3, 8), torch.float32, "behind"), torch.empty(3, 4096)
        rows._gate(False)(1, narrow.data_ptr(), wide.data_ptr(), 3, 4096)
        print("nobody noticed")
        return
    torch.set_num_threads(2)
    for kernel in KERNELS:
        for dtype in DTYPES:
            for many in (True, False):
                torch.manual_seed(1)
                expected = kernel(drawn(dtype, None), dtype, many)
                for side in SIDES:
                    torch.manual_seed(1)
                    with everything_guarded(side):
                        found = kernel(drawn(dtype, side), dtype, many)
                    for one, other in zip(found, expected, strict=True):
                        assert torch.equal(one, other), (kernel.__name__, dtype, many, side)
    print("done")


if __name__ == "__main__":
    main(sys.argv[1:])
