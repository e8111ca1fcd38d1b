"""The one place that knows every room: settings in, a running service out.

Everything is built once here and passed by argument; nothing below this floor reads a setting.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from typing import IO, Any, Final, Literal

from outcrop.api import bedrock, bedrock_runtime, dry_run, iam, s3
from outcrop.api.call import Call, Rooms, admit
from outcrop.catalog.catalog import Catalog
from outcrop.directory import Credentials, DataDirectory, Running
from outcrop.errors import OutcropError
from outcrop.estimate.rehearsal import Rehearsal, Surroundings
from outcrop.identity import Identity
from outcrop.jobs.executor import LocalExecutor
from outcrop.jobs.moves import Rules
from outcrop.jobs.scheduler import Scheduler
from outcrop.jobs.spec import Specify, specifier
from outcrop.listen import Application, Listener, Port, endpoint_at
from outcrop.migrations import opened
from outcrop.objects.disk import Disk
from outcrop.serve.figures import CONTENT_TYPE, FleetCollector, page
from outcrop.serve.fleet import Fleet
from outcrop.serve.meter import Meter
from outcrop.serve.size import budget
from outcrop.settings import Settings
from outcrop.store.database import CLAIM_SECONDS
from outcrop.store.store import Store
from outcrop.wire.gateway import Gateway, Reply, Signed

HEALTH: Final = b'{"status":"ok"}\n'
Readers = Literal["loopback", "everyone", "nobody"]
"""Of /metrics."""

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


def mount(
    rooms: Rooms, *, patient: bool = True
) -> dict[tuple[str, str], Callable[[Signed, dict[str, Any]], Mapping[str, Any] | Reply]]:
    """Every operation behind its admission, in the form that the gateway calls; not patient: those that can be so."""

    def behind_admission(operation: Operation) -> Callable[[Signed, dict[str, Any]], Mapping[str, Any] | Reply]:
        return lambda signed, params: operation(admit(rooms, signed, params, patient=patient), params)

    return {
        (service, name): behind_admission(operation)
        for service, table in TABLES.items()
        for name, operation in table.items()
        if patient or name in bedrock_runtime.AT_ONCE
    }


def at_the_door(rooms: Rooms) -> Callable[[Signed, Mapping[str, Any]], None]:
    """The refusal of an upload before its body is read: rights first, then what its head tells."""
    return lambda signed, params: s3.UPLOADS[signed.operation](admit(rooms, signed, params), params)


@dataclass(frozen=True, slots=True)
class Service:
    """A whole service over one data directory, from `start()` to `stop()`."""

    settings: Settings
    directory: DataDirectory
    rooms: Rooms
    gateway: Gateway
    scheduler: Scheduler
    listener: Listener
    made: tuple[str, ...]
    """What was missing and was made at this start, in words for people."""
    lock: IO[str]

    @property
    def endpoint(self) -> str:
        """The URL that AWS_ENDPOINT_URL takes."""
        return endpoint_at(self.listener.host, self.listener.port)

    async def start(self) -> None:
        """Listen, then start the two loops; returns when requests are answered."""
        await self.listener.start()
        self.directory.write_server(Running(pid=os.getpid(), endpoint=self.endpoint))
        self.rooms.fleet.start()
        self.scheduler.start()

    async def stop(self) -> None:
        """Stop listening and end the engines; training children go on, and the next start adopts them."""
        await self.listener.stop()
        self.scheduler.stop()
        self.rooms.fleet.stop()
        self.gateway.close()
        self.rooms.store.database.close()
        self.directory.server.unlink(missing_ok=True)
        self.lock.close()


def front_door(gateway: Gateway, metrics: Callable[[], bytes], readers: Readers) -> Application:
    """The ASGI application: /health for whoever watches the process, /metrics for its readers, all else to the gateway.

    A signed request is AWS's, whatever its path: a bucket may have these names.
    """

    async def application(scope: Any, receive: Any, send: Any) -> None:
        signed = any(name == b"authorization" for name, _ in scope["headers"])
        asked = scope["path"] if scope["method"] in ("GET", "HEAD") and not signed else None
        if asked == "/health":
            await _page(scope, send, b"application/json", HEALTH)
        elif asked == "/metrics" and _may_read(scope, readers):
            # It asks every engine, so not in the event loop.
            await _page(scope, send, CONTENT_TYPE, await asyncio.to_thread(metrics))
        else:
            await gateway(scope, receive, send)

    return application


def _may_read(scope: Mapping[str, Any], readers: Readers) -> bool:
    client = scope.get("client")
    return readers == "everyone" or (readers == "loopback" and client is not None and ip_address(client[0]).is_loopback)


async def _page(scope: Mapping[str, Any], send: Any, content_type: bytes, body: bytes) -> None:
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body if scope["method"] == "GET" else b""})


def build(settings: Settings) -> Service:
    """Build every room over the data directory of the settings; nothing listens or runs before `Service.start()`.

    Raises OutcropError with a message for the person at the terminal: directory in use, port taken, database newer.
    """
    directory = DataDirectory(settings.data.absolute())
    directory.prepare()
    with ExitStack() as undo:
        lock = undo.enter_context(directory.lock())
        service = _build(settings, directory, lock)
        undo.pop_all()
    return service


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the rooms stand on."""

    settings: Settings
    directory: DataDirectory
    store: Store
    catalog: Catalog
    identity: Identity
    door: str
    """The S3 that training children talk to."""

    @property
    def threads(self) -> dict[str, str]:
        """How many of them train, as a child's environment tells it."""
        number = self.settings.training_threads
        return {"OMP_NUM_THREADS": str(number)} if number else {}


