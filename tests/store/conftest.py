"""A fresh database with every table, in memory, in a file and in PostgreSQL: the store's tests run on all three."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import URL, delete

import outcrop.store.store  # noqa: F401  (brings every noun's tables)
from outcrop.store.database import Database, metadata
from outcrop.store.deployments import DeploymentStore
from outcrop.store.jobs import JobStore
from outcrop.store.models import ModelStore
from outcrop.store.tags import TagStore
from outcrop.store.throughputs import ThroughputStore
from tests.store import postgresql


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[URL]:
    """A PostgreSQL; without one, or its driver, the tests that want it are skipped and say why."""
    pytest.importorskip(
        "psycopg", reason="the driver of PostgreSQL is not installed: pip install 'outcrop[postgresql]'"
    )
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgresql.server())
        except postgresql.Absent as reason:
            pytest.skip(str(reason))
        yield url


@pytest.fixture
def postgresql_url(postgresql_server: URL) -> Iterator[str]:
    """An empty schema of it."""
    with postgresql.schema(postgresql_server) as url:
        yield url


@pytest.fixture(scope="session")
def postgresql_tables(postgresql_server: URL) -> Iterator[Database]:
    """One schema with every table, for all tests that empty it: to make twenty tables takes longer than most tests."""
    with postgresql.schema(postgresql_server) as url:
        database = Database(url)
        database.create()
        yield database
        database.close()


@pytest.fixture(params=["memory", "file", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "postgresql":
        tables: Database = request.getfixturevalue("postgresql_tables")
        yield tables
        with tables.write() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))
        return
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
