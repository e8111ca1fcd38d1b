"""One world a test, and what was logged meanwhile."""

from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import structlog

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


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """Everything that was logged."""
    with structlog.testing.capture_logs() as entries:
        yield entries
