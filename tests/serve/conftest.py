"""One fleet a test, its loop running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve.fleet_world import World, alive, until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    world.fleet.start()
    yield world
    pids = world.pids()
    world.close()
    until(lambda: not any(alive(pid) for pid in pids))
