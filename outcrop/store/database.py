"""The database itself: one engine, transactions, and the two column types that every table shares.

Knows SQLAlchemy and nothing of nouns. SQLite (WAL) by default; PostgreSQL by its URL. Each noun's tables and verbs
stand in a file of their own beside this one, on this file's `metadata`.
"""

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Dialect, Engine, MetaData, TypeDecorator, create_engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

metadata: Final = MetaData()

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

POSTGRES_DISK_FULL: Final = "53100"
"""PostgreSQL's SQLSTATE."""


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as whole milliseconds since 1970 in UTC: what the wire shows, and sortable everywhere."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Milliseconds of an aware datetime."""
        return None if value is None else (value - EPOCH) // timedelta(milliseconds=1)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """The aware datetime again."""
        return None if value is None else EPOCH + timedelta(milliseconds=value)


def _prepare(connection: Any, _record: Any) -> None:
    """Set SQLite up: write-ahead log, patience for other writers, foreign keys; and leave BEGIN to us."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


@contextmanager
def _full_disk_as_such(url: str) -> Iterator[None]:
    try:
        yield
    except OperationalError as fault:
        sqlite = getattr(fault.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if sqlite or getattr(fault.orig, "sqlstate", None) == POSTGRES_DISK_FULL:
            raise OSError(errno.ENOSPC, "the database's disk is full", url) from fault
        raise


class Database:
    """One database: `read()` and `write()` give a connection inside a transaction.

    url: an SQLAlchemy URL; `sqlite://` is a fresh database in memory.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        options: dict[str, Any] = {}
        # Every thread must see the same database in memory: there is but one connection, used by one at a time.
        self._turn: AbstractContextManager[Any] = threading.RLock() if url == "sqlite://" else nullcontext()
        if url == "sqlite://":
            options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        self.engine: Engine = create_engine(url, **options)
        self._sqlite = self.engine.dialect.name == "sqlite"
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing may be written through it."""
        with self._turn, self.engine.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start, so that what it reads stays true until it commits.

        Raises OSError (ENOSPC) when the disk is full, whatever the database calls that.
        """
        with self._turn, _full_disk_as_such(str(self.engine.url)), self.engine.connect() as connection:
            if self._sqlite:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def create(self) -> None:
        """Make every table that is missing (tests and databases in memory; a data directory is migrated instead)."""
        metadata.create_all(self.engine)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()
