"""Loops compiled for this machine: what a kernel is, how it reads tensors, and how its work is shared among threads.

A kernel is a compiled function of one argument, an array of 64-bit numbers: first two counters, then whatever the
kernel says (addresses, sizes). Its threads are torch's own (OpenMP), so there are never two pools for the same cores.
Knows numba and torch's thread pool; nothing of attention or models.
"""

import ctypes
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import llvmlite
import numba
import torch  # its OpenMP must be there first: see _parallel
from llvmlite import ir
from numba import cfunc, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

FAST: Final = {"reassoc", "contract", "arcp", "nsz"}
"""Sums may be taken in any order; infinities and what is no number stay what they are."""

LINE: Final = 64
"""Bytes of a line of memory."""

UNIT, THREAD = 0, 1
"""Counters at the front of every kernel's numbers: the next piece of work, the next thread."""

FRONT: Final = 2
"""How many numbers those are."""


def bits(number: float) -> int:
    """A number as a kernel's argument, to be read by `real`."""
    found: int = struct.unpack("q", struct.pack("d", number))[0]
    return found


class Kernel:
    """A compiled function over an array of numbers."""

    def __init__(self, function: Callable[[Any], None]) -> None:
        # Held on to: the code goes with it.
        self._compiled = _compiled(function)
        self.address: int = self._compiled.address
        self._alone = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.address)

    def __call__(self, threads: int, *numbers: int) -> None:
        """Run on so many threads."""
        array = (ctypes.c_int64 * (FRONT + len(numbers)))(0, 0, *numbers)
        if threads > 1 and _parallel is not None:
            _parallel(self.address, array, threads, 0)
        else:
            self._alone(array)


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a kernel, ready: by itself, or as a part of a program."""

    kernel: Kernel
    threads: int
    """As many as have work in it."""
    numbers: tuple[int, ...]
    held: tuple[torch.Tensor | None, ...]
    """What lies at its addresses: nobody may let go of it before."""
    rows_at: int = -1
    """Which of the numbers is how many rows there are, where another call of the kernel may differ in that alone."""

    def run(self) -> None:
        """Now."""
        self.kernel(self.threads, *self.numbers)


def _compiled(function: Callable[[Any], None]) -> Any:
    """What numba makes of a kernel, kept on disk for the next process."""
    signature = types.void(types.CPointer(types.int64))
    # numba keeps it by this name and by its own file's time, and numbers what shares a name: two processes that keep
    # two kernels of one name at once leave the one's code where the other's is looked for. So no two share one.
    made_for = [cell.cell_contents for cell in function.__closure__ or ()]
    function.__qualname__ += "_" + sha256(f"{_sources()} {processor()} {made_for}".encode()).hexdigest()[:16]
    try:
        return cfunc(signature, cache=True, fastmath=FAST, error_model="numpy")(function)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as fault:
        # No folder for it; a full disk; what a machine that lost its power left there.
        if isinstance(fault, RuntimeError) and "cannot cache" not in str(fault):
            raise
        print(
            f"{type(fault).__name__}: {fault}: a kernel is compiled anew in every process, which takes seconds; "
            "set NUMBA_CACHE_DIR to an empty folder that may be written",
            file=sys.stderr,
        )
        return cfunc(signature, fastmath=FAST, error_model="numpy")(function)


@cache
def _sources() -> str:
    """A fingerprint of every file that kernels are made of, and of their compilers."""
    room = Path(__file__).parent
    files = b"".join(path.read_bytes() for path in sorted(room.glob("*.py")))
    return sha256(files).hexdigest() + f" numba {numba.__version__} llvmlite {llvmlite.__version__}"


@cache
def processor() -> tuple[str, str, str]:
    """What numba compiles for, which its settings may make less than the machine is: triple, name, LLVM's features."""
    found: tuple[str, str, str] = cpu_target.target_context.codegen().magic_tuple()
    return found


def _openmp() -> Any:
    """OpenMP's entry to run a function on all threads, of the library that torch has loaded; None without one."""
    try:
        found = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, OSError):
        return None
    found.restype = None
    found.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    return found


_parallel: Final = _openmp()


def threaded() -> bool:
    """False where kernels run on one thread, whatever they are asked: nobody has OpenMP's entry."""
    return _parallel is not None


def _pointer(kind: Any) -> Any:
    """An intrinsic that takes an address for a pointer to numbers of a kind."""

    @intrinsic
    def point(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return point


floats = _pointer(types.float32)
halves = _pointer(types.uint16)
shorts = _pointer(types.int16)
words = _pointer(types.int32)
longs = _pointer(types.int64)


def _cast(target: Any, source: Any) -> Any:
    """An intrinsic that reads the same bits as another kind of number."""

    @intrinsic
    def cast(context: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

        return target(source), generate

    return cast


as_float = _cast(types.float32, types.uint32)
as_bits = _cast(types.uint32, types.float32)
real = _cast(types.float64, types.int64)


@intrinsic
def take(context: Any, numbers: Any, place: Any) -> Any:
    """Add one to a counter, whoever else does so at this moment, and give what it was."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        there = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", there, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(numbers, types.int64), generate


@intrinsic
def fetch(context: Any, address: Any) -> Any:
    """Have the line of memory at an address brought into the nearest cache, without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.call(*prefetch(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.int64), generate


def prefetch(builder: Any, address: Any) -> tuple[Any, list[Any]]:
    """LLVM's function for that, and its arguments."""
    pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
    function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(builder.module, kind, "llvm.prefetch.p0")
    # To read, to be kept near, as data.
    return function, [builder.inttoptr(address, pointer), *(ir.Constant(word, number) for number in (0, 3, 1))]
