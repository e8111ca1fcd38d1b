"""The database's history: each change of its tables as a step that alembic walks, from any older state to today's."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

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
                f"the database {database.engine.url} was written by a newer outcrop ({fault}); start that version"
            ) from fault


def opened(url: str, *, claim: float | None = None) -> Database:
    """Return the database of an SQLAlchemy URL, at this version's tables.

    claim: seconds to wait until this process holds it, before anything is changed; None: it does not ask for it. Raises
    OutcropError where there is no such driver, nothing answers, nothing may be written, or another server holds it.
    """
    try:
        database = Database(url)
        try:
            if claim is not None:
                database.claim(claim)
            migrate(database)
        except BaseException:
            database.close()
            raise
    except (SQLAlchemyError, ImportError, OSError) as fault:
        # The URL itself may hold a password.
        scheme, reason = url.partition(":")[0], str(getattr(fault, "orig", None) or fault).splitlines()[0]
        raise OutcropError(
            f"cannot open the {scheme} database: {reason}. Check the setting `database` (OUTCROP_DATABASE), "
            "its driver, and the rights on the data directory"
        ) from fault
    return database
