"""The one place that knows every room: settings in, a running service out.

Everything is built once here and passed by argument; nothing below this floor reads a setting.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import structlog

from outcrop.api import bedrock, bedrock_runtime, iam, s3
from outcrop.api.call import Call, Rooms, admit
from outcrop.catalog.catalog import Catalog
from outcrop.directory import Credentials, DataDirectory, Running
from outcrop.errors import OutcropError
from outcrop.identity import Identity
from outcrop.jobs.executor import LocalExecutor
from outcrop.jobs.scheduler import Scheduler
from outcrop.listen import Listener
from outcrop.migrations import migrate
from outcrop.objects.disk import Disk
from outcrop.serve.fleet import Fleet
from outcrop.settings import Settings
from outcrop.store.database import Database
from outcrop.store.store import Store
from outcrop.wire.gateway import Gateway, Reply, Signed

log = structlog.get_logger()

Operation = Callable[[Call, Mapping[str, Any]], Mapping[str, Any] | Reply]

TABLES: Mapping[str, Mapping[str, Operation]] = {
    "bedrock": bedrock.OPERATIONS,
    "bedrock-runtime": bedrock_runtime.OPERATIONS,
    "s3": s3.OPERATIONS,
    "sts": iam.OPERATIONS_STS,
    "iam": iam.OPERATIONS_IAM,
}


def now() -> datetime:
    """The present instant in UTC."""
    return datetime.now(UTC)


def mount(rooms: Rooms) -> dict[tuple[str, str], Callable[[Signed, dict[str, Any]], Mapping[str, Any] | Reply]]:
    """Every operation behind its admission, in the form that the gateway calls."""

    def behind_admission(operation: Operation) -> Callable[[Signed, dict[str, Any]], Mapping[str, Any] | Reply]:
        return lambda signed, params: operation(admit(rooms, signed, params), params)

    return {
        (service, name): behind_admission(operation)
        for service, table in TABLES.items()
        for name, operation in table.items()
    }


@dataclass
class Service:
    """A whole service over one data directory, from `start()` to `stop()`."""

    settings: Settings
    directory: DataDirectory
    rooms: Rooms
    gateway: Gateway
    scheduler: Scheduler
    listener: Listener
    credentials: Credentials
    first_start: bool
    lock: IO[str]

    @property
    def endpoint(self) -> str:
        """The URL that AWS_ENDPOINT_URL takes."""
        host = "127.0.0.1" if self.settings.host in ("0.0.0.0", "::") else self.settings.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.listener.port}"

    async def start(self) -> None:
        """Listen, then start the two loops; returns when requests are answered."""
        await self.listener.start()
        self.directory.write_server(Running(pid=os.getpid(), endpoint=self.endpoint))
        self.rooms.fleet.start()
        self.scheduler.start()

    async def stop(self) -> None:
        """Stop listening, end the engines and let training children go on: the next start adopts them."""
        await self.listener.stop()
        self.scheduler.stop()
        self.rooms.fleet.stop()
        self.gateway.close()
        self.rooms.store.database.close()
        self.directory.server.unlink(missing_ok=True)
        self.lock.close()


def build(settings: Settings) -> Service:
    """Build every room over the data directory of the settings; nothing listens or runs before `Service.start()`.

    Raises OutcropError with a message for the person at the terminal: directory in use, port taken, database newer.
    """
    directory = DataDirectory(settings.data.absolute())
    directory.prepare()
    lock = directory.lock()
    try:
        return _build(settings, directory, lock)
    except BaseException:
        lock.close()
        raise


def _build(settings: Settings, directory: DataDirectory, lock: IO[str]) -> Service:
    database = Database(settings.database or f"sqlite:///{directory.database}")
    migrate(database)
    store = Store.over(database)
    disk = Disk(directory.buckets)
    disk.sweep(store.objects)
    catalog = Catalog.load()
    identity = Identity(store.access, account=settings.account, now=now)
    credentials, first = _first_start(identity, directory, settings)
    fleet = Fleet(
        store=store,
        catalog=catalog,
        models=directory.models,
        logs=directory.logs,
        now=now,
        threads=settings.engine_threads,
        on_demand_wait=settings.on_demand_wait_seconds,
    )
    bells: list[Callable[[], None]] = [fleet.wake]
    rooms = Rooms(
        account=settings.account,
        store=store,
        catalog=catalog,
        identity=identity,
        disk=disk,
        fleet=fleet,
        models=directory.models,
        now=now,
        wake=lambda: [bell() for bell in bells] and None,
    )
    gateway = Gateway(
        operations=mount(rooms),
        credential_for=identity.credential_for,
        bearer_for=identity.bearer_for,
        spool=directory.spool,
        threads=settings.request_threads,
    )
    listener = Listener(front_door(gateway), settings.host, settings.port)
    return Service(
        settings=settings,
        directory=directory,
        rooms=rooms,
        gateway=gateway,
        scheduler=Scheduler(),
        listener=listener,
        credentials=credentials,
        first_start=first,
        lock=lock,
    )
