"""Which server a PostgreSQL schema belongs to: a lock that lives as long as one connection does.

Two servers over one schema would run each job twice. Where the connection is lost (the database was restarted, say) the
lock is free: it is taken again, or somebody else has it, and then nothing more may be written. Knows connections and no
table.
"""

import threading
import time
from typing import Any, Final

import structlog
from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError

from outcrop.errors import OutcropError, ServiceUnavailableException

LOCK: Final = f"SELECT pg_try_advisory_lock({int.from_bytes(b'outc')}, hashtext(current_schema()))"

KEEPALIVES: Final = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}
"""A machine that has died is missed after a minute, and not after the usual two hours."""

log = structlog.get_logger()


class Claim:
    """One server's hold of a schema."""

    def __init__(self, engine: Engine) -> None:
        """engine: that of the transactions; a new connection of its pool may mean that all others were lost."""
        # Not of that pool: where all its connections wait for the claim, there would be none to claim with.
        self._engine = create_engine(engine.url, poolclass=NullPool)
        self._connection: Connection | None = None
        self._turn = threading.Lock()
        self._doubted = False
        event.listen(engine, "connect", self._doubt)

    def take(self, patience: float) -> None:
        """Wait so many seconds until nobody else holds it; raises OutcropError where somebody still does."""
        deadline = time.monotonic() + patience
        with self._turn:
            while not self._try():
                if time.monotonic() > deadline:
                    raise OutcropError(
                        "another outcrop server already uses this database; stop it first, or give another one or a "
                        "schema of its own. If its machine has just died, try again in two minutes"
                    )
                time.sleep(0.1)

    def require(self) -> None:
        """Raise ServiceUnavailableException where the schema is not ours any more; a lost hold is taken again."""
        if not self._holds():
            raise ServiceUnavailableException(
                "Another server has taken the database over, or the database has not noticed yet that an earlier "
                "connection of this one is gone; nothing is stored until it is free."
            )

    def refresh(self) -> None:
        """Take a hold that may have been lost again, where that was not looked at since; nothing where it is gone."""
        if self._doubted:
            self._holds()

    def close(self) -> None:
        """Give it back."""
        with self._turn:
            self._drop()

    def _holds(self) -> bool:
        with self._turn:
            self._doubted = False
            if self._connection is not None:
                try:
                    # The lock is ours for as long as this connection lives.
                    self._connection.exec_driver_sql("SELECT 1")
                except DBAPIError as fault:
                    if not fault.connection_invalidated:
                        raise
                    self._drop()
                    log.warning("the database has dropped its connections: it is claimed again")
            return self._connection is not None or self._try()

    def _try(self) -> bool:
        # No transaction: one that stays open would keep PostgreSQL from cleaning up.
        connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            for name, value in KEEPALIVES.items():
                connection.exec_driver_sql(f"SET {name} = {value}")
            if connection.exec_driver_sql(LOCK).scalar_one():
                self._connection = connection
        finally:
            if self._connection is None:
                connection.close()
        return self._connection is not None

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _doubt(self, _connection: Any, _record: Any) -> None:
        self._doubted = True
