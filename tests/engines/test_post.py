"""The post between the engine's thread and the event loop: nothing lost, nothing out of order, nobody woken early."""

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from outcrop.engines.post import Mail, Post
from outcrop.engines.sequence import Output

STEPS, REQUESTS = 200, 16


@pytest.mark.parametrize("interval", [0.0, 0.0001, 0.002])
def test_all_of_it_comes_once_and_in_its_order(interval: float) -> None:
    found: dict[Any, str] = dict.fromkeys(range(REQUESTS), "")
    counts: dict[Any, int] = {}
    ended: set[Any] = set()

    async def test() -> None:
        post = Post(asyncio.get_running_loop(), interval)

        def even(mails: Iterable[Mail]) -> None:
            for number, output in mails:
                assert number not in ended
                found[number] += output.text
                assert counts.get(number, -1) < output.completion_tokens
                counts[number] = output.completion_tokens
                if output.finish:
                    ended.add(number)

        def odd(mails: Iterable[Mail]) -> None:
            even(mails)

        slots = [post.slot(odd if number % 2 else even, number) for number in range(REQUESTS)]

        def engine() -> None:
            for step in range(STEPS):
                finish = "length" if step == STEPS - 1 else None
                for put in slots:
                    put(Output(chr(step), finish, completion_tokens=step))
                post.ring()

        thread = threading.Thread(target=engine)
        thread.start()
        while len(ended) < REQUESTS:
            await asyncio.sleep(0)
        thread.join()

    asyncio.run(asyncio.wait_for(test(), 60))
    assert all(each == "".join(map(chr, range(STEPS))) for each in found.values())


class Listening:
    """A post whose clock stands still, and what came of it."""

    def __init__(self, interval: float) -> None:
        self.later: list[Callable[[], None]] = []
        self.came: list[list[tuple[Any, str]]] = []
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.post = Post(self, interval)  # type: ignore[arg-type]

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, _seconds: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def slot(self, number: int) -> Callable[[Output], None]:
        return self.post.slot(self._deliver, number)

    def _deliver(self, mails: Iterable[Mail]) -> None:
        self.came.append([(number, output.failure or output.text) for number, output in mails])

    async def heard(self) -> list[list[tuple[Any, str]]]:
        """What came since it was last asked."""
        for _ in range(3):
            await asyncio.sleep(0)
        came, self.came = self.came, []
        return came

    async def told(self, put: Callable[[Output], None], *outputs: Output) -> list[list[tuple[Any, str]]]:
        """What comes of a step that tells one request so much."""
        for output in outputs:
            put(output)
        self.post.ring()
        return await self.heard()

    def tick(self) -> None:
        later, self.later = self.later, []
        for callback in later:
            callback()


def run(test: Callable[[], Any]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("interval", [0.0, 1.0])
def test_nobody_is_woken_before_a_step_has_told_all(interval: float) -> None:
    async def test() -> None:
        here = Listening(interval)
        here.post.ring()
        for number in range(3):
            here.slot(number)(Output("a"))
            assert not await here.heard()
        here.post.ring()
        assert await here.heard() == [[(0, "a"), (1, "a"), (2, "a")]]

    run(test)


def test_what_lies_between_the_first_piece_and_the_last_is_gathered() -> None:
    async def test() -> None:
        here = Listening(1.0)
        first, second = here.slot(1), here.slot(2)
        assert await here.told(first, Output("a")) == [[(1, "a")]]
        assert not await here.told(first, Output("b"))
        first(Output("c"))
        assert await here.told(second, Output("x")) == [[(2, "x")]], "a first piece waits for nobody"
        here.tick()
        assert await here.heard() == [[(1, "bc")]]
        first(Output("d"))
        assert not await here.told(second, Output("y"))
        ended = await here.told(first, Output("e", "length"))
        assert ended == [[(1, "de")]], "nor does a last one, with all that is before it"
        here.tick()
        assert await here.heard() == [[(2, "y")]]

    run(test)


def test_after_a_pause_the_next_piece_goes_at_once() -> None:
    async def test() -> None:
        here = Listening(1.0)
        put = here.slot(1)
        assert await here.told(put, Output("a")) == [[(1, "a")]]
        here.tick()
        assert not here.later, "who hears of nobody does not look again and again"
        late = await here.told(put, Output("b"))
        assert late == [[(1, "b")]], "steps that take longer than the interval hold nothing back"
        assert not await here.told(put, Output("c"))
        here.tick()
        assert await here.heard() == [[(1, "c")]]

    run(test)


def test_without_an_interval_each_piece_goes_with_its_step() -> None:
    async def test() -> None:
        here = Listening(0.0)
        put = here.slot(1)
        for letter in "abc":
            assert await here.told(put, Output(letter)) == [[(1, letter)]]
        assert not here.later

    run(test)


def test_a_failure_does_not_swallow_what_was_made_before() -> None:
    async def test() -> None:
        here = Listening(1.0)
        put = here.slot(1)
        await here.told(put, Output("a"))
        came = await here.told(put, Output("b"), Output("", "error", failure="no more"))
        assert came == [[(1, "b"), (1, "no more")]]

    run(test)
