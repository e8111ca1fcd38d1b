"""Python's search for garbage, kept away from what a process makes at its start and keeps. Knows the interpreter only.

Some half a million objects come with torch and transformers. A search through all of them takes 0.1 s: while they come
there are seven, and afterwards one now and then, in the midst of a step or an answer.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lasting() -> Iterator[None]:
    """What is made within stays: no garbage is searched for meanwhile, then once, and never again in what is left."""
    gc.disable()
    try:
        yield
        gc.collect()
        gc.freeze()
    finally:
        gc.enable()
