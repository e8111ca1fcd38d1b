"""How much memory engines take and may take: from the headers of weights and from what the machine has.

On a machine with a GPU weights lie in the GPU's memory, of which only torch knows: there only a person can set a bound.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from outcrop.errors import OutcropError
from outcrop.sources import memory
from outcrop.sources.look import look

SHARE: Final = 0.8
"""Of the machine's memory: training, the server itself and what engines need beyond their weights take the rest."""

Stamps = frozenset[tuple[str, int, int, int]]

GPU_NUMBER_BYTES: Final = 2
"""Bytes of one weight on a GPU: bfloat16."""


def needed(weights: Path) -> int:
    """Least bytes of an engine over these weights; 0 where they cannot be read, as the engine itself will say why."""
    try:
        seen = look(weights, str(weights))
        number = GPU_NUMBER_BYTES if memory.GPU.exists() else memory.number_bytes(seen.width)
        return memory.serving(seen, number)
    except (OutcropError, OSError):
        return 0


class Sizes:
    """What engines need, looked up once for as long as their weights stay as they are; never a 0, which is no size.

    size: least bytes of an engine over a folder of weights, 0 where nobody knows.
    """

    def __init__(self, size: Callable[[Path], int] = needed) -> None:
        self._size = size
        self._known: dict[Path, tuple[Stamps, int]] = {}

    def __call__(self, weights: Path) -> int:
        """Least bytes of an engine over these weights; 0 where nobody knows."""
        stamps = _stamps(weights)
        known = self._known.get(weights)
        if known is not None and known[0] == stamps:
            return known[1]
        found = self._size(weights)
        if found:
            self._known[weights] = stamps, found
        return found


def _stamps(weights: Path) -> Stamps:
    """What changes with any of a folder's files; none where it cannot be read."""
    try:
        with os.scandir(weights) as entries:
            return frozenset(
                (entry.name, (seen := entry.stat()).st_size, seen.st_ino, seen.st_ctime_ns) for entry in entries
            )
    except OSError:
        return frozenset()


def budget(gigabytes: float | None) -> int | None:
    """Bytes that all engines together may take; None: no bound.

    gigabytes: what a person set, None for the default: a share of the machine's memory or of its control group's.
    """
    if gigabytes is not None:
        return int(gigabytes * 1e9)
    return None if memory.GPU.exists() or not Path("/proc/meminfo").exists() else int(memory.here().total * SHARE)
