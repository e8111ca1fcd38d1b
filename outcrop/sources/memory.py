"""How much memory weights need and how much there is: bounds from below, so that a no is a sure one.

Needs come from the headers of safetensors files; what there is from the kernel, control groups included. Knows no GPU
(a GPU's memory is asked for where torch is) and loads nothing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outcrop.errors import OutcropError
from outcrop.sources.look import Look

GPU: Final = Path("/dev/nvidiactl")
"""There where an NVIDIA driver is: then a GPU's memory may count, which only torch can tell."""

ADAMW: Final = 16
"""Bytes of a trained number: float32 itself, its gradient, and AdamW's two moments."""

PROCESS: Final = 256 << 20
"""Bytes of a child process before any weights: 270 MB of its own, measured after a forward pass with torch 2.13 on CPU
and transformers 5.23; the 120 MB of libraries beside them are files, whose pages can be given back."""

BFLOAT16_FROM_WIDTH: Final = 256
"""On a CPU with AVX512-BF16, models at least this wide compute in bfloat16 (outcrop.weights has the measurement)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a process may still take, in bytes."""

    free: int
    total: int
    """Of the machine, or of the control group where that is less."""


def serving(seen: Look, number: int) -> int:
    """Least bytes for an engine; `number`: bytes of one weight in the dtype that it computes in."""
    return seen.parameters * number + PROCESS


def training(seen: Look, method: str, rank: int, number: int) -> int:
    """Least bytes of a training child: weights, gradients and optimizer; a step's activations come on top of them."""
    if method == "full":
        return seen.parameters * ADAMW + PROCESS
    return seen.parameters * number + seen.lora_parameters(rank) * ADAMW + PROCESS


def require_serving(seen: Look, name: str, number: int, there: Memory) -> None:
    """Raise OutcropError where an engine's weights do not fit into what is free."""
    need = serving(seen, number)
    if need > there.free:
        raise OutcropError(
            f"Too little memory: to serve {name} takes at least {gigabytes(need)}, and this machine has "
            f"{gigabytes(there.free)} free of {gigabytes(there.total)}. What helps: smaller weights (`outcrop models "
            "use`); or fewer models served at the same time; or a larger machine"
        )


def number_bytes(width: int, root: Path = Path("/")) -> int:
    """Bytes of one weight on this machine's CPU, as outcrop.weights will choose its dtype."""
    return 2 if width >= BFLOAT16_FROM_WIDTH and _processor_has("avx512_bf16", root) else 4


def multiplies_pairs(root: Path = Path("/")) -> bool:
    """Whether the CPU multiplies pairs of bfloat16 numbers and no whole tiles, as kernels.product.pays() asks of it."""
    return _processor_has("avx512_bf16", root) and not _processor_has("amx_bf16", root)


def _processor_has(flag: str, root: Path) -> bool:
    return re.search(rf"\b{flag}\b", (root / "proc/cpuinfo").read_text(errors="replace")) is not None


def here(root: Path = Path("/")) -> Memory:
    """What this process may still take: the machine's free memory and swap, or what its control groups leave of it."""
    found = {}
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) * 1024
    free, total = found["MemAvailable"] + found["SwapFree"], found["MemTotal"] + found["SwapTotal"]
    for limit, used in _groups(root):
        free, total = min(free, limit - used), min(total, limit)
    return Memory(max(free, 0), total)


def gigabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _groups(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of every control group that holds this process; cached file pages count as free."""
    listing = root / "proc/self/cgroup"
    for line in listing.read_text().splitlines() if listing.is_file() else ():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inner = top / path.lstrip("/")
        # In a container the path may be that of the host, which is not seen from here: then the top is our own group.
        places = [inner, *inner.parents] if inner.is_dir() else [top]
        for place in places[: places.index(top) + 1]:
            yield from _group(place, *names)


def _group(place: Path, limit: str, used: str, cached: str) -> Iterator[tuple[int, int]]:
    if not (place / limit).is_file() or not (place / used).is_file():
        return
    text = (place / limit).read_text().strip()
    if text == "max":
        return
    stat = (place / "memory.stat").read_text() if (place / "memory.stat").is_file() else ""
    pages = re.search(rf"^{cached} (\d+)$", stat, re.MULTILINE)
    yield int(text), int((place / used).read_text()) - (int(pages[1]) if pages else 0)
