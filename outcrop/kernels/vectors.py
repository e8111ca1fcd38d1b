"""Numbers, and vectors of sixteen, in LLVM's words: what numba has none for, and tiles and strips are made of.

Pairs of bfloat16 are multiplied and added to float32 at once (AVX512-BF16). Knows llvmlite's builder and addresses.
"""

from typing import Any, Final

from llvmlite import ir

LANES: Final = 16
"""Numbers of a vector."""


class _BFloat(ir.Type):
    """LLVM's bfloat, for which llvmlite has no class."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


LONG, WORD, FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
FLOATS, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(WORD, LANES)
SHORTS = ir.VectorType(ir.IntType(16), LANES)
PAIRS, HALVES = ir.VectorType(_BFloat(), 2 * LANES), ir.VectorType(_BFloat(), LANES)


def long(number: int) -> Any:
    """A number of 64 bits."""
    return ir.Constant(LONG, number)


def load(to: Any, address: Any, kind: Any, align: int) -> Any:
    """What lies at an address."""
    loaded = to.load(to.inttoptr(address, kind.as_pointer()))
    loaded.align = align
    return loaded


def store(to: Any, number: Any, address: Any, align: int) -> None:
    """Have it lie there."""
    to.store(number, to.inttoptr(address, number.type.as_pointer())).align = align


def named(to: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """One of LLVM's own functions."""
    module = to.module
    return module.globals.get(name) or ir.Function(module, ir.FunctionType(result, arguments), name)


def spread(to: Any, pair: Any) -> Any:
    """One pair of numbers in every lane."""
    none = ir.Constant(WORDS, ir.Undefined)
    single = to.insert_element(none, pair, ir.Constant(WORD, 0))
    return to.shuffle_vector(single, none, ir.Constant(WORDS, [0] * LANES))


def product(to: Any, total: Any, left: Any, right: Any) -> Any:
    """total (16 float32) plus, lane by lane, the products of two pairs of bfloat16 (as words)."""
    function = named(to, "llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, [FLOATS, PAIRS, PAIRS])
    return to.call(function, [total, to.bitcast(left, PAIRS), to.bitcast(right, PAIRS)])


def rounded(to: Any, total: Any) -> Any:
    """16 float32 numbers as bfloat16."""
    return to.call(named(to, "llvm.x86.avx512bf16.cvtneps2bf16.512", HALVES, [FLOATS]), [total])
