"""Memory that a step gives back is kept for the next one, instead of being fetched from the system anew.

glibc takes large blocks straight from the system and returns them when they are freed; the system then fills every
page with zeros again at its first touch. Steps allocate the same gigabytes over and over: a tenth of their time went
there. Knows the C library; nothing of torch.
"""

import ctypes
import platform
from typing import Final

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""mallopt(3)'s parameters."""

KEPT: Final = 2**31 - 1
"""Bytes that may lie free at the end of the heap: the most that mallopt takes."""
ASKED: Final = 64 << 20
"""Bytes that are asked for beyond what is needed."""
MAPPED: Final = 2**30, 32 << 20
"""Bytes of a block that still comes from the heap; glibc before 2.35 takes no more than the second."""


def keep() -> bool:
    """Have this process keep what it frees; False, and nothing happens, where the C library is not such."""
    if platform.libc_ver()[0] != "glibc":
        return False
    tune = ctypes.CDLL(None).mallopt
    # In this order: the other two end glibc's own adjusting of the first, which then must have been set.
    if not any(tune(_MMAP_THRESHOLD, size) for size in MAPPED):
        return False
    return bool(tune(_TRIM_THRESHOLD, KEPT) and tune(_TOP_PAD, ASKED))
