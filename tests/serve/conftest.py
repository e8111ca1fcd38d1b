"""One fleet a test, its loop running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.fleet_world import World, alive, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    yield from running(World(tmp_path))


@pytest.fixture
def still(tmp_path: Path) -> Iterator[World]:
    """A world whose units never fill again: what was used up stays so, however slow the machine is."""
    yield from running(World(tmp_path, clock=lambda: 0.0))


def running(world: World) -> Iterator[World]:
    """The world while its loop runs; every engine is gone after it."""
    world.fleet.start()
    yield world
    pids = world.pids()
    world.close()
    until(lambda: not any(alive(pid) for pid in pids))
