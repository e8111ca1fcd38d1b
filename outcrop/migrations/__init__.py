"""The database's history: each change of its tables as a step that alembic walks, from any older state to today's."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from outcrop.errors import OutcropError
from outcrop.store.database import Database

FOLDER: Final = Path(__file__).parent


def migrate(database: Database) -> None:
    """Bring the database's tables up to this version of outcrop, in one transaction.

    Raises OutcropError when a newer outcrop has already changed them.
    """
    config = _config()
    with database.write() as connection, _newer_refused(database):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def behind(database: Database) -> bool:
    """Whether its tables are an older outcrop's, or not there yet; changes nothing.

    Raises OutcropError when a newer outcrop has already changed them.
    """
    steps = ScriptDirectory.from_config(_config())
    with database.read() as connection, _newer_refused(database):
        present = MigrationContext.configure(connection).get_current_revision()
        # An unknown one is a newer outcrop's: the lookup refuses it.
        return present is None or steps.get_revision(present) != steps.get_revision("head")


def opened(url: str, *, claim: float | None = None) -> Database:
    """Return the database of an SQLAlchemy URL, at this version's tables: for whoever holds its data directory.

    claim: seconds to wait until this process holds it, before anything is changed; None: it does not ask for it. Raises
    OutcropError where there is no such driver, nothing answers, nothing may be written, or another server holds it.
    """
    with _reached(url) as database:
        if claim is not None:
            database.claim(claim)
        migrate(database)
    return database


def visited(url: str, hold: Callable[[], AbstractContextManager[object]]) -> Database:
    """Return the database of an SQLAlchemy URL, at this version's tables: for a command that runs beside any server.

    An older outcrop's tables are changed only where no server uses them. hold: takes the data directory for that time,
    and raises OutcropError where a server has it. Raises OutcropError for that, and as opened() does.
    """
    with _reached(url) as database:
        if behind(database):
            try:
                with hold():
                    database.claim(0)
                    migrate(database)
                    database.release()
            except OutcropError as fault:
                raise OutcropError(
                    f"the database has an older outcrop's tables, and they cannot be changed now: {fault}. A server "
                    "of this version brings them up to date when it starts; beside the older server run the older "
                    "outcrop's commands"
                ) from fault
    return database


def _config() -> Config:
    config = Config()
    # ConfigParser reads % as interpolation.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config


@contextmanager
def _newer_refused(database: Database) -> Iterator[None]:
    try:
        yield
    except CommandError as fault:
        raise OutcropError(
            f"the database {database.engine.url} was written by a newer outcrop ({fault}); start that version"
        ) from fault


@contextmanager
def _reached(url: str) -> Iterator[Database]:
    """The database of a URL, closed again where its first use fails, which is told with what to look at."""
    try:
        database = Database(url)
        try:
            yield database
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
