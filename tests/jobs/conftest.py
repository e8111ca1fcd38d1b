"""One world a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.store.database import Database
from outcrop.store.store import Store
from tests.jobs.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A data directory with a store in memory and a first server."""
    database = Database("sqlite://")
    database.create()
    world = World(tmp_path, Store.over(database))
    world.server()
    yield world
    world.close()
