"""The database itself: one engine, transactions, and the two column types that every table shares.

Knows SQLAlchemy and nothing of nouns. SQLite (WAL) by default; PostgreSQL by its URL. Each noun's tables and verbs
stand in a file of their own beside this one, on this file's `metadata`.
"""

import errno
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Dialect, Engine, MetaData, TypeDecorator, create_engine, event, make_url
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import StaticPool

from outcrop.errors import MustWait, OutcropError
from outcrop.store.claim import Claim

metadata: Final = MetaData()

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

POSTGRES_DISK_FULL: Final = "53100"
"""PostgreSQL's SQLSTATE."""

PATIENCE: Final = 30_000
"""Milliseconds that a writer waits for another one."""

TAKE_TURN: Final = f"SELECT pg_advisory_xact_lock({int.from_bytes(b'outcrop')})"
"""PostgreSQL has no lock of the whole database; writers agree on this number, which is given back with the commit."""

CLAIM_SECONDS: Final = 10.0
"""PostgreSQL takes a moment to see that a killed server's connections are gone."""


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


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Write-ahead log, patience for other writers, foreign keys; and BEGIN is left to us."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={PATIENCE}", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_glance(connection: Any, _record: Any) -> None:
    """No patience, and nothing is written."""
    connection.isolation_level = None
    for pragma in ("busy_timeout=0", "query_only=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_postgresql(connection: Any, _record: Any) -> None:
    """The same patience for other writers."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {PATIENCE}")
    connection.commit()


@contextmanager
def _full_disk_as_such(url: str) -> Iterator[None]:
    try:
        yield
    except OperationalError as fault:
        sqlite = getattr(fault.orig, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        if sqlite or getattr(fault.orig, "sqlstate", None) == POSTGRES_DISK_FULL:
            raise OSError(errno.ENOSPC, "the database's disk is full", url) from fault
        raise


def _row(connection: Any, text: str, values: Any) -> Any | None:
    with closing(connection.cursor()) as cursor:
        cursor.execute(text, values)
        return cursor.fetchone()


class Database:
    """One database: `read()` and `write()` give a connection inside a transaction.

    url: an SQLAlchemy URL; `sqlite://` is a fresh database in memory. Raises OutcropError for other databases than
    SQLite and PostgreSQL.
    """

    def __init__(self, url: str) -> None:
        if (kind := make_url(url).get_backend_name()) not in ("sqlite", "postgresql"):
            raise OutcropError(
                f"{kind} databases are not known here: use SQLite or PostgreSQL (postgresql+psycopg://user@host/name)"
            )
        self.url = url
        self._claim: Claim | None = None
        options: dict[str, Any] = {}
        # Every thread must see the same database in memory: there is but one connection, used by one at a time.
        self._turn: AbstractContextManager[Any] = threading.RLock() if url == "sqlite://" else nullcontext()
        if url == "sqlite://":
            options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        if kind == "postgresql":
            # Connections that the database has dropped since are replaced, and no request is lost to them.
            options = {"pool_pre_ping": True}
        self.engine: Engine = create_engine(url, **options)
        self._glances: Engine | None = None
        """Connections that wait for nobody: of a file on this machine only."""
        self._reader, self._begin_read, self._begin_write = self.engine, "BEGIN", "BEGIN IMMEDIATE"
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            if url != "sqlite://":
                self._glances = create_engine(url)
                event.listen(self._glances, "connect", _prepare_glance)
        else:
            event.listen(self.engine, "connect", _prepare_postgresql)
            # Its usual isolation shows every statement another moment.
            self._reader = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._begin_read, self._begin_write = "", TAKE_TURN

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing may be written through it."""
        with self._turn, self._reader.connect() as connection:
            if self._begin_read:
                connection.exec_driver_sql(self._begin_read)
            if self._claim is not None:
                self._claim.refresh()
            try:
                yield connection
            finally:
                connection.rollback()

    def first(self, text: str, values: Any) -> Any | None:
        """The first row of one question in the driver's own words: what `read()` costs in work of ours is left out.

        One statement sees one moment by itself.
        """
        with self._turn, closing(self.engine.raw_connection()) as connection:
            if self._claim is not None:
                self._claim.refresh()
            return _row(connection, text, values)

    def glance(self, text: str, values: Any) -> Any | None:
        """As `first`, in some microseconds, so that an event loop may ask; raises MustWait where it could be longer."""
        if self._glances is None:
            raise MustWait
        try:
            with closing(self._glances.raw_connection()) as connection:
                return _row(connection, text, values)
        except (sqlite3.OperationalError, OperationalError) as fault:  # whoever may wait finds out what it is
            raise MustWait from fault

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its start, so that what it reads stays true until it commits.

        Raises OSError (ENOSPC) when the disk is full, whatever the database calls that, and ServiceUnavailableException
        when another server has claimed it since we lost it.
        """
        with self._turn, _full_disk_as_such(str(self.engine.url)), self.engine.connect() as connection:
            try:
                connection.exec_driver_sql(self._begin_write)
                if self._claim is not None:
                    # In our turn: whoever takes the database over writes after us, or has done so before.
                    self._claim.require()
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    def claim(self, patience: float = CLAIM_SECONDS) -> None:
        """Hold the database for this process, until release() or close().

        Raises OutcropError where another server holds it. SQLite's file lies in a data directory that is held itself;
        a PostgreSQL that is restarted forgets who held it, and is claimed again at the next read or write.
        """
        if self.engine.dialect.name == "sqlite":
            return
        claim = Claim(self.engine)
        claim.take(patience)
        self._claim = claim

    def create(self) -> None:
        """Make every table that is missing (tests and databases in memory; a data directory is migrated instead)."""
        metadata.create_all(self.engine)

    def release(self) -> None:
        """Let others hold it, where this process does."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def close(self) -> None:
        """Close all connections."""
        self.release()
        self.engine.dispose()
        if self._glances is not None:
            self._glances.dispose()
