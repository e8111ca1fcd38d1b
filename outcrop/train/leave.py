"""How a child that has worked ends: now. It knows nothing of what was done."""

import os
import sys
from typing import NoReturn


def leave(status: int) -> NoReturn:
    """End the process now: all is on disk, and taking torch apart piece by piece takes seconds (docs/decisions)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
