"""What one customer does is no other's business: floods of tokens, dead engines, moves under load."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outcrop.errors import ModelErrorException, ThrottlingException
from tests.serve.fleet_world import World, now, prompt, until
from tests.store.resources import BASE_ARN, REGION

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc: run on Linux")

ASK = 5000
"""Tokens of one call."""


def spend(world: World, target: str) -> str:
    """One call that uses ASK tokens of its throughput."""
    try:
        with world.fleet.lease(target, REGION, ASK) as lease:
            lease.line.complete(lease.model, prompt("hello"))
            lease.charge(ASK, 0)
    except ThrottlingException:
        return "refused"
    return "answered"


def test_a_flood_of_one_throughput_leaves_another_s_units_untouched(still: World) -> None:
    red, blue = still.model(1), still.model(2)
    flooded, quiet = still.serve(1, red.arn), still.serve(2, blue.arn, units=2)
    row = still.catalog.find("amazon.titan-text-express-v1")
    assert row is not None
    a_minute = row.tokens_per_minute_per_unit
    ended = threading.Event()
    flood: Counter[str] = Counter()

    def pour() -> None:
        while not ended.is_set():
            flood[spend(still, flooded)] += 1

    with ThreadPoolExecutor(8) as callers:
        pouring = [callers.submit(pour) for _ in range(4)]
        until(lambda: flood["refused"] > 50)
        # The other one has its two units to the last token, in the middle of the flood.
        answers = Counter(callers.map(lambda _: spend(still, quiet), range(2 * a_minute // ASK)))
        ended.set()
    for each in pouring:
        each.result()
    assert answers == {"answered": 2 * a_minute // ASK}
    assert spend(still, quiet) == "refused"
    # The flood got what its unit promises, a full bucket, and no token more.
    assert flood["answered"] == a_minute // ASK


def test_a_throughput_is_renamed_and_moved_to_a_sibling_and_to_the_base_under_load(world: World) -> None:
    red, blue = world.model(1), world.model(2, method="full")
    arn = world.serve(1, red.arn)
    answers: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            answers.append(world.ask(arn))

    def more() -> None:
        seen = len(answers)
        until(lambda: len(answers) > seen + 30)

    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask) for _ in range(4)]
        more()
        world.store.throughputs.update_asked(arn, name="renamed", model_arn=None, now=now())
        world.fleet.wake()
        more()
        for model_arn in (blue.arn, BASE_ARN, red.arn):
            moving = world.store.throughputs.update_asked(arn, name=None, model_arn=model_arn, now=now())
            assert (moving.status, moving.desired_model_arn) == ("Updating", model_arn)
            world.fleet.wake()
            settled = world.settle(arn)
            assert (settled.status, settled.model_arn, settled.desired_model_arn) == ("InService", model_arn, model_arn)
            more()
        ended.set()
    for each in asked:
        each.result()  # Raises what a caller got.
    assert set(answers) == {f"{red.id}: hello", "hello"}


def test_a_dead_engine_breaks_its_own_streams_and_no_other_s(world: World) -> None:
    red, whole = world.model(1), world.model(2, method="full")
    dying, living = world.serve(1, red.arn), world.serve(2, whole.arn)
    [victim] = world.pids(world.base)
    pieces: Counter[str] = Counter()

    async def stream(target: str) -> str:
        with world.fleet.lease(target, REGION, 1) as lease:
            try:
                async for _ in lease.line.stream(lease.model, prompt("slow stream")):
                    pieces[target] += 1
                    if target == living and pieces[target] > 25:
                        return "went on"
            except ModelErrorException:
                return "broke off"
        return "ended"

    async def both() -> list[str]:
        tasks = [asyncio.create_task(stream(target)) for target in (dying, living)]
        while min(pieces[dying], pieces[living]) < 5:
            await asyncio.sleep(0.01)
        os.kill(victim, signal.SIGKILL)
        return await asyncio.gather(*tasks)

    assert asyncio.run(both()) == ["broke off", "went on"]
    until(lambda: world.pids(world.base) not in ([], [victim]))
    assert world.ask(dying) == f"{red.id}: hello"
    assert world.throughput(dying).status == world.throughput(living).status == "InService"


def test_an_engine_that_dies_again_and_again_is_started_more_and_more_slowly(world: World) -> None:
    world.serve(1, BASE_ARN)
    waits = []
    for _ in range(3):
        [pid] = until_up(world)
        os.kill(pid, signal.SIGKILL)
        died = time.monotonic()
        until(lambda pid=pid: world.pids() not in ([], [pid]))  # type: ignore[misc]
        waits.append(time.monotonic() - died)
    assert waits[0] >= 0.5
    assert waits[1] >= 1.0
    assert waits[2] >= 2.0
    assert world.fleet.snapshot().engines[0].deaths == 3


def until_up(world: World) -> list[int]:
    until(lambda: world.fleet._engines[world.place].line is not None)
    return world.pids()
