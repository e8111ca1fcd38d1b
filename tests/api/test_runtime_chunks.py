"""A streamed answer's end, however it comes: the lease and the engine's work end with it."""

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.api.invocation import Invoked
from outcrop.api.runtime import script
from outcrop.api.streaming import Event, Script, Streamed
from outcrop.records import Piece
from outcrop.serve.dialects.family import Asked
from tests.serve.fleet_world import World, prompt, until
from tests.store.resources import BASE_ARN, LONG_ID, REGION


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.fleet.start()
    yield world
    world.close()


def chunks(
    world: World, text: str, target: str = LONG_ID, tell: Callable[[Script], Script] = lambda told: told
) -> Streamed:
    row = world.catalog.find(LONG_ID)
    assert row is not None
    held = ExitStack()
    lease = held.enter_context(world.fleet.lease(target, REGION, 1000))
    asked = Asked(prompt(text))
    return Streamed(lease, held, asked.prompt, tell(script(Invoked(target, row), asked)), time.perf_counter())


def leases(world: World) -> int:
    return sum(world.fleet._engines[world.place].leased.values())


def outcomes(world: World) -> dict[str, float]:
    """How calls of the foundation model ended, as /metrics counts them."""
    return {
        sample.labels["outcome"]: sample.value
        for family in world.fleet._meter.registry.collect()
        for sample in family.samples
        if sample.name == "outcrop_invocations_total" and sample.labels["model_id"] == LONG_ID
    }


def test_closing_what_was_never_begun_ends_the_lease(world: World) -> None:
    events = chunks(world, "hello")
    assert leases(world) == 1
    asyncio.run(events.aclose())
    assert leases(world) == 0
    asyncio.run(events.aclose())
    assert leases(world) == 0, "a second close must not give back what it does not have"
    assert outcomes(world) == {"cancelled": 1}


def test_forgetting_it_ends_the_lease_too(world: World) -> None:
    events = chunks(world, "hello")
    assert leases(world) == 1
    del events
    gc.collect()
    assert leases(world) == 0
    assert outcomes(world) == {"cancelled": 1}


def test_reading_to_the_end_ends_the_lease_without_a_close(world: World) -> None:
    events = chunks(world, "a b")

    async def read() -> list[str]:
        return [json.loads(event["chunk"]["bytes"])["outputText"] async for event in events]

    assert asyncio.run(read()) == ["a ", "b ", ""]
    assert leases(world) == 0
    asyncio.run(events.aclose())
    assert outcomes(world) == {"ok": 1}, "who closes after the end has left nothing"


def test_a_reader_that_is_cancelled_ends_lease_and_work(world: World) -> None:
    async def read_and_cancel() -> None:
        events = chunks(world, "slow one")

        async def read() -> None:
            async for _ in events:
                pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(read_and_cancel())
    assert leases(world) == 0
    assert outcomes(world) == {"cancelled": 1}
    until(lambda: world.health(world.base)["load"] == 0)


def test_a_stream_that_breaks_by_a_fault_of_ours_is_counted_as_one(world: World) -> None:
    def broken(_piece: Piece) -> list[Event]:
        raise KeyError("choices")

    async def read() -> None:
        async for _ in chunks(world, "a b", tell=lambda told: replace(told, events=broken)):
            pass

    with pytest.raises(KeyError):
        asyncio.run(read())
    assert leases(world) == 0
    assert outcomes(world) == {"InternalServerException": 1}


def test_a_caller_who_leaves_pays_for_what_was_made(world: World) -> None:
    arn = world.serve(1, BASE_ARN)
    paid: list[int] = []
    bucket = world.fleet._buckets[arn]
    settle = bucket.settle

    async def read_two() -> None:
        events = chunks(world, "slow one", arn)
        await anext(events)
        await anext(events)
        await events.aclose()
        await events.aclose()

    def note(reserved: int, used: int) -> None:
        paid.append(used)
        settle(reserved, used)

    bucket.settle = note  # type: ignore[method-assign]
    asyncio.run(read_two())
    assert paid == [2 + 2], "two tokens of prompt at four characters each, and a token a piece"
