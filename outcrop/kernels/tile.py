"""The heart of a bfloat16 product: a few rows times 64 columns, in registers, by the processor's own pairwise product.

Written as LLVM instructions, since no loop in Python says "multiply these pairs of bfloat16 and add both to a float32"
(AVX512-BF16). Knows addresses; what lies there is said by `kernels.product`.
"""

from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from outcrop.kernels.native import LINE, prefetch

LANES: Final = 16
"""Columns of a vector."""

VECTORS: Final = 4
"""Vectors beside each other: so many loads share each number of a row."""

WIDE: Final = LANES * VECTORS
"""Columns of a tile."""

_LONG, _WORD, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)
_SHORTS = ir.VectorType(ir.IntType(16), LANES)


class _BFloat(ir.Type):
    """LLVM's bfloat, for which llvmlite has no class."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


_PAIRS, _HALVES = ir.VectorType(_BFloat(), 2 * LANES), ir.VectorType(_BFloat(), LANES)


class _Writer:
    """Writes one tile's instructions."""

    def __init__(self, builder: Any, kind: "Kind") -> None:
        self._to, self._kind = builder, kind

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
        pair = to.phi(_LONG)
        pair.add_incoming(self._long(0), before)
        sums = [[to.phi(_FLOATS) for _ in range(kind.vectors)] for _ in range(kind.height)]
        along = to.mul(pair, self._long(LINE * kind.beside))
        near = to.add(ahead, to.mul(pair, pace))
        to.call(*prefetch(to, near))
        if kind.beside > 1:
            to.call(*prefetch(to, to.add(near, to.ashr(pace, self._long(1)))))
        columns = [self._load(to.add(one, along), _WORDS, 4) for one in weights]
        for row, read, begins in zip(sums, reads, begun, strict=True):
            numbers = self._spread(self._load(to.add(read, to.shl(pair, self._long(2))), _WORD, 2))
            for total, column, begin in zip(row, columns, begins, strict=True):
                added = self._product(total, numbers, column)
                total.add_incoming(begin, before)
                total.add_incoming(added, loop)
        following = to.add(pair, self._long(1))
        pair.add_incoming(following, loop)
        to.cbranch(to.icmp_signed("<", following, pairs), loop, after)
        to.position_at_end(after)
        for row, there in zip(sums, writes, strict=True):
            for vector, total in enumerate(row):
                # What a phi was given last is what it stands for here.
                last = total.incomings[1][0]
                size, kept, made = (2, _HALVES, self._rounded(last)) if kind.rounds else (4, _FLOATS, last)
                place = to.add(there, self._long(size * LANES * vector))
                to.store(made, to.inttoptr(place, kept.as_pointer())).align = size

    def _begun(self, writes: list[Any], bias: Any) -> list[list[Any]]:
        """What sums begin with, by row and vector."""
        to, vectors = self._to, range(self._kind.vectors)
        if not self._kind.adds:
            alike = [self._load(to.add(bias, self._long(4 * LANES * vector)), _FLOATS, 4) for vector in vectors]
            return [alike for _ in writes]
        there = [
            [self._load(to.add(row, self._long(2 * LANES * vector)), _SHORTS, 2) for vector in vectors]
            for row in writes
        ]
        sixteen = ir.Constant(_WORDS, [16] * LANES)
        return [[to.bitcast(to.shl(to.zext(one, _WORDS), sixteen), _FLOATS) for one in row] for row in there]

    def places(self, first: Any, step: Any, count: int, last: Any = None) -> list[Any]:
        """Addresses one step behind the other; last: those beyond so many are the last one's."""
        to = self._to
        numbers = [self._long(number) for number in range(count)]
        if last is not None:
            end = to.sub(last, self._long(1))
            numbers = [to.select(to.icmp_signed("<", number, end), number, end) for number in numbers]
        return [to.add(first, to.mul(number, step)) for number in numbers]

    def _load(self, address: Any, kind: Any, align: int) -> Any:
        loaded = self._to.load(self._to.inttoptr(address, kind.as_pointer()))
        loaded.align = align
        return loaded

    def _spread(self, pair: Any) -> Any:
        """One pair of numbers in every lane."""
        none = ir.Constant(_WORDS, ir.Undefined)
        single = self._to.insert_element(none, pair, ir.Constant(_WORD, 0))
        return self._to.shuffle_vector(single, none, ir.Constant(_WORDS, [0] * LANES))

    def _product(self, total: Any, left: Any, right: Any) -> Any:
        function = self._named("llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [_FLOATS, _PAIRS, _PAIRS])
        return self._to.call(function, [total, self._to.bitcast(left, _PAIRS), self._to.bitcast(right, _PAIRS)])

    def _rounded(self, total: Any) -> Any:
        return self._to.call(self._named("llvm.x86.avx512bf16.cvtneps2bf16.512", _HALVES, [_FLOATS]), [total])

    def _named(self, name: str, result: Any, arguments: list[Any]) -> Any:
        module = self._to.module
        return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)

    @staticmethod
    def _long(number: int) -> Any:
        return ir.Constant(_LONG, number)


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
    adds: bool = False
    """To what lies where the product goes, rounded as it is; else to the bias."""


def whole(kind: Kind) -> Any:
    """An intrinsic for tiles all of whose rows are there.

    Its arguments, all int64: x, bytes from one of its rows to the next; weight (…, vectors, LANES, 2), and how many
    pairs of numbers are multiplied; where the product goes and bytes from one of its rows to the next; bias (vectors *
    LANES) float32; where to read ahead, and how many bytes further with each pair: one line, or two.
    """

    @intrinsic
    def made(
        context: Any, x: Any, x_step: Any, weight: Any, pairs: Any, found: Any, step: Any, bias: Any, ahead: Any,
        pace: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            x, x_step, weight, pairs, found, step, bias, ahead, pace = arguments
            writer = _Writer(builder, kind)
            reads, writes = writer.places(x, x_step, kind.height), writer.places(found, step, kind.height)
            weights = writer.places(weight, ir.Constant(_LONG, LINE), kind.vectors)
            writer.write(reads, weights, pairs, writes, bias, ahead, pace)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

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
            writer.write(reads, weights, pairs, writes, bias, ahead, ir.Constant(_LONG, LINE))
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), generate

    return made


MANY = 4
"""Rows of a tile."""

exact = ragged(Kind(MANY, rounds=False))
