"""Kernels one after the other as one call: no Python between them, and no thread is woken for each.

All threads go through the whole list. Who finds nothing left of a kernel waits for those who are still at work on it,
and for nobody else: a thread that the system has set aside between two kernels holds nobody up. Knows calls; nothing
of what they compute.
"""

import ctypes
import platform
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from torch import Tensor

from outcrop.kernels.native import FRONT, LINE, Call, Kernel
from outcrop.kernels.vectors import LONG, long

ROOM: Final = 3 * LINE // 8
"""Numbers that a kernel of a program has: its counters, and what its call says. Whole lines, no two kernels on one."""

CODE, CAME, WENT, STATE = 0, 1, 2, LINE // 8
"""Of each kernel: its address, how many threads have come to it, how many have left it; numbers of a line."""

PATIENCE: Final = 1 << 10
"""Looks at who is still at work, some 20 ns each, between which a waiting thread keeps its core."""


class Program:
    """Calls in their order; where one is None there may be one later."""

    def __init__(self, calls: Sequence[Call | None]) -> None:
        self._numbers = np.zeros((len(calls), ROOM), np.int64)
        self._state = np.zeros((len(calls), STATE), np.int64)
        self._held: list[tuple[Tensor | None, ...]] = [()] * len(calls)
        for place, call in enumerate(calls):
            self.put([place], call)
        counted = [(place, call.rows_at) for place, call in enumerate(calls) if call is not None and call.rows_at >= 0]
        self._counted = np.array([place for place, _ in counted])
        self._counts = np.array([FRONT + number for _, number in counted])

    def put(self, places: Sequence[int], call: Call | None) -> None:
        """Another call for some places, or none."""
        self._state[places, CODE] = 0 if call is None else call.kernel.address
        for place in places:
            self._held[place] = () if call is None else call.held
        if call is not None:
            self._numbers[places, FRONT : FRONT + len(call.numbers)] = call.numbers

    def set(self, places: Sequence[int], number: int, values: Any) -> None:
        """One of the numbers of the calls of some places."""
        self._numbers[places, FRONT + number] = values

    def read(self, rows: int) -> None:
        """So many rows from now on, for all calls that it was made of and that can be told so."""
        self._numbers[self._counted, self._counts] = rows

    def run(self, threads: int) -> None:
        """All of them; `threads`: no more than torch had when the calls were made."""
        self._numbers[:, :FRONT] = 0
        self._state[:, CAME : WENT + 1] = 0
        _through()(threads, self._state.ctypes.data, self._numbers.ctypes.data, len(self._state), _yields())


@cache
def _through() -> Kernel:
    def through(numbers: Any) -> None:
        state, own = numbers[2], numbers[3]
        for _ in range(numbers[4]):
            visit(state, own, numbers[5])
            state += STATE * 8
            own += ROOM * 8

    return Kernel(through)


@cache
def _yields() -> int:
    """The address of the system's function that lets others have this core for a while; 0 where there is none."""
    try:
        return ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
    except (AttributeError, OSError):
        return 0


@intrinsic
def visit(context: Any, state: Any, numbers: Any, yields: Any) -> Any:
    """Help with one kernel, and wait until nobody is at it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        to, nothing = builder, long(0)
        state, numbers, yields = arguments
        there = to.inttoptr(state, LONG.as_pointer())
        came, went = (to.gep(there, [long(place)]) for place in (CAME, WENT))
        code = to.load(there)
        work, wait, again, give, after = (
            to.append_basic_block(name) for name in ("work", "wait", "again", "give", "after")
        )
        to.cbranch(to.icmp_signed("!=", code, nothing), work, after)
        to.position_at_end(work)
        to.atomic_rmw("add", came, long(1), "seq_cst")
        # Whoever finds a piece of work taken sees as well that its taker has come: `take` promises no order, and not
        # all processors keep one.
        to.fence("release")
        kernel = to.inttoptr(code, ir.FunctionType(ir.VoidType(), [LONG.as_pointer()]).as_pointer())
        to.call(kernel, [to.inttoptr(numbers, LONG.as_pointer())])
        to.fence("acquire")
        to.atomic_rmw("add", went, long(1), "seq_cst")
        to.branch(wait)
        to.position_at_end(wait)
        times = to.phi(LONG)
        times.add_incoming(nothing, work)
        # Who has left is asked first: whoever comes in between is counted among those who came.
        left = to.load_atomic(went, "seq_cst", 8)
        to.cbranch(to.icmp_signed("==", left, to.load_atomic(came, "seq_cst", 8)), after, again)
        to.position_at_end(again)
        _rest(to)
        more = to.add(times, long(1))
        tired = to.icmp_signed("==", to.and_(more, long(PATIENCE - 1)), nothing)
        times.add_incoming(more, again)
        to.cbranch(to.and_(tired, to.icmp_signed("!=", yields, nothing)), give, wait)
        to.position_at_end(give)
        # Somebody else may have taken the core of the one who is waited for.
        to.call(to.inttoptr(yields, ir.FunctionType(ir.IntType(32), []).as_pointer()), [])
        times.add_incoming(more, give)
        to.branch(wait)
        to.position_at_end(after)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


def _rest(builder: Any) -> None:
    """Tell the processor that this is a loop that waits, where it has a word for it."""
    if platform.machine() in {"x86_64", "AMD64"}:
        name, kind = "llvm.x86.sse2.pause", ir.FunctionType(ir.VoidType(), [])
        builder.call(builder.module.globals.get(name) or ir.Function(builder.module, kind, name), [])
