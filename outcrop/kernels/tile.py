"""The heart of a bfloat16 product: a few rows times 64 columns, in registers, by the processor's own pairwise product.

Written as LLVM instructions, since no loop in Python says "multiply these pairs of bfloat16 and add both to a float32"
(AVX512-BF16). Knows addresses; what lies there is said by `kernels.product`.
"""

from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from outcrop.kernels import vectors
from outcrop.kernels.native import LINE, prefetch
from outcrop.kernels.vectors import LANES

VECTORS: Final = 4
"""Vectors beside each other: so many loads share each number of a row."""

WIDE: Final = LANES * VECTORS
"""Columns of a tile."""


class _Writer:
    """Writes one tile's instructions."""

    def __init__(self, builder: Any, kind: "Kind", *, adds: bool = False) -> None:
        self._to, self._kind, self._adds = builder, kind, adds

    def write(
        self, reads: list[Any], weights: list[Any], pairs: Any, writes: list[Any], bias: Any, ahead: Any, pace: Any
    ) -> None:
        """reads, weights, writes: where each row, each vector's first numbers and each row of the product lie.

        ahead: where to bring memory near; pace: how many bytes further with each pair, a line at its begin and one at
        its half.
        """
        to, kind = self._to, self._kind
        begun = self._begun(writes, bias)
        before, loop, after = to.block, to.append_basic_block("pairs"), to.append_basic_block("through")
        to.branch(loop)
        to.position_at_end(loop)
        pair = to.phi(vectors.LONG)
        pair.add_incoming(vectors.long(0), before)
        sums = [[to.phi(vectors.FLOATS) for _ in range(kind.vectors)] for _ in range(kind.height)]
        along = to.mul(pair, vectors.long(LINE * kind.beside))
        near = to.add(ahead, to.mul(pair, pace))
        to.call(*prefetch(to, near))
        if kind.beside > 1:
            to.call(*prefetch(to, to.add(near, to.ashr(pace, vectors.long(1)))))
        columns = [vectors.load(to, to.add(one, along), vectors.WORDS, 4) for one in weights]
        for row, read, begins in zip(sums, reads, begun, strict=True):
            numbers = vectors.spread(to, vectors.load(to, to.add(read, to.shl(pair, vectors.long(2))), vectors.WORD, 2))
            for total, column, begin in zip(row, columns, begins, strict=True):
                added = vectors.product(to, total, numbers, column)
                total.add_incoming(begin, before)
                total.add_incoming(added, loop)
        following = to.add(pair, vectors.long(1))
        pair.add_incoming(following, loop)
        to.cbranch(to.icmp_signed("<", following, pairs), loop, after)
        to.position_at_end(after)
        for row, there in zip(sums, writes, strict=True):
            for vector, total in enumerate(row):
                # What a phi was given last is what it stands for here.
                last = total.incomings[1][0]
                size, made = (2, vectors.rounded(to, last)) if kind.rounds else (4, last)
                vectors.store(to, made, to.add(there, vectors.long(size * LANES * vector)), size)

    def _begun(self, writes: list[Any], bias: Any) -> list[list[Any]]:
        """What sums begin with, by row and vector."""
        to, count = self._to, self._kind.vectors
        if not self._adds:
            places = self.places(bias, vectors.long(4 * LANES), count)
            alike = [vectors.load(to, place, vectors.FLOATS, 4) for place in places]
            return [alike for _ in writes]
        return [[self._widened(place) for place in self.places(row, vectors.long(2 * LANES), count)] for row in writes]

    def _widened(self, place: Any) -> Any:
        """The float32 of what lies there as bfloat16."""
        to = self._to
        wide = to.zext(vectors.load(to, place, vectors.SHORTS, 2), vectors.WORDS)
        return to.bitcast(to.shl(wide, ir.Constant(vectors.WORDS, [16] * LANES)), vectors.FLOATS)

    def places(self, first: Any, step: Any, count: int, last: Any = None) -> list[Any]:
        """Addresses one step behind the other; last: those beyond so many are the last one's."""
        to = self._to
        numbers = [vectors.long(number) for number in range(count)]
        if last is not None:
            end = to.sub(last, vectors.long(1))
            numbers = [to.select(to.icmp_signed("<", number, end), number, end) for number in numbers]
        return [to.add(first, to.mul(number, step)) for number in numbers]


@dataclass(frozen=True, slots=True)
class Kind:
    """Of a tile."""

    height: int
    """Rows."""
    rounds: bool
    """Its product is bfloat16, else float32."""
    vectors: int = VECTORS
    """Of columns."""
    beside: int = 1
    """Vectors whose numbers lie with each pair of numbers."""


def whole(kind: Kind) -> Any:
    """An intrinsic for tiles all of whose rows are there.

    Its arguments: a constant, whether the product is added to what lies where it goes, rounded as it is, or to the bias
    instead; the others int64: x, bytes from one of its rows to the next; weight (…, vectors, LANES, 2), and how many
    pairs of numbers are multiplied; where the product goes and bytes from one of its rows to the next; bias (vectors *
    LANES) float32; where to read ahead, and how many bytes further with each pair: one line, or two.
    """

    @intrinsic(prefer_literal=True)
    def made(
        context: Any, adds: Any, x: Any, x_step: Any, weight: Any, pairs: Any, found: Any, step: Any, bias: Any,
        ahead: Any, pace: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            writer = _Writer(builder, kind, adds=adds.literal_value)
            _, x, x_step, weight, pairs, found, step, bias, ahead, pace = arguments
            reads, writes = writer.places(x, x_step, kind.height), writer.places(found, step, kind.height)
            weights = writer.places(weight, ir.Constant(vectors.LONG, LINE), kind.vectors)
            writer.write(reads, weights, pairs, writes, bias, ahead, pace)
            return context.get_dummy_value()

        return types.void(adds, *[types.int64] * 9), generate

    return made


def ragged(kind: Kind) -> Any:
    """An intrinsic for tiles that may have fewer rows: the last one is made again.

    Its arguments, all int64: x, bytes from one of its rows to the next, how many rows there are; weight (vectors, …,
    LANES, 2), bytes from one vector's to the next one's, and how many pairs of numbers are multiplied; where the
    product goes and bytes from one of its rows to the next; bias (vectors * LANES) float32; where to read ahead, a line
    for each pair.
    """

    @intrinsic
    def made(
        context: Any, x: Any, x_step: Any, rows: Any, weight: Any, block: Any, pairs: Any, found: Any, step: Any,
        bias: Any, ahead: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, x_step, rows, weight, block, pairs, found, step, bias, ahead = arguments
            writer = _Writer(builder, kind)
            reads = writer.places(x, x_step, kind.height, rows)
            writes = writer.places(found, step, kind.height, rows)
            weights = writer.places(weight, block, kind.vectors)
            writer.write(reads, weights, pairs, writes, bias, ahead, ir.Constant(vectors.LONG, LINE))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), generate

    return made


MANY = 4
"""Rows of a tile."""

exact = ragged(Kind(MANY, rounds=False))
