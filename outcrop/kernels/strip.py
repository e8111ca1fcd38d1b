"""Strips of bfloat16 products, eight rows times 32 columns in registers, of operands that lie in any steps.

As `kernels.tile`, for products that are chained: left operands may lie by pairs as right ones do, and a product may be
added to what is there. And squares of words with rows and columns changed, which makes right operands of rows. Written
as LLVM instructions (AVX512-BF16). Knows addresses.
"""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from outcrop.kernels import vectors
from outcrop.kernels.vectors import LANES

HEIGHT: Final = 8
"""Rows of a strip."""

VECTORS: Final = 2
WIDE: Final = VECTORS * LANES
"""Columns of a strip."""


def _write(to: Any, adds: bool, given: Any) -> None:
    """See `_strip`."""
    x, x_step, pair_step, rows, weight, block, pairs, found, step = given
    last = to.sub(rows, vectors.long(1))
    places = [vectors.long(row) for row in range(HEIGHT)]
    within = [to.select(to.icmp_signed("<", place, rows), place, last) for place in places]
    reads = [to.add(x, to.mul(place, x_step)) for place in within]
    writes = [
        [to.add(found, to.add(to.mul(place, step), vectors.long(4 * LANES * vector))) for vector in range(VECTORS)]
        for place in places
    ]
    nothing = ir.Constant(vectors.FLOATS, [0.0] * LANES)
    begun = [[vectors.load(to, one, vectors.FLOATS, 4) if adds else nothing for one in row] for row in writes]
    before, loop, after = to.block, to.append_basic_block("pairs"), to.append_basic_block("through")
    to.branch(loop)
    to.position_at_end(loop)
    pair, far, near = to.phi(vectors.LONG), to.phi(vectors.LONG), to.phi(vectors.LONG)
    for one in (pair, far, near):
        one.add_incoming(vectors.long(0), before)
    sums = [[to.phi(vectors.FLOATS) for _ in range(VECTORS)] for _ in range(HEIGHT)]
    columns = [
        vectors.load(to, to.add(to.add(weight, near), to.mul(block, vectors.long(vector))), vectors.WORDS, 4)
        for vector in range(VECTORS)
    ]
    for row, read, start in zip(sums, reads, begun, strict=True):
        numbers = vectors.spread(to, vectors.load(to, to.add(read, far), vectors.WORD, 2))
        for total, column, first in zip(row, columns, start, strict=True):
            added = vectors.product(to, total, numbers, column)
            total.add_incoming(first, before)
            total.add_incoming(added, loop)
    following = to.add(pair, vectors.long(1))
    pair.add_incoming(following, loop)
    far.add_incoming(to.add(far, pair_step), loop)
    near.add_incoming(to.add(near, vectors.long(4 * LANES)), loop)
    to.cbranch(to.icmp_signed("<", following, pairs), loop, after)
    to.position_at_end(after)
    for row, there in zip(sums, writes, strict=True):
        for total, place in zip(row, there, strict=True):
            # What a phi was given last is what it stands for here.
            vectors.store(to, total.incomings[1][0], place, 4)


def _strip(adds: bool) -> Any:
    """An intrinsic; `adds`: to what is found there.

    Its arguments, all int64: x, bytes from one of its rows to the next and from a pair to the next, how many rows there
    are (fewer than HEIGHT: the last one is read again); weight (VECTORS, …, LANES, 2), bytes from one vector's to the
    next one's, and how many pairs of numbers are multiplied; where HEIGHT rows of float32 go, and bytes from one to the
    next.
    """

    @intrinsic
    def strip(
        context: Any, x: Any, x_step: Any, pair_step: Any, rows: Any, weight: Any, block: Any, pairs: Any, found: Any,
        step: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _write(builder, adds, arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return strip


fresh, added = _strip(False), _strip(True)


@intrinsic
def crossed(context: Any, x: Any, step: Any, rows: Any, found: Any) -> Any:
    """LANES rows of LANES words (the last of them again where there are fewer), columns as rows, end to end.

    x, bytes from a row to the next, how many there are, where they go: all int64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = builder
        x, step, rows, found = arguments
        last = to.sub(rows, vectors.long(1))
        lines = []
        for number in range(LANES):
            place = to.select(to.icmp_signed("<", vectors.long(number), rows), vectors.long(number), last)
            lines.append(vectors.load(to, to.add(x, to.mul(place, step)), vectors.WORDS, 2))
        # Of lines that are `apart`, halves of runs of so many words change places.
        apart = LANES // 2
        while apart:
            upper = [lane if not lane & apart else lane - apart + LANES for lane in range(LANES)]
            lower = [lane + apart if not lane & apart else lane + LANES for lane in range(LANES)]
            made = list(lines)
            for number in range(LANES):
                if not number & apart:
                    pair = lines[number], lines[number + apart]
                    made[number] = to.shuffle_vector(*pair, ir.Constant(vectors.WORDS, upper))
                    made[number + apart] = to.shuffle_vector(*pair, ir.Constant(vectors.WORDS, lower))
            lines = made
            apart //= 2
        for number, line in enumerate(lines):
            vectors.store(to, line, to.add(found, vectors.long(4 * LANES * number)), 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def paired(context: Any, first: Any, second: Any, found: Any) -> Any:
    """Two rows of LANES bfloat16 numbers as LANES pairs."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = builder
        one, other = (vectors.load(to, place, vectors.SHORTS, 2) for place in arguments[:2])
        mask = ir.Constant(ir.VectorType(vectors.WORD, 2 * LANES), [n // 2 + (n % 2) * LANES for n in range(2 * LANES)])
        vectors.store(to, to.shuffle_vector(one, other, mask), arguments[2], 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate
