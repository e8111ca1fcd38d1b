"""A real server over a fresh data directory for tests of IAM, STS and admission: gateway, store, disk, no job loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from outcrop.api.call import Rooms
from outcrop.app import mount
from outcrop.catalog.catalog import Catalog
from outcrop.identity import FirstKeys, Identity
from outcrop.listen import Listener, Port
from outcrop.objects.disk import Disk
from outcrop.serve.fleet import Fleet
from outcrop.store.database import Database
from outcrop.store.store import Store
from outcrop.wire.gateway import Gateway

ACCOUNT = "123456789012"


@dataclass
class Clock:
    """The present, moved by hand where a test needs it."""

    ahead: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass(frozen=True)
class World:
    """A running server and its parts."""

    endpoint: str
    rooms: Rooms
    keys: FirstKeys
    clock: Clock
    bells: list[str]

    def client(self, service: str, credentials: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        """An unmodified boto3 client: the admin's, or with STS's Credentials."""
        given = credentials or {"AccessKeyId": self.keys.access_key, "SecretAccessKey": self.keys.secret}
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given.get("SessionToken"),
            config=Config(retries={"max_attempts": 1}, **settings),
        )


def rooms_in(root: Path, clock: Callable[[], datetime], bells: list[str]) -> Rooms:
    """The rooms of a server over a fresh directory."""
    for name in ("buckets", "models", "logs", "spool"):
        (root / name).mkdir()
    database = Database(f"sqlite:///{root / 'outcrop.db'}")
    database.create()
    store, catalog = Store.over(database), Catalog.load()
    return Rooms(
        account=ACCOUNT,
        store=store,
        catalog=catalog,
        identity=Identity(store.access, account=ACCOUNT, now=clock),
        disk=Disk(root / "buckets"),
        fleet=Fleet(store=store, catalog=catalog, models=root / "models", logs=root / "logs", now=clock),
        models=root / "models",
        now=clock,
        wake=lambda: bells.append("rung"),
    )


@contextmanager
def running(root: Path) -> Iterator[World]:
    """A server that answers on a port of the kernel's choice until the block ends."""
    clock, bells = Clock(), list[str]()
    rooms = rooms_in(root, clock, bells)
    keys = rooms.identity.first_start()
    gateway = Gateway(
        operations=mount(rooms),
        credential_for=rooms.identity.credential_for,
        bearer_for=rooms.identity.bearer_for,
        spool=root / "spool",
        now=clock,
    )
    listener = Listener(gateway, Port("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(listener.start(), loop).result(30)
        yield World(f"http://127.0.0.1:{listener.port}", rooms, keys, clock, bells)
        asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
        gateway.close()
        rooms.store.database.close()
