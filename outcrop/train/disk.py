"""A disk without room: known when it is met, and waited for where failing would throw away hours of training.

Knows errors, free bytes and patience; nothing of what is written.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from outcrop.durable import FULL
from outcrop.errors import OutcropError

PAUSE: Final = 0.2
"""Seconds between two looks."""


def full(error: BaseException) -> bool:
    """Whether a disk or a quota had no room. safetensors tells the system's number within its own error's text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(f"(os error {number})" in str(error) for number in FULL)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise OutcropError unless the disk under the folder has so many bytes free."""
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OutcropError(f"{_short(folder, free, needed, what)}. Free some space and start the job again")


def wait_for_room(folder: Path, needed: int, what: str, pulse: Callable[[], None], tell: Callable[[str], None]) -> None:
    """Return once the disk under the folder has so many bytes free; `pulse` is called meanwhile and may raise."""
    told = False
    while (free := shutil.disk_usage(folder).free) < needed:
        if not told:
            tell(f"{_short(folder, free, needed, what)}. This is waited for: free some space, and the job goes on")
        told = True
        pulse()
        time.sleep(PAUSE)


def _short(folder: Path, free: int, needed: int, what: str) -> str:
    return f"the disk under {folder} has {free / 1e6:,.0f} MB free; {what} need {needed / 1e6:,.0f} MB"
