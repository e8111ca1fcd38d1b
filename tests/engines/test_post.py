"""The post between the engine's thread and the event loop: nothing lost, nothing out of order, nobody woken early."""

import asyncio
import threading
from collections.abc import Iterable
from typing import Any

from outcrop.engines.post import Mail, Post
from outcrop.engines.sequence import Output

STEPS, REQUESTS = 200, 16


def test_all_of_it_comes_once_and_in_its_order() -> None:
    found: dict[Any, list[int]] = {number: [] for number in range(REQUESTS)}
    done = threading.Event()

    async def test() -> None:
        post = Post(asyncio.get_running_loop())

        def even(mails: Iterable[Mail]) -> None:
            for number, output in mails:
                found[number].append(output.completion_tokens)

        def odd(mails: Iterable[Mail]) -> None:
            even(mails)

        def engine() -> None:
            for step in range(STEPS):
                for number in range(REQUESTS):
                    post.put(odd if number % 2 else even, number, Output("", completion_tokens=step))
                post.ring()
            done.set()

        thread = threading.Thread(target=engine)
        thread.start()
        while not done.is_set() or any(len(each) < STEPS for each in found.values()):
            await asyncio.sleep(0)
        thread.join()

    asyncio.run(asyncio.wait_for(test(), 60))
    assert all(each == list(range(STEPS)) for each in found.values())


def test_nobody_is_woken_before_a_step_has_told_all() -> None:
    async def test() -> None:
        came: list[list[Any]] = []

        def deliver(mails: Iterable[Mail]) -> None:
            came.append([number for number, _ in mails])

        post = Post(asyncio.get_running_loop())
        post.ring()
        for number in range(3):
            post.put(deliver, number, Output("a"))
            await asyncio.sleep(0)
        assert not came
        post.ring()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert came == [[0, 1, 2]]

    asyncio.run(test())
