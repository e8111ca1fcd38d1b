"""A real server with nothing but the embedded S3 (and STS, IAM) in it, as a child process that tests may kill.

Run as a program: `python -m tests.api.s3.server DIRECTORY PORT`; it writes `server.json` when it answers.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.config import Config

from outcrop.api import s3
from outcrop.api.call import Rooms, admit
from outcrop.app import at_the_door
from outcrop.catalog.catalog import Catalog
from outcrop.identity import Identity
from outcrop.listen import Listener, Port
from outcrop.objects.disk import Disk
from outcrop.serve.fleet import Fleet
from outcrop.store.database import Database
from outcrop.store.store import Store
from outcrop.wire.gateway import Gateway, Reply, Signed
from tests.port import KeptPort

ACCOUNT = "123456789012"


def rooms_over(root: Path, database: str | None = None) -> Rooms:
    """All the rooms of a server over a data directory; no loop runs."""
    for name in ("buckets", "spool", "models", "logs"):
        (root / name).mkdir(parents=True, exist_ok=True)
    base = Database(database or f"sqlite:///{root / 'outcrop.db'}")
    base.create()
    for left in (root / "spool").iterdir():
        left.unlink()
    store, catalog = Store.over(base), Catalog.load()
    disk = Disk(root / "buckets")
    disk.sweep(store.objects)

    def now() -> datetime:
        return datetime.now(UTC)

    return Rooms(
        account=ACCOUNT,
        store=store,
        catalog=catalog,
        identity=Identity(store.access, account=ACCOUNT, now=now),
        disk=disk,
        fleet=Fleet(store=store, catalog=catalog, models=root / "models", logs=root / "logs", now=now),
        models=root / "models",
        now=now,
        wake=lambda: None,
    )


def gateway_of(rooms: Rooms, spool: Path) -> Gateway:
    """The wire over the S3 table, each operation behind its admission."""

    def mounted(operation: Callable[..., Any]) -> Callable[[Signed, dict[str, Any]], Reply]:
        return lambda signed, params: operation(admit(rooms, signed, params), params)

    return Gateway(
        operations={("s3", name): mounted(operation) for name, operation in s3.OPERATIONS.items()},
        credential_for=rooms.identity.credential_for,
        bearer_for=rooms.identity.bearer_for,
        spool=spool,
        admit_upload=at_the_door(rooms),
    )


async def serve(root: Path, port: int) -> None:
    """Answer until SIGTERM."""
    rooms = rooms_over(root)
    keys = rooms.identity.first_start()
    gateway = gateway_of(rooms, root / "spool")
    listener = Listener(gateway, Port("127.0.0.1", port))
    await listener.start()
    told = {"port": listener.port, "access_key": keys.access_key, "secret": keys.secret, "role": keys.role_arn}
    temporary = root / "server.tmp"
    temporary.write_text(json.dumps(told))
    temporary.rename(root / "server.json")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await listener.stop()
    gateway.close()
    rooms.store.database.close()


class S3Server:
    """The child process over one data directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._child: subprocess.Popen[bytes] | None = None
        self._kept = KeptPort()
        self.told: dict[str, Any] = {}

    def start(self) -> "S3Server":
        """Start it, at the same port every time, and wait until it answers."""
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "server.json").unlink(missing_ok=True)
        with (self.root / "server.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.api.s3.server", str(self.root), str(self._kept.number)]
            self._child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not (self.root / "server.json").exists():
            assert self._child.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)
        self.told = json.loads((self.root / "server.json").read_text())
        return self

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal."""
        if self._child is not None:
            self._child.send_signal(number)
            self._child.wait(30)
            self._child = None

    def close(self) -> None:
        """End it for good."""
        self.end()
        self._kept.release()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._child is not None
        return self._child.pid

    def log(self) -> str:
        """All that it wrote."""
        return (self.root / "server.log").read_text(errors="replace")

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.told['port']}"

    @property
    def environment(self) -> dict[str, str]:
        """What an AWS client needs to know of it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.told["access_key"],
            "AWS_SECRET_ACCESS_KEY": self.told["secret"],
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "PATH": os.environ["PATH"],
        }

    def client(self, region: str = "us-east-1", *, anonymous: bool = False, **config: Any) -> Any:
        """boto3's own S3 client; only the endpoint and the key are ours."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=region,
            aws_access_key_id=self.told["access_key"],
            aws_secret_access_key=self.told["secret"],
            config=Config(**({"signature_version": UNSIGNED} if anonymous else {}), **config),
        )


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
