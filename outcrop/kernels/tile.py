"""The heart of a bfloat16 product: a few rows times 64 columns, in registers, by the processor's own pairwise product.

Written as LLVM instructions, since no loop in Python says "multiply these pairs of bfloat16 and add both to a float32"
(AVX512-BF16). Knows addresses; what lies there is said by `kernels.product`.
"""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from outcrop.kernels.native import prefetch

LANES: Final = 16
"""Columns of a vector."""

VECTORS: Final = 4
"""Vectors beside each other: so many loads share each number of a row."""

_LONG, _WORD, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_FLOATS, _WORDS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_WORD, LANES)


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

    def __init__(self, builder: Any, height: int, rounds: bool) -> None:
        self._to, self._height, self._rounds = builder, height, rounds

    def write(
        self, x: Any, x_step: Any, rows: Any, weight: Any, block: Any, pairs: Any, found: Any, step: Any, bias: Any,
        ahead: Any,
    ) -> None:  # fmt: skip
        """See `_tile`; x_step and step: bytes from a row to the next."""
        to = self._to
        reads, writes = self._rows(x, x_step, rows), self._rows(found, step, rows)
        weights = [to.add(weight, to.mul(block, self._long(vector))) for vector in range(VECTORS)]
        begun = [self._load(to.add(bias, self._long(4 * LANES * vector)), _FLOATS, 4) for vector in range(VECTORS)]
        before, loop, after = to.block, to.append_basic_block("pairs"), to.append_basic_block("through")
        to.branch(loop)
        to.position_at_end(loop)
        pair = to.phi(_LONG)
        pair.add_incoming(self._long(0), before)
        sums = [[to.phi(_FLOATS) for _ in range(VECTORS)] for _ in range(self._height)]
        to.call(*prefetch(to, to.add(ahead, to.shl(pair, self._long(6)))))
        columns = [self._load(to.add(one, to.shl(pair, self._long(6))), _WORDS, 4) for one in weights]
        for row, read in zip(sums, reads, strict=True):
            numbers = self._spread(self._load(to.add(read, to.shl(pair, self._long(2))), _WORD, 2))
            for number, (total, column) in enumerate(zip(row, columns, strict=True)):
                added = self._product(total, numbers, column)
                total.add_incoming(begun[number], before)
                total.add_incoming(added, loop)
        following = to.add(pair, self._long(1))
        pair.add_incoming(following, loop)
        to.cbranch(to.icmp_signed("<", following, pairs), loop, after)
        to.position_at_end(after)
        for row, there in zip(sums, writes, strict=True):
            for vector, total in enumerate(row):
                # What a phi was given last is what it stands for here.
                last = total.incomings[1][0]
                size, kind, made = (2, _HALVES, self._rounded(last)) if self._rounds else (4, _FLOATS, last)
                place = to.add(there, self._long(size * LANES * vector))
                to.store(made, to.inttoptr(place, kind.as_pointer())).align = size

    def _rows(self, first: Any, step: Any, rows: Any) -> list[Any]:
        """The address of each row; beyond the last one it is the last one's, which is made again."""
        to, last = self._to, self._to.sub(rows, self._long(1))
        places = [self._long(row) for row in range(self._height)]
        within = [to.select(to.icmp_signed("<", place, rows), place, last) for place in places]
        return [to.add(first, to.mul(place, step)) for place in within]

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


def _tile(height: int, rounds: bool) -> Any:
    """An intrinsic for so many rows; `rounds`: its product is bfloat16, else float32.

    Its arguments, all int64: x, bytes from one of its rows to the next, how many rows there are (fewer: the last one is
    made again); weight (VECTORS, …, LANES, 2), bytes from one vector's to the next one's, and how many pairs of numbers
    are multiplied; where the product goes and bytes from one of its rows to the next; bias (VECTORS * LANES) float32;
    where to read ahead, a line for each pair.
    """

    @intrinsic
    def tile(
        context: Any, x: Any, x_step: Any, rows: Any, weight: Any, block: Any, pairs: Any, found: Any, step: Any,
        bias: Any, ahead: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _Writer(builder, height, rounds).write(*arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), generate

    return tile


FEW, MANY = 1, 4
"""Rows of a tile."""

few, many, exact = _tile(FEW, True), _tile(MANY, True), _tile(MANY, False)
