"""Where the wire's blocking work runs: pools apart, so that one kind cannot starve another. Knows no protocol."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")

FILE_THREADS: Final = 4
"""Threads that spool uploads and read downloads: as many as one disk keeps busy."""

ASIDE_THREADS: Final = 16
"""Threads of what asks this very server: more than may take long at a time, so that one too many is refused at once."""


class Threads:
    """The pools.

    `waiting` for operations that wait on a model, `aside` for those that ask this server themselves (on a thread of
    `quick` they could wait for each other), `quick` for all others and for keys, `files`.
    """

    def __init__(self, size: int) -> None:
        self.waiting = ThreadPoolExecutor(size, thread_name_prefix="waiting")
        self.aside = ThreadPoolExecutor(ASIDE_THREADS, thread_name_prefix="aside")
        self.quick = ThreadPoolExecutor(size, thread_name_prefix="quick")
        self.files = ThreadPoolExecutor(FILE_THREADS, thread_name_prefix="files")

    def close(self) -> None:
        """End the threads once what they do is done."""
        for pool in (self.waiting, self.aside, self.quick, self.files):
            pool.shutdown(wait=True)


async def in_thread(pool: Executor, work: Callable[[], T]) -> T:
    """Run blocking work in a pool and return what it returns."""
    return await asyncio.get_running_loop().run_in_executor(pool, work)
