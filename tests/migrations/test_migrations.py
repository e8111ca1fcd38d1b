"""The steps lead to the very tables that the store's code describes, and nobody's data is lost on the way."""

from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

import outcrop.store.store  # noqa: F401  (brings every noun's tables)
from outcrop.errors import OutcropError
from outcrop.migrations import FOLDER, migrate
from outcrop.store.database import Database, metadata
from outcrop.store.throughputs import ThroughputStore


def test_the_steps_lead_to_todays_tables(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/outcrop.db")
    migrate(database)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrate(database)
    database.close()


def test_a_newer_database_is_refused_with_a_way_out(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/outcrop.db")
    migrate(database)
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OutcropError, match="newer outcrop"):
        migrate(database)
    database.close()


def test_a_throughput_of_the_first_tables_was_made_for_its_model(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/outcrop.db")
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql(
            "INSERT INTO throughputs (arn, id, name, region, status, units, desired_units, model_arn, "
            "desired_model_arn, base_model_id, created, modified, fingerprint) "
            "VALUES ('a', 'i', 'n', 'r', 'InService', 1, 1, 'custom', 'base', 'b', 0, 0, '')"
        )
    migrate(database)
    found = ThroughputStore(database).by_arn("a")
    assert found is not None
    assert (found.made_for, found.desired_model_arn) == ("custom", "base")
    database.close()
