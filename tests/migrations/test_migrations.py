"""The steps lead to the very tables that the store's code describes, and nobody's data is lost on the way."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import outcrop.store.store  # noqa: F401  (brings every noun's tables)
from outcrop.errors import OutcropError
from outcrop.migrations import migrate
from outcrop.store.database import Database, metadata


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
