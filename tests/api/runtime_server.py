"""A real server with bedrock-runtime in it, over a fleet whose engines echo, and boto3's own client for it."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from outcrop.api import bedrock_runtime
from outcrop.api.call import Rooms, admit
from outcrop.identity import FirstKeys
from outcrop.wire.gateway import Gateway, Reply, Signed
from tests.api.bedrock_server import REGION, SPEC, rooms_over, serving
from tests.serve.fleet_world import World, now

EXPRESS = "amazon.titan-text-express-v1"


@dataclass
class Runtime:
    """A running server: the fleet's world behind, boto3 in front."""

    world: World
    endpoint: str
    keys: FirstKeys
    rooms: Rooms
    gateway: Gateway

    def client(self, region: str = REGION, attempts: int = 1) -> Any:
        """boto3's own client; by itself it does not try again, so that a refusal is seen once."""
        return boto3.client(
            "bedrock-runtime",
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=self.keys.access_key,
            aws_secret_access_key=self.keys.secret,
            config=Config(retries={"total_max_attempts": attempts, "mode": "standard"}),
        )

    @property
    def leases(self) -> int:
        """Leases that have not ended."""
        return sum(sum(engine.leased.values()) for engine in self.world.fleet._engines.values())


@contextlib.contextmanager
def runtime_over(root: Path, *, strict: bool = False, **fleet: Any) -> Iterator[Runtime]:
    """The runtime over a fresh world; `fleet`: what its fleet is told."""
    (root / "rooms").mkdir()
    (root / "world").mkdir()
    # In a file, so that streams are begun in the event loop as they are with a server's own database.
    world = World(root / "world", **{"database": f"sqlite:///{root / 'outcrop.db'}", **fleet})
    base = rooms_over(root / "rooms", now, lambda: None)  # type: ignore[arg-type]
    rooms = replace(
        base, store=world.store, catalog=world.catalog, fleet=world.fleet, strict_stop_sequences=strict, now=now
    )

    def mounted(name: str, *, patient: bool = True) -> Callable[[Signed, dict[str, Any]], Reply]:
        operation: Callable[..., Any] = bedrock_runtime.OPERATIONS[name]
        return lambda signed, params: operation(admit(rooms, signed, params, patient=patient), params)

    gateway = Gateway(
        operations={("bedrock-runtime", name): mounted(name) for name in bedrock_runtime.OPERATIONS},
        at_once={("bedrock-runtime", name): mounted(name, patient=False) for name in bedrock_runtime.AT_ONCE},
        credential_known=rooms.identity.credential_known,
        credential_for=rooms.identity.credential_for,
        bearer_for=rooms.identity.bearer_for,
        spool=root / "rooms" / "spool",
        spec=SPEC,
    )
    keys = rooms.identity.first_start()
    world.fleet.start()
    try:
        with serving(gateway) as endpoint:
            yield Runtime(world, endpoint, keys, rooms, gateway)
    finally:
        world.close()
        base.store.database.close()
