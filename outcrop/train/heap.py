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


def keep() -> None:
    """Have this process keep what it frees; nothing happens where the C library is another one."""
    if platform.libc_ver()[0] != "glibc":
        return
    tune = ctypes.CDLL(None).mallopt
    for parameter, value in ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, KEPT), (_TOP_PAD, ASKED)):
        tune(ctypes.c_int(parameter), ctypes.c_int(value))
