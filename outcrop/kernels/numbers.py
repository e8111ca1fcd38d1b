"""Numbers within kernels: bfloat16 from and to float32, the exponential function as a loop can be made wide over it.

numba widens every sum of integers to 64 bits; each is cut back at once, or half as many go into a vector. Knows numba
only.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from outcrop.kernels.native import FAST, as_bits, as_float, floats, halves

inlined: Final[Any] = njit(fastmath=FAST, error_model="numpy", forceinline=True)
"""For a function of numbers."""

part: Final[Any] = njit(inline="always")
"""For a part of a kernel with a name of its own. It is as if it stood where it is called: what is `inlined` LLVM first
simplifies by itself, not knowing the sizes that its kernel knows, and loops come out otherwise."""


@inlined
def _widened(half: Any) -> Any:
    """The float32 of a bfloat16's bits."""
    return as_float(np.uint32(np.uint32(half) << np.uint32(16)))


@inlined
def _halved(number: Any) -> Any:
    """The bits of the bfloat16 nearest to a float32, of two as near the even one; what is no number stays none."""
    found = as_bits(number)
    odd = np.uint32(np.uint32(found >> np.uint32(16)) & np.uint32(1))
    rounded = np.uint32(np.uint32(np.uint32(found + np.uint32(0x7FFF)) + odd) >> np.uint32(16))
    none = np.uint32(found & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    return np.uint16(np.uint32(0x7FC0) if none else rounded)


def nought(half: bool) -> Any:
    """A number that says how others are stored, as the bits of a bfloat16 or as float32: what a kernel closes over."""
    return np.uint16(0) if half else np.float32(0.0)


def stored(address: Any, shape: Any, like: Any) -> Any:
    """In kernels: the numbers from an address on, stored as `like` is."""
    raise NotImplementedError("numba compiles it; Python does not run it")


def read(number: Any) -> Any:
    """In kernels: the float32 of a number as it is stored, float32 or the bits of a bfloat16."""
    raise NotImplementedError("numba compiles it; Python does not run it")


def kept(number: Any, like: Any) -> Any:
    """In kernels: a float32 as it is stored where `like` is."""
    raise NotImplementedError("numba compiles it; Python does not run it")


@overload(stored, strict=False)
def _stored(address: Any, shape: Any, like: Any) -> Callable[[Any, Any, Any], Any]:
    if isinstance(like, types.Integer):
        return lambda address, shape, like: carray(halves(address), shape)
    return lambda address, shape, like: carray(floats(address), shape)


@overload(read, strict=False)
def _read(number: Any) -> Callable[[Any], Any]:
    if isinstance(number, types.Integer):
        return lambda number: _widened(number)
    return lambda number: number


@overload(kept, strict=False)
def _kept(number: Any, like: Any) -> Callable[[Any, Any], Any]:
    if isinstance(like, types.Integer):
        return lambda number, like: _halved(number)
    return lambda number, like: number


@inlined
def exp(number: Any) -> Any:
    """e to the power of a number of at most 88, within three units of the last place; 0 from -87 down."""
    # In this order what is no number counts as -87 here: as an integer it would be anything.
    whole = np.floor(max(np.float32(-87.0), number) * np.float32(1.44269504) + np.float32(0.5))
    # ln 2 in two parts, so that what is left is exact.
    rest = (number - whole * np.float32(0.693359375)) - whole * np.float32(-2.12194440e-4)
    series = np.float32(1.9875691500e-4)
    series = series * rest + np.float32(1.3981999507e-3)
    series = series * rest + np.float32(8.3334519073e-3)
    series = series * rest + np.float32(4.1665795894e-2)
    series = series * rest + np.float32(1.6666665459e-1)
    series = series * rest + np.float32(5.0000001201e-1)
    series = series * rest * rest + rest + np.float32(1.0)
    raised = series * as_float(np.uint32(np.uint32(np.int32(np.int32(whole) + np.int32(127))) << np.uint32(23)))
    return np.float32(0.0) if number <= np.float32(-87.0) else raised


@inlined
def sigmoid(number: Any) -> Any:
    """1 / (1 + exp(-number))."""
    # Of a number and its mirror image the one that is not positive is raised: that never overflows.
    raised = exp(-abs(number))
    return (raised if number < 0 else np.float32(1.0)) / (np.float32(1.0) + raised)


@inlined
def ordered(word: Any) -> Any:
    """A float32's bits as an integer in the order of the numbers, what is none first or last; and back again."""
    return np.int32(word ^ np.int32(np.int32(word >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@part
def highest(words: Any, count: Any) -> Any:
    """The largest of so many float32 numbers, whose bits are given: where one is none, that or none of the others."""
    found = np.int32(-(1 << 31))
    for place in range(count):
        found = max(found, ordered(words[place]))
    return as_float(np.uint32(ordered(found)))
