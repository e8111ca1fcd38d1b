"""A command beside a server of an older outcrop: that server's tables stay as it knows them."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext

from outcrop.commands.options import open_store
from outcrop.directory import Credentials, DataDirectory, Running
from outcrop.errors import OutcropError
from outcrop.migrations import FOLDER, migrate
from outcrop.store.database import Database
from tests.store.resources import model


def at_step(directory: DataDirectory) -> str | None:
    """Which step the tables of a data directory stand at."""
    with closing(Database(f"sqlite:///{directory.database}")) as database, database.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@contextmanager
def served(directory: DataDirectory) -> Iterator[None]:
    """While a server has it."""
    with directory.lock():
        directory.write_server(Running(4711, "http://127.0.0.1:4580"))
        yield


@pytest.fixture
def older(tmp_path: Path) -> DataDirectory:
    """A data directory as the outcrop of the third step left it."""
    directory = DataDirectory(tmp_path)
    directory.prepare()
    directory.write_credentials(Credentials("AKIA", "secret", "bearer", "us-east-1"))
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with closing(Database(f"sqlite:///{directory.database}")) as database, database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
    return directory


def test_an_older_servers_tables_are_not_changed_under_it(older: DataDirectory) -> None:
    with (
        served(older),
        pytest.raises(OutcropError, match=r"older outcrop's tables.*pid 4711 at http://127.0.0.1:4580.*stop it first"),
        open_store(older.root),
    ):
        pass
    assert at_step(older) == "0003"


def test_where_no_server_runs_the_tables_are_brought_up_to_date(older: DataDirectory) -> None:
    with open_store(older.root) as store:
        assert store.capacities.of("any", "where") is None
        older.lock().close()  # it is held for the change alone: a server may start while a command looks on
    assert at_step(older) not in (None, "0003")


def test_beside_a_server_of_this_version_a_command_reads_and_writes(older: DataDirectory) -> None:
    with closing(Database(f"sqlite:///{older.database}")) as database:
        migrate(database)
    with served(older), open_store(older.root) as store:
        store.models.use_weights(model(1).base_model_id, "somewhere/else")
        assert store.models.weights_of(model(1).base_model_id) == "somewhere/else"


def test_a_newer_outcrops_tables_are_refused_with_a_way_out(older: DataDirectory) -> None:
    with closing(Database(f"sqlite:///{older.database}")) as database, database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OutcropError, match="written by a newer outcrop"), open_store(older.root):
        pass
