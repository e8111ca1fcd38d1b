"""Who asks, and the rooms that an operation may use; nothing of any operation itself.

`Rooms` is built once in app.py. `Call` is made for each request by `admit` and handed to the operation; it is frozen,
so nothing is filled in on the way. What each operation needs stands in actions/, who may in `identity`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from outcrop.api.actions.need import Target
from outcrop.api.actions.table import TABLE
from outcrop.catalog.catalog import Catalog
from outcrop.errors import AccessDeniedException, MustWait, ServiceError
from outcrop.identity import Decision, Given, Identity
from outcrop.objects.disk import Disk
from outcrop.records import Arn, Job, Principal
from outcrop.serve.fleet import Fleet
from outcrop.store.store import Store
from outcrop.wire.gateway import Signed

BUCKET_ARN: Final = "arn:aws:s3:::"
HEADER_KEYS: Final = {"user-agent": "aws:UserAgent", "referer": "aws:Referer"}


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
    rehearse: Callable[[Job], Mapping[str, Any]] | None = None
    """What a job would do, take and cost, as JSON's types, for dry runs; None: there are none."""
    model_units: int = 10
    """Model units that may be provisioned in all."""
    deploy_all: bool = True
    """Whether custom models of every base may be deployed, or of those that AWS names."""
    deployments_in_progress: int = 10
    """Deployments that may be Creating at the same time."""
    strict_stop_sequences: bool = False
    """Whether only the stop sequences that AWS takes are taken."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its signature, its caller and the rooms."""

    signed: Signed
    caller: Principal
    rooms: Rooms
    patient: bool = True
    """False: it runs in the event loop, and raises MustWait before anything that it would have to wait for."""

    def may_wait(self) -> None:
        """Raise MustWait unless this call can wait."""
        if not self.patient:
            raise MustWait

    @property
    def region(self) -> str:
        """The region that the credential scope names."""
        return self.signed.region

    def arn(self, service: str, resource: str) -> str:
        """An ARN of this call's account and region."""
        return str(Arn(service=service, region=self.region, account=self.rooms.account, resource=resource))

    @property
    def given(self) -> dict[str, str]:
        """The condition keys that every request has."""
        signed = self.signed
        keys = {
            "aws:SecureTransport": "true" if signed.secure else "false",
            "aws:RequestedRegion": signed.region,
            "aws:ResourceAccount": self.rooms.account,
        }
        if signed.source_ip:
            keys["aws:SourceIp"] = signed.source_ip
        keys |= {key: signed.headers[name] for name, key in HEADER_KEYS.items() if name in signed.headers}
        if signed.service == "s3":
            keys |= {f"s3:{name}": value for name, value in signed.headers.items() if name.startswith("x-amz-")}
            keys["s3:ResourceAccount"] = self.rooms.account
            if signed.access_key is not None:
                in_header = "authorization" in signed.headers
                keys["s3:authType"] = "REST-HEADER" if in_header else "REST-QUERY-STRING"
        return keys

    def ask(self, action: str, resource: str, context: Given | None = None) -> Decision:
        """Whether the caller may do the action to the resource, with the reason if not.

        context: the operation's own condition keys (s3:prefix, iam:PassedToService, …).
        """
        policy = None
        if resource.startswith(BUCKET_ARN):
            bucket = resource[len(BUCKET_ARN) :].partition("/")[0]
            policy = self.rooms.store.buckets.policy(bucket)
        if self.caller.admin and policy is None:
            # Nothing is left that could deny it; and the commonest call of all is not kept waiting for its context.
            return self.rooms.identity.decide(self.caller, action, resource, {})
        given = {**self._tags(resource), **self.given, **(context or {})}
        return self.rooms.identity.decide(self.caller, action, resource, given, policy)

    def _tags(self, resource: str) -> dict[str, str]:
        """aws:ResourceTag/… of a Bedrock resource, s3:ExistingObjectTag/… of an object."""
        store = self.rooms.store
        if resource.startswith(BUCKET_ARN):
            bucket, slash, key = resource[len(BUCKET_ARN) :].partition("/")
            found = store.objects.get(bucket, key) if slash else None
            tags = found.attributes.tags if found else {}
            return {f"s3:ExistingObjectTag/{name}": value for name, value in tags.items()}
        if resource.startswith("arn:aws:bedrock:"):
            return {f"aws:ResourceTag/{tag['key']}": tag["value"] for tag in store.tags.of(resource)}
        return {}

    def require(self, action: str, resource: str, context: Given | None = None) -> None:
        """Raise the service's AccessDenied unless the caller may do the action to the resource."""
        decision = self.ask(action, resource, context)
        if not decision:
            raise self.denied(action, resource, decision.reason)

    def denied(self, action: str, resource: str, reason: str = "") -> ServiceError:
        """The service's AccessDenied in AWS's words."""
        service = self.signed.service
        if self.signed.access_key is None:
            return ServiceError("Access Denied", code="AccessDenied", status=403)
        # S3 puts the ARN between quotation marks, the others do not.
        name = f'"{resource}"' if service == "s3" else resource
        start = f"User: {self.caller.arn} is not authorized to perform: {action} on resource: {name}"
        message = f"{start} {reason}" if reason else start
        if service in ("bedrock", "bedrock-runtime"):
            return AccessDeniedException(message)
        return ServiceError(message, code="AccessDenied", status=403)


def admit(rooms: Rooms, signed: Signed, params: Mapping[str, Any], *, patient: bool = True) -> Call:
    """The call of a verified request; AccessDenied in the service's own form where the caller lacks a permission.

    Raises KeyError for an operation without a row in actions/: what nobody thought about is not let through. patient:
    of the call; where it is not, MustWait for whoever is not known to be the admin.
    """
    find = rooms.identity.principal_for if patient else rooms.identity.principal_known
    caller = find(signed.access_key)
    if caller is None:
        raise MustWait
    call = Call(signed, caller, rooms, patient)
    needs = TABLE[signed.service][signed.operation]
    if call.caller.admin and signed.service != "s3":
        return call  # Only bucket policies can deny the admin anything: no ARN need be looked up.
    call.may_wait()
    target = Target(params=params, region=signed.region, account=rooms.account, store=rooms.store)
    for need in needs:
        if need.when is None or params.get(need.when):
            call.require(need.action, need.on(target), need.given(target))
    return call
