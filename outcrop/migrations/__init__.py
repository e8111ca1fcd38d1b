"""The database's history: each change of its tables as a step that alembic walks, from any older state to today's."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from outcrop.errors import OutcropError
from outcrop.store.database import Database

FOLDER: Final = Path(__file__).parent


def migrate(database: Database) -> None:
    """Bring the database's tables up to this version of outcrop, in one transaction.

    Raises OutcropError when a newer outcrop has already changed them.
    """
    config = Config()
    # ConfigParser reads % as interpolation.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    with database.write() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as fault:
            raise OutcropError(
                f"the database {database.url} was written by a newer outcrop ({fault}); start that version"
            ) from fault
