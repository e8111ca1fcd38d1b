"""Access keys with their secrets, and the Bedrock API keys that stand for them: who holds a key, not their rights.

Secrets are kept as they are: a signature can only be checked with the secret itself. The database file is as private as
the `credentials` file beside it.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, Column, String, Table, delete, insert, select

from outcrop.records import Key, Principal, Session
from outcrop.store.database import Database, Instant, metadata

ACCESS_KEYS: Final = Table(
    "access_keys",
    metadata,
    Column("access_key", String(128), primary_key=True),
    Column("secret", String(256), nullable=False),
    Column("session_token", String(2048)),
    Column("expires", Instant, index=True),
    Column("created", Instant, nullable=False),
    Column("principal", JSON, nullable=False),
)
BEARER_KEYS: Final = Table(
    "bearer_keys",
    metadata,
    Column("token", String(512), primary_key=True),
    Column("access_key", String(128), nullable=False),
    Column("created", Instant, nullable=False),
)


def _principal(document: dict[str, Any]) -> Principal:
    session = document.pop("session", None)
    if session is None:
        return Principal(**document)
    return Principal(
        **document,
        session=Session(
            policies=tuple(session["policies"]),
            tags=tuple((key, value) for key, value in session["tags"]),
            transitive=tuple(session["transitive"]),
            source_identity=session["source_identity"],
        ),
    )


class KeyStore:
    """The verbs of keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, key: Key, now: datetime) -> None:
        """Keep a new key."""
        with self._database.write() as connection:
            connection.execute(
                insert(ACCESS_KEYS).values(
                    access_key=key.access_key,
                    secret=key.secret,
                    session_token=key.session_token,
                    expires=key.expires,
                    created=now,
                    principal=asdict(key.principal),
                )
            )

    def find(self, access_key: str) -> Key | None:
        """The key of that id, expired or not."""
        with self._database.read() as connection:
            row = connection.execute(select(ACCESS_KEYS).where(ACCESS_KEYS.c.access_key == access_key)).first()
        if row is None:
            return None
        return Key(row.access_key, row.secret, _principal(dict(row.principal)), row.session_token, row.expires)

    def remove(self, access_key: str) -> None:
        """Drop a key; no effect on an unknown one."""
        with self._database.write() as connection:
            connection.execute(delete(ACCESS_KEYS).where(ACCESS_KEYS.c.access_key == access_key))

    def lasting(self) -> list[tuple[Key, datetime]]:
        """The keys without an end and when each was made, oldest first."""
        query = select(ACCESS_KEYS).where(ACCESS_KEYS.c.expires.is_(None))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(ACCESS_KEYS.c.created, ACCESS_KEYS.c.access_key)).all()
        return [(Key(row.access_key, row.secret, _principal(dict(row.principal))), row.created) for row in rows]

    def sweep(self, before: datetime) -> int:
        """Drop the keys that ended before an instant; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(ACCESS_KEYS).where(ACCESS_KEYS.c.expires < before)).rowcount

    def add_bearer(self, token: str, access_key: str, now: datetime) -> None:
        """Keep a Bedrock API key that stands for an access key."""
        with self._database.write() as connection:
            connection.execute(insert(BEARER_KEYS).values(token=token, access_key=access_key, created=now))

    def bearer(self, token: str) -> str | None:
        """The access key that a Bedrock API key stands for."""
        with self._database.read() as connection:
            return connection.scalar(select(BEARER_KEYS.c.access_key).where(BEARER_KEYS.c.token == token))

    def bearers_of(self, access_key: str) -> list[str]:
        """The Bedrock API keys of an access key, oldest first."""
        query = select(BEARER_KEYS.c.token).where(BEARER_KEYS.c.access_key == access_key)
        with self._database.read() as connection:
            return list(connection.scalars(query.order_by(BEARER_KEYS.c.created, BEARER_KEYS.c.token)))
