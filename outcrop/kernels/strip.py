"""Strips of bfloat16 products, eight rows times 32 columns in registers, of operands that lie in any steps.

As `kernels.tile`, for products that are chained: left operands may lie by pairs as right ones do, and a product may be
added to what is there. And squares of words with rows and columns changed, which makes right operands of rows. Written
as LLVM instructions (AVX512-BF16). Knows addresses.
"""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from outcrop.kernels.tile import LANES

HEIGHT: Final = 8
"""Rows of a strip."""

VECTORS: Final = 2
WIDE: Final = VECTORS * LANES
"""Columns of a strip."""

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


def _long(number: int) -> Any:
    return ir.Constant(_LONG, number)


def _load(to: Any, address: Any, kind: Any, align: int) -> Any:
    loaded = to.load(to.inttoptr(address, kind.as_pointer()))
    loaded.align = align
    return loaded


def _store(to: Any, number: Any, address: Any, align: int) -> None:
    to.store(number, to.inttoptr(address, number.type.as_pointer())).align = align


def _named(to: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    module = to.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def _spread(to: Any, pair: Any) -> Any:
    """One pair of numbers in every lane."""
    none = ir.Constant(_WORDS, ir.Undefined)
    single = to.insert_element(none, pair, ir.Constant(_WORD, 0))
    return to.shuffle_vector(single, none, ir.Constant(_WORDS, [0] * LANES))


def _write(to: Any, adds: bool, given: Any) -> None:
    """See `_strip`."""
    x, x_step, pair_step, rows, weight, block, pairs, found, step = given
    last = to.sub(rows, _long(1))
    places = [_long(row) for row in range(HEIGHT)]
    within = [to.select(to.icmp_signed("<", place, rows), place, last) for place in places]
    reads = [to.add(x, to.mul(place, x_step)) for place in within]
    writes = [
        [to.add(found, to.add(to.mul(place, step), _long(4 * LANES * vector))) for vector in range(VECTORS)]
        for place in places
    ]
    product = _named(to, "llvm.x86.avx512bf16.dpbf16ps.512", _FLOATS, [_FLOATS, _PAIRS, _PAIRS])
    nothing = ir.Constant(_FLOATS, [0.0] * LANES)
    begun = [[_load(to, one, _FLOATS, 4) if adds else nothing for one in row] for row in writes]
    before, loop, after = to.block, to.append_basic_block("pairs"), to.append_basic_block("through")
    to.branch(loop)
    to.position_at_end(loop)
    pair, far, near = to.phi(_LONG), to.phi(_LONG), to.phi(_LONG)
    for one in (pair, far, near):
        one.add_incoming(_long(0), before)
    sums = [[to.phi(_FLOATS) for _ in range(VECTORS)] for _ in range(HEIGHT)]
    columns = [
        to.bitcast(_load(to, to.add(to.add(weight, near), to.mul(block, _long(vector))), _WORDS, 4), _PAIRS)
        for vector in range(VECTORS)
    ]
    for row, read, start in zip(sums, reads, begun, strict=True):
        numbers = to.bitcast(_spread(to, _load(to, to.add(read, far), _WORD, 2)), _PAIRS)
        for total, column, first in zip(row, columns, start, strict=True):
            added = to.call(product, [total, numbers, column])
            total.add_incoming(first, before)
            total.add_incoming(added, loop)
    following = to.add(pair, _long(1))
    pair.add_incoming(following, loop)
    far.add_incoming(to.add(far, pair_step), loop)
    near.add_incoming(to.add(near, _long(4 * LANES)), loop)
    to.cbranch(to.icmp_signed("<", following, pairs), loop, after)
    to.position_at_end(after)
    for row, there in zip(sums, writes, strict=True):
        for total, place in zip(row, there, strict=True):
            # What a phi was given last is what it stands for here.
            _store(to, total.incomings[1][0], place, 4)


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
        last = to.sub(rows, _long(1))
        lines = []
        for number in range(LANES):
            place = to.select(to.icmp_signed("<", _long(number), rows), _long(number), last)
            lines.append(_load(to, to.add(x, to.mul(place, step)), _WORDS, 2))
        # Of lines that are `apart`, halves of runs of so many words change places.
        apart = LANES // 2
        while apart:
            upper = [lane if not lane & apart else lane - apart + LANES for lane in range(LANES)]
            lower = [lane + apart if not lane & apart else lane + LANES for lane in range(LANES)]
            made = list(lines)
            for number in range(LANES):
                if not number & apart:
                    pair = lines[number], lines[number + apart]
                    made[number] = to.shuffle_vector(*pair, ir.Constant(_WORDS, upper))
                    made[number + apart] = to.shuffle_vector(*pair, ir.Constant(_WORDS, lower))
            lines = made
            apart //= 2
        for number, line in enumerate(lines):
            _store(to, line, to.add(found, _long(4 * LANES * number)), 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def paired(context: Any, first: Any, second: Any, found: Any) -> Any:
    """Two rows of LANES bfloat16 numbers as LANES pairs."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to = builder
        short = ir.VectorType(ir.IntType(16), LANES)
        one, other = (_load(to, place, short, 2) for place in arguments[:2])
        mask = ir.Constant(ir.VectorType(_WORD, 2 * LANES), [n // 2 + (n % 2) * LANES for n in range(2 * LANES)])
        _store(to, to.shuffle_vector(one, other, mask), arguments[2], 4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate
