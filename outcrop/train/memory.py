"""Whether a job's weights fit into memory, before they are loaded: a sentence with figures instead of a killed process.

The bound is from below (weights, gradients, optimizer), so what is refused could not have run; what a step takes beside
them is room.py's. Knows the spec and the headers of the weights; torch is asked only about a GPU.
"""

import errno
from pathlib import Path
from typing import Final

from outcrop.errors import OutcropError
from outcrop.records import TrainSpec
from outcrop.sources import memory
from outcrop.sources.look import look
from outcrop.sources.memory import Memory, gigabytes

_RAN_OUT: Final = ("can't allocate memory", "cannot allocate memory", "out of memory", "failed to map segment")
"""Of texts: torch's allocator, the system, a GPU's libraries, the loader of a library."""


def require_memory(spec: TrainSpec, here: Memory | None = None) -> None:
    """Raise OutcropError where the weights cannot be trained in the memory that is free now, or are damaged.

    here: what there is, in bytes; by default this machine's, or its GPU's.
    """
    seen = look(Path(spec.base), spec.base_name)
    on_gpu = here is None and memory.GPU.exists() and _gpu() is not None
    there = here or (_gpu() if on_gpu else None) or memory.here()
    number = 2 if on_gpu else memory.number_bytes(seen.width)
    need = {way: memory.training(seen, way, spec.lora_rank, number) for way in ("lora", "full")}
    if spec.whole_parent and not on_gpu:  # at the end the factors are added to the numbers as they are stored
        need["lora"] = max(need["lora"], seen.bytes + memory.PROCESS)
    if need[spec.method] <= there.free:
        return
    what = "all weights" if spec.method == "full" else "a LoRA adapter"
    ways = ["smaller weights (`outcrop models use`)", "ending what else uses memory here", "a larger machine"]
    if spec.method == "full" and need["lora"] <= there.free:
        ways.insert(0, f"the hyperparameter method=lora, which takes at least {gigabytes(need['lora'])}")
    raise OutcropError(
        f"Too little memory: to train {what} of {spec.base_name} takes at least {gigabytes(need[spec.method])}, and "
        f"{'the GPU' if on_gpu else 'this machine'} has {gigabytes(there.free)} free of {gigabytes(there.total)}. "
        f"What helps: {'; or '.join(ways)}"
    )


def allowed(*, on_gpu: bool = False) -> Memory:
    """What this process may have in all, with what it has already."""
    import torch

    found = (_gpu() if on_gpu else None) or memory.here()
    # Not pages of files, the weights' among them: they are given back when memory is asked for, so they count as free.
    mine = torch.cuda.memory_reserved() if on_gpu else _status("RssAnon")
    return Memory(found.free + mine, found.total)


def usage() -> dict[str, int]:
    """Bytes that this process has held at its largest, of memory and of the GPU's (0 without one)."""
    import torch

    return {
        # Not getrusage's ru_maxrss, which Linux hands down from whoever started this process: a large server, say.
        "peak_bytes": _status("VmHWM"),
        "device_peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0,
    }


def _status(name: str) -> int:
    """Bytes of this process, as the kernel counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def ran_out(error: BaseException) -> bool:
    """Whether memory was not to be had: Python's own error, the system's, torch's of the machine or of a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # torch has no class of its own for the machine's memory, and is not imported to ask for that of a GPU's.
    words = str(error).lower()
    return type(error).__name__ == "OutOfMemoryError" or any(mark in words for mark in _RAN_OUT)


def out_of_memory(error: BaseException) -> str:
    """What a person is told when memory ran out under way."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"Ran out of memory ({first}). What helps: shorter examples (maxSequenceLength); or method=lora; or smaller "
        "weights (`outcrop models use`); or ending what else uses memory here; or a larger machine"
    )


def _gpu() -> Memory | None:
    import torch

    return Memory(*torch.cuda.mem_get_info()) if torch.cuda.is_available() else None
