"""A fresh database with every table, in memory and in a file: the store's tests run on both."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.store.database import Database
from outcrop.store.deployments import DeploymentStore
from outcrop.store.jobs import JobStore
from outcrop.store.models import ModelStore
from outcrop.store.tags import TagStore
from outcrop.store.throughputs import ThroughputStore


@pytest.fixture(params=["memory", "file"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    database = Database("sqlite://" if request.param == "memory" else f"sqlite:///{tmp_path / 'outcrop.db'}")
    database.create()
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


@pytest.fixture
def models(database: Database) -> ModelStore:
    return ModelStore(database)


@pytest.fixture
def throughputs(database: Database) -> ThroughputStore:
    return ThroughputStore(database)


@pytest.fixture
def deployments(database: Database) -> DeploymentStore:
    return DeploymentStore(database)


@pytest.fixture
def tags(database: Database) -> TagStore:
    return TagStore(database)
