"""A real server with bedrock's control plane in it, in a thread of the test, and boto3's own clients for it.

No loop runs: a test moves jobs and throughputs with the store's own verbs, as the scheduler and the fleet do.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from outcrop.api import bedrock
from outcrop.api.call import Rooms, admit
from outcrop.catalog.catalog import Catalog
from outcrop.identity import FirstKeys, Identity
from outcrop.listen import Listener, Port
from outcrop.objects.disk import Disk
from outcrop.records import Job, Key, Model, Throughput, new_id
from outcrop.serve.fleet import Fleet
from outcrop.store.database import Database
from outcrop.store.store import Store
from outcrop.wire.gateway import Gateway, Reply, Signed
from outcrop.wire.spec import Spec

ACCOUNT = "123456789012"
EXPRESS = "amazon.titan-text-express-v1"
LONG = "amazon.titan-text-express-v1:0:8k"
REGION = "us-east-1"
BASE_ARN = f"arn:aws:bedrock:{REGION}::foundation-model/{LONG}"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/BedrockCustomizationRole"
SPEC = Spec()
CATALOG = Catalog.load()
SESSION = boto3.Session()


class Clock:
    """A clock that a test sets; it starts at a whole millisecond, as the wire shows."""

    def __init__(self) -> None:
        self.time = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def tick(self, seconds: float = 1) -> datetime:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)
        return self.time


@dataclass
class Bedrock:
    """A running server: its rooms behind, its clients in front."""

    rooms: Rooms
    clock: Clock
    keys: FirstKeys
    endpoint: str
    bells: list[str]

    def client(self, service: str = "bedrock", region: str = REGION, key: Key | None = None) -> Any:
        """boto3's own client; it does not retry, so that a refusal is seen once."""
        return SESSION.client(
            service,
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=key.access_key if key else self.keys.access_key,
            aws_secret_access_key=key.secret if key else self.keys.secret,
            aws_session_token=key.session_token if key else None,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def raw(self, method: str, path: str, body: Any = None, region: str = REGION) -> httpx.Response:
        """A signed request that boto3 itself would not send."""
        content = b"" if body is None else json.dumps(body).encode()
        request = AWSRequest(method, self.endpoint + path, data=content, headers={"Content-Type": "application/json"})
        SigV4Auth(Credentials(self.keys.access_key, self.keys.secret), "bedrock", region).add_auth(request)
        return httpx.request(method, self.endpoint + path, content=content, headers=dict(request.headers), timeout=30)

    def create_job(self, client: Any, number: int = 1, **changes: Any) -> str:
        """Create a customization job whose names carry a number; return its ARN."""
        arn: str = client.create_model_customization_job(**request(number, **changes))["jobArn"]
        return arn

    def complete(self, arn: str, metrics: dict[str, Any] | None = None) -> Model:
        """End a job as the scheduler does when its child is done; return its model."""
        job = self.rooms.store.jobs.by_arn(arn)
        assert job is not None
        model_id = new_id()
        model = Model(
            arn=f"arn:aws:bedrock:{job.region}:{ACCOUNT}:custom-model/{LONG}/{model_id}",
            id=model_id,
            name=job.request["customModelName"],
            region=job.region,
            status="Active",
            base_model_id=job.base_model_id,
            job_arn=arn,
            document={},
            method="lora",
            base_weights="bundled:text",
            created=self.clock.tick(),
        )
        (self.rooms.models / model_id).mkdir()
        (self.rooms.models / model_id / "adapter_config.json").write_text("{}")
        told = {"trainingMetrics": {"trainingLoss": 1.71}, "validationMetrics": []}
        self.rooms.store.jobs.complete(arn, model, metrics or told, self.clock.time)
        return model

    def job(self, arn: str) -> Job:
        """The job as the store has it."""
        found = self.rooms.store.jobs.by_arn(arn)
        assert found is not None
        return found

    def throughput(self, arn: str) -> Throughput:
        """The throughput as the store has it."""
        found = self.rooms.store.throughputs.by_arn(arn)
        assert found is not None
        return found


def request(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A valid CreateModelCustomizationJob request whose names carry a number."""
    return {
        "jobName": f"job-{number}",
        "customModelName": f"model-{number}",
        "roleArn": ROLE,
        "baseModelIdentifier": EXPRESS,
        "trainingDataConfig": {"s3Uri": "s3://my-bucket/training/train.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://my-bucket/output/"},
    } | changes


def refused(call: Callable[..., Any], *positional: Any, **params: Any) -> tuple[str, str, int]:
    """Code, message and HTTP status of a refused call."""
    try:
        answer = call(*positional, **params)
    except ClientError as refusal:
        error = refusal.response["Error"]
        return error["Code"], error["Message"], refusal.response["ResponseMetadata"]["HTTPStatusCode"]
    raise AssertionError(f"was not refused: {answer}")


def require_filters(
    names: Callable[..., list[str]], born: dict[str, datetime], *, running: str, model_arn: str, after: str, before: str
) -> None:
    """Order and filters of a list that holds alpha-1 (of that model), alpha-2 and beta, of which beta is `running`.

    after, before: what the list calls its filters by time.
    """
    assert names() == ["beta", "alpha-2", "alpha-1"]
    assert names(sortBy="CreationTime", sortOrder="Ascending") == ["alpha-1", "alpha-2", "beta"]
    assert names(nameContains="alpha") == ["alpha-2", "alpha-1"]
    assert names(statusEquals=running) == ["beta"]
    assert names(modelArnEquals=model_arn) == ["alpha-1"]
    assert names(**{after: born["alpha-1"]}) == ["beta", "alpha-2"]
    assert names(**{before: born["alpha-2"]}) == ["alpha-1"]
    code, message, _ = refused(names, statusEquals="Sleeping")
    assert code == "ValidationException"
    assert "'Sleeping' at 'statusEquals'" in message


@contextlib.contextmanager
def serving(gateway: Gateway) -> Iterator[str]:
    """The endpoint of a gateway that listens on a port of the kernel's choice, in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> Listener:
        listener = Listener(gateway, Port("127.0.0.1", 0))
        await listener.start()
        return listener

    try:
        listener = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            yield f"http://127.0.0.1:{listener.port}"
        finally:
            asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        gateway.close()


def rooms_over(root: Path, clock: Clock, wake: Callable[[], None], **fleet: Any) -> Rooms:
    """All rooms over a fresh database in memory; the fleet is there, its loop is not started."""
    for name in ("buckets", "spool", "models", "logs"):
        (root / name).mkdir()
    database = Database("sqlite://")
    database.create()
    store, catalog = Store.over(database), CATALOG
    return Rooms(
        account=ACCOUNT,
        store=store,
        catalog=catalog,
        # Signatures and session keys are of the real time; what operations write is of the test's.
        identity=Identity(store.access, account=ACCOUNT, now=lambda: datetime.now(UTC)),
        disk=Disk(root / "buckets"),
        fleet=Fleet(store=store, catalog=catalog, models=root / "models", logs=root / "logs", now=clock, **fleet),
        models=root / "models",
        now=clock,
        wake=wake,
        model_units=5,
    )


@contextlib.contextmanager
def bedrock_over(root: Path, **fleet: Any) -> Iterator[Bedrock]:
    """A whole control plane over a fresh database in memory; `fleet`: what its fleet is told."""
    clock, bells = Clock(), list[str]()
    rooms = rooms_over(root, clock, lambda: bells.append("ring"), **fleet)

    def mounted(operation: Callable[..., Any]) -> Callable[[Signed, dict[str, Any]], Reply]:
        return lambda signed, params: operation(admit(rooms, signed, params), params)

    gateway = Gateway(
        operations={("bedrock", name): mounted(operation) for name, operation in bedrock.OPERATIONS.items()},
        credential_for=rooms.identity.credential_for,
        bearer_for=rooms.identity.bearer_for,
        spool=root / "spool",
        spec=SPEC,
    )
    keys = rooms.identity.first_start()
    with serving(gateway) as endpoint:
        yield Bedrock(rooms, clock, keys, endpoint, bells)
    rooms.store.database.close()
