"""What adapters add to few rows: each row's two thin products, over the factors of its own adapter where they lie.

Nothing is gathered or laid beside each other, so rows of many adapters cost what they read. Knows factors, rows and
which factors are whose; nothing of models.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numba import carray
from torch import Tensor

from outcrop.kernels.native import LINE, THREAD, UNIT, Call, Kernel, fetch, floats, longs, take
from outcrop.kernels.numbers import kept, nought, read, stored
from outcrop.kernels.sums import add_four, add_one, product


@dataclass(frozen=True, slots=True, eq=False)
class Thin:
    """An adapter's factors as the kernel reads them."""

    table: Tensor
    """(targets, 2 + layers), int64: where A and where B of a target's layers lie end to end, and each layer's rank."""
    held: tuple[Tensor, ...]
    """What lies there: of each layer A (rank, inputs), and B (rank, outputs) with the scale within."""

    @classmethod
    def of(cls, targets: Sequence[Sequence[tuple[Tensor, Tensor] | None]]) -> "Thin":
        """Layers of each target as (A, B); None: it gains nothing there."""
        table = torch.zeros(len(targets), 2 + max(len(layers) for layers in targets), dtype=torch.int64)
        held = []
        for place, layers in enumerate(targets):
            pairs = [pair for pair in layers if pair is not None]
            if not pairs:
                continue
            a = torch.cat([one.contiguous() for one, _ in pairs])
            b = torch.cat([one.reshape(-1) for _, one in pairs])
            ranks = [0 if pair is None else pair[0].shape[0] for pair in layers]
            table[place, : 2 + len(ranks)] = torch.tensor([a.data_ptr(), b.data_ptr(), *ranks])
            held += [a, b]
        if held:
            # Compiled while an adapter is loaded, not while its first answer waits.
            _kernel(held[0].dtype == torch.bfloat16)
        return cls(table, tuple(held))


class ThinRows:
    """Rows of a step that gain by the kernel, each from its own adapter."""

    def __init__(
        self, rows: Sequence[int], adapters: Sequence[Thin], maps: Sequence[tuple[int, Sequence[int]]]
    ) -> None:
        """maps: of each target, how many numbers it reads and how many each of its layers gives."""
        self._rows = torch.tensor(rows, dtype=torch.int64)
        self._height = max(rows) + 1
        # Their factors are read by address: nobody may let go of them while these rows are.
        self._factors = tuple(factor for one in adapters for factor in one.held)
        self._kinds = {factor.dtype for factor in self._factors}
        # By target: those of one product lie beside each other.
        self._tables = torch.stack([one.table for one in adapters]).transpose(0, 1).contiguous()
        self._outputs = [torch.tensor(widths, dtype=torch.int64) for _, widths in maps]
        self._maps = [(inputs, sum(widths)) for inputs, widths in maps]
        self._gains = self._tables[:, :, 0].any(1).tolist()
        self._rank = int(self._tables[:, :, 2:].sum(-1).max())

    def add(self, target: int, x: Tensor, y: Tensor) -> None:
        """Add to rows of y (rows, outputs), in place, what their adapters make of x (rows, inputs).

        Raises RuntimeError for tensors of other shapes or another dtype than the factors': past them lies anything.
        """
        if not self._gains[target]:
            return
        if (x.shape[1], y.shape[1]) != self._maps[target] or not self._height <= x.shape[0] == y.shape[0]:
            raise RuntimeError(f"adapters do not map {tuple(x.shape)} to {tuple(y.shape)}")
        if {x.dtype, y.dtype} != self._kinds or not y.is_contiguous():
            raise RuntimeError(f"adapters do not read {x.dtype} or do not write {y.dtype}, or not end to end")
        # Some layers read a view, such as a state-space model's turned over.
        x = x.contiguous()
        call = self.into(target, x, y)
        if call is not None:
            call.run()

    def into(self, target: int, x: Tensor, y: Tensor) -> Call | None:
        """The same of x and y end to end, to be run later; None where nobody gains anything there."""
        if not self._gains[target]:
            return None
        (count,), table, threads = self._rows.shape, self._tables[target], torch.get_num_threads()
        room = x.shape[1] + y.shape[1] + self._rank
        scratch = torch.empty(threads, room, dtype=torch.float32)
        return Call(
            _kernel(x.dtype == torch.bfloat16),
            min(threads, count),
            (
                x.data_ptr(),
                y.data_ptr(),
                self._rows.data_ptr(),
                table.data_ptr(),
                self._outputs[target].data_ptr(),
                scratch.data_ptr(),
                count,
                x.shape[0],
                x.shape[1],
                y.shape[1],
                len(self._outputs[target]),
                table.shape[1],
                room,
            ),
            (x, y, self._rows, self._tables, self._outputs[target], scratch, *self._factors),
        )


@cache
def _kernel(half: bool) -> Kernel:
    size, like = 2 if half else 4, nought(half)

    def gain(numbers: Any) -> None:
        count, height, inputs, outputs = numbers[8], numbers[9], numbers[10], numbers[11]
        layers, columns, room = numbers[12], numbers[13], numbers[14]
        rows, widths = carray(longs(numbers[4]), (count,)), carray(longs(numbers[6]), (layers,))
        table = carray(longs(numbers[5]), (count, columns))
        x, y = stored(numbers[2], (height, inputs), like), stored(numbers[3], (height, outputs), like)
        thread = take(numbers, THREAD)
        own = carray(floats(numbers[7]), ((thread + 1) * room,))[thread * room :]
        wide, low = own[:inputs], own[inputs + outputs :]
        unit = take(numbers, UNIT)
        while unit < count:
            row, ranks, held = rows[unit], np.int64(0), np.int64(0)
            for layer in range(layers):
                ranks += table[unit, 2 + layer]
                held += table[unit, 2 + layer] * widths[layer]
            a = stored(table[unit, 0], (ranks, inputs), like)
            if ranks > 0:
                for number in range(inputs):
                    wide[number] = read(x[row, number])
            # While A is read B is brought near, and while B is, the next row's A; a share with each rank.
            share = held * size // (LINE * max(ranks, np.int64(1))) + 1
            for rank in range(ranks):
                for line in range(share):
                    fetch(table[unit, 1] + (rank * share + line) * LINE)
                low[rank] = product(wide, a[rank], inputs)
            following = take(numbers, UNIT)
            ahead = table[following, 0] if following < count else np.int64(0)
            first = column = place = np.int64(0)
            for layer in range(layers):
                ranks, width = table[unit, 2 + layer], widths[layer]
                b = stored(table[unit, 1] + size * place, (ranks, width), like)
                sums = own[inputs + column : inputs + column + width]
                if ranks > 0:
                    for number in range(width):
                        sums[number] = read(y[row, column + number])
                fours = ranks - ranks % 4
                for rank in range(0, fours, 4):
                    if ahead != 0:
                        for line in range(4 * inputs * size // LINE):
                            fetch(ahead + (first + rank) * inputs * size + line * LINE)
                    add_four(sums, low[first + rank : first + rank + 4], b[rank : rank + 4], width)
                for rank in range(fours, ranks):
                    add_one(sums, low[first + rank], b[rank], width)
                if ranks > 0:
                    for number in range(width):
                        y[row, column + number] = kept(sums[number], like)
                first, column, place = first + ranks, column + width, place + ranks * width
            unit = following

    return Kernel(gain)
