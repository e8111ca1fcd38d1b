"""What a process makes at its start and keeps is not searched for garbage: in a process of its own, as it stays so."""

import subprocess
import sys

PROGRAM = """
import gc
import weakref
from contextlib import suppress
from outcrop.garbage import lasting

class Circle: pass

searches = []
gc.callbacks.append(lambda phase, _: searches.append(phase))

with lasting():
    before = len(searches)
    made = [[place] for place in range(100_000)]
    circle = Circle()
    circle.itself, gone = circle, weakref.ref(circle)
    del circle
    assert len(searches) == before, "it was searched while it came"
assert gc.isenabled()
assert gc.get_freeze_count() > 100_000
assert gone() is None, "what was garbage already is not kept for good"

with suppress(ZeroDivisionError), lasting():
    1 / 0
assert gc.isenabled()
"""


def test_what_lasts_is_searched_once() -> None:
    told = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (0, "")
