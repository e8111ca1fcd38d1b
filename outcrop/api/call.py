"""Who asks, and the rooms that an operation may use; nothing of any operation itself.

`Rooms` is built once in app.py. `Call` is made for each request by `admit` and handed to the operation; it is frozen,
so nothing is filled in on the way.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from outcrop.catalog.catalog import Catalog
from outcrop.identity import Identity
from outcrop.objects.disk import Disk
from outcrop.records import Arn, Principal
from outcrop.serve.fleet import Fleet
from outcrop.store.store import Store
from outcrop.wire.gateway import Signed


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything that operations work with, built once."""

    account: str
    """The account's 12 digits."""
    store: Store
    catalog: Catalog
    identity: Identity
    disk: Disk
    fleet: Fleet
    models: Path
    """Where custom models' weights lie: one folder an id."""
    now: Callable[[], datetime]
    wake: Callable[[], None]
    """Rings the scheduler and the fleet: there is something new in the store."""
    model_units: int = 10
    """Model units that may be provisioned in all."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its signature, its caller and the rooms."""

    signed: Signed
    caller: Principal
    rooms: Rooms

    @property
    def region(self) -> str:
        """The region that the credential scope names."""
        return self.signed.region

    def arn(self, service: str, resource: str) -> str:
        """An ARN of this call's account and region."""
        return str(Arn(service=service, region=self.region, account=self.rooms.account, resource=resource))

    def may(self, action: str, resource: str, context: Mapping[str, str | list[str]] | None = None) -> bool:
        """Whether the caller may do the action (s3:GetObject) to the resource (an ARN)."""
        raise NotImplementedError

    def require(self, action: str, resource: str, context: Mapping[str, str | list[str]] | None = None) -> None:
        """Raise the service's AccessDenied unless the caller may do the action to the resource."""
        raise NotImplementedError


def admit(rooms: Rooms, signed: Signed, params: Mapping[str, Any]) -> Call:
    """The call of a verified request, or AccessDenied in the service's own form."""
    raise NotImplementedError