def _build(settings: Settings, directory: DataDirectory, lock: IO[str]) -> Service:
    here = bool(settings.database) or directory.database.exists()
    if not here:  # before there is one, which other commands would take for the right one
        _check_objects(directory, known=False)
    store = Store.over(opened(settings.database or f"sqlite:///{directory.database}", claim=CLAIM_SECONDS))
    catalog = Catalog.load(settings.catalog, fetched=directory.weights)
    key = directory.written_key()
    keys = store.access.keys
    _check_objects(directory, known=bool(keys.lasting()) if key is None else keys.find(key) is not None)
    identity = Identity(store.access, account=settings.account, now=now)
    made = (*(() if here else ("database",)), *_write_credentials(identity, directory, settings))
    disk = Disk(directory.buckets)
    disk.sweep(store.objects)
    directory.sweep_spool()
    # Chosen now: the children's endpoint has it, and the listener comes last.
    port = Port(settings.host, settings.port)
    door = settings.s3_endpoint or endpoint_at(settings.host, port.number)
    ground = _Ground(settings, directory, store, catalog, identity, door)
    meter = Meter()
    fleet = _fleet(ground, meter)
    meter.registry.register(FleetCollector(fleet.snapshot))
    specify = specifier(
        catalog,
        store.models,
        directory.models,
        settings.checkpoint_seconds,
        enforce_advice=settings.advised_minima == "enforce",
    )
    scheduler = _scheduler(ground, specify)
    rooms = _rooms(ground, disk, fleet, lambda: ring(scheduler.wake, fleet.wake), _rehearsal(ground, specify))
    gateway = Gateway(
        operations=mount(rooms),
        credential_known=identity.credential_known,
        credential_for=identity.credential_for,
        bearer_for=identity.bearer_for,
        at_once=mount(rooms, patient=False),
        spool=directory.spool,
        admit_upload=at_the_door(rooms),
        aside=dry_run.runs_aside,
        threads=settings.request_threads,
        default_region=settings.region,
    )
    return Service(
        settings=settings,
        directory=directory,
        rooms=rooms,
        gateway=gateway,
        scheduler=scheduler,
        listener=Listener(front_door(gateway, partial(page, meter.registry), settings.metrics), port),
        made=made,
        lock=lock,
    )


def _fleet(ground: _Ground, meter: Meter) -> Fleet:
    settings, directory = ground.settings, ground.directory
    return Fleet(
        store=ground.store,
        catalog=ground.catalog,
        models=directory.models,
        logs=directory.logs,
        now=now,
        options=_engine_options(settings),
        on_demand_wait=settings.on_demand_wait_seconds,
        on_demand_keep=settings.on_demand_keep_seconds,
        meter=meter,
        memory=budget(settings.engine_memory_gb),
        measured=settings.unit_capacity == "measured",
    )


def _engine_options(settings: Settings) -> list[str]:
    """What each engine of our own is told."""
    told = ["--stream-interval", str(settings.stream_interval_ms)]
    return [*told, "--threads", str(settings.engine_threads)] if settings.engine_threads else told


def _scheduler(ground: _Ground, specify: Specify) -> Scheduler:
    settings, directory = ground.settings, ground.directory
    return Scheduler(
        store=ground.store,
        executor=LocalExecutor(os.environ),
        roles=ground.identity,
        specify=specify,
        work=directory.work,
        models=directory.models,
        endpoint=ground.door,
        now=now,
        environment=ground.threads,
        rules=Rules(capacity=settings.training_jobs, attempts=settings.training_attempts),
    )


def _rehearsal(ground: _Ground, specify: Specify) -> Rehearsal:
    settings, directory = ground.settings, ground.directory
    return Rehearsal(
        specify,
        ground.catalog.find,
        ground.identity,
        Surroundings(
            endpoint=ground.door,
            spool=directory.spool,
            place=directory.work,
            kept=directory.calibrations,
            environment={**os.environ, **ground.threads},
            machine_hour=settings.machine_cost_per_hour,
        ),
    )


def _rooms(ground: _Ground, disk: Disk, fleet: Fleet, wake: Callable[[], None], rehearse: Rehearsal) -> Rooms:
    settings = ground.settings
    return Rooms(
        account=settings.account,
        store=ground.store,
        catalog=ground.catalog,
        identity=ground.identity,
        disk=disk,
        fleet=fleet,
        models=ground.directory.models,
        now=now,
        wake=wake,
        rehearse=rehearse,
        model_units=settings.model_units,
        deploy_all=settings.deployable_models == "all",
        deployments_in_progress=settings.deployments_in_progress,
        strict_stop_sequences=settings.strict_stop_sequences,
    )


def ring(*bells: Callable[[], None]) -> None:
    """Ring each of them."""
    for bell in bells:
        bell()


def _check_objects(directory: DataDirectory, *, known: bool) -> None:
    """Raise OutcropError where objects lie here; known: whether the database is the one that knows them.

    They would be swept as what a killed server left: one forgotten setting, and all of them were gone.
    """
    if not known and any(directory.buckets.glob("[0-9a-f][0-9a-f]/*")):
        raise OutcropError(
            f"{directory.buckets} holds objects of another database than this one. Set `database` (OUTCROP_DATABASE) "
            f"as it was for them, or give another --data; to give them up, remove {directory.buckets}"
        )


def _write_credentials(identity: Identity, directory: DataDirectory, settings: Settings) -> tuple[str, ...]:
    """Tell the first keys in the `credentials` file; written anew at each start, as the database is what counts.

    Returns what was missing and is there now.
    """
    missing = not directory.credentials.exists()
    keys = identity.first_start()
    directory.write_credentials(
        Credentials(access_key=keys.access_key, secret=keys.secret, bearer=keys.bearer, region=settings.region)
    )
    return (*keys.made, *(("credentials file",) if missing else ()))
