"""The data directory: where everything lies, who holds it, and the two small files that other commands read.

Knows paths, a lock and the forms of `credentials` and `server.json`; nothing of what the rooms keep inside.
"""

import configparser
import fcntl
import io
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from outcrop.durable import replace_file
from outcrop.errors import OutcropError

PROFILE = "default"

LOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client of this server needs to know, as first start made it."""

    access_key: str
    secret: str
    bearer: str
    region: str


@dataclass(frozen=True, slots=True)
class Running:
    """The server that holds a data directory now."""

    pid: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Paths under one data directory."""

    root: Path

    @property
    def database(self) -> Path:
        """SQLite's file."""
        return self.root / "outcrop.db"

    @property
    def credentials(self) -> Path:
        """INI file with the admin key, mode 0600; an AWS shared-credentials file as it stands."""
        return self.root / "credentials"

    @property
    def buckets(self) -> Path:
        """Blobs of the embedded S3."""
        return self.root / "buckets"

    @property
    def spool(self) -> Path:
        """Request bodies on their way; on the buckets' file system so that a rename keeps them."""
        return self.root / "spool"

    @property
    def models(self) -> Path:
        """Custom models' weights, a folder an id."""
        return self.root / "models"

    @property
    def weights(self) -> Path:
        """Weights that were fetched for a foundation model, a folder a name."""
        return self.root / "weights"

    @property
    def work(self) -> Path:
        """Jobs' directories, a folder an id."""
        return self.root / "work"

    @property
    def calibrations(self) -> Path:
        """What a few training steps took on this machine, a file for each sort of run; made when there is one."""
        return self.root / "calibrations"

    @property
    def logs(self) -> Path:
        """Logs of the server and its engines."""
        return self.root / "logs"

    @property
    def server(self) -> Path:
        """JSON: pid and endpoint of the server that runs now."""
        return self.root / "server.json"

    def prepare(self) -> None:
        """Make the directory and its rooms; private to the user, as it holds keys and training data."""
        with self._usable():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for room in (self.buckets, self.spool, self.models, self.weights, self.work, self.logs):
                room.mkdir(exist_ok=True)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except FileExistsError as fault:
            raise OutcropError(f"cannot use {self.root} as the data directory: {fault.filename} is a file") from fault
        except OSError as fault:
            raise OutcropError(
                f"cannot use {self.root} as the data directory: {fault.filename}: {fault.strerror}; "
                "give one that you may write to with --data"
            ) from fault

    def sweep_spool(self) -> None:
        """Remove the bodies that a killed server was still reading; by the holder of the lock, before it listens."""
        for left in self.spool.glob("upload-*"):
            left.unlink()
        for left in self.spool.glob("rehearsal-*"):
            shutil.rmtree(left)

    def lock(self) -> IO[str]:
        """Hold the directory until the returned file is closed or the process ends.

        Raises OutcropError that names the server which holds it.
        """
        with self._usable():
            handle = (self.root / "lock").open("w")
        try:
            _lock(handle)
        except BlockingIOError as fault:
            handle.close()
            running = self.running()
            who = f"pid {running.pid} at {running.endpoint}" if running else "it is still starting or stopping"
            raise OutcropError(
                f"another outcrop server already uses {self.root} ({who}); stop it first, or give another --data"
            ) from fault
        return handle

    def write_server(self, running: Running) -> None:
        """Tell other commands who holds the directory."""
        replace_file(self.server, json.dumps({"pid": running.pid, "endpoint": running.endpoint}) + "\n", mode=0o644)

    def running(self) -> Running | None:
        """The server that holds the directory now, or None."""
        try:
            document = json.loads(self.server.read_text())
            told = Running(pid=document["pid"], endpoint=document["endpoint"])
            with (self.root / "lock").open("r") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return told
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return None

    def write_credentials(self, credentials: Credentials) -> None:
        """Keep the admin key in a file of mode 0600."""
        parser = configparser.ConfigParser(interpolation=None)
        parser[PROFILE] = {
            "aws_access_key_id": credentials.access_key,
            "aws_secret_access_key": credentials.secret,
            "region": credentials.region,
            "outcrop_bearer_key": credentials.bearer,
        }
        text = io.StringIO()
        parser.write(text)
        replace_file(self.credentials, text.getvalue(), mode=0o600)

    def written_key(self) -> str | None:
        """The access key that the last start left in the credentials file; None where nothing of the kind is there."""
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(self.credentials, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            return None
        return parser.get(PROFILE, "aws_access_key_id", fallback=None)

    def read_credentials(self) -> Credentials:
        """The admin key; raises OutcropError when no server was ever started here."""
        parser = configparser.ConfigParser(interpolation=None)
        if not parser.read(self.credentials) or PROFILE not in parser:
            raise OutcropError(
                f"{self.root} holds no credentials yet: start the server once with `outcrop serve --data {self.root}`"
            )
        section = parser[PROFILE]
        return Credentials(
            access_key=section["aws_access_key_id"],
            secret=section["aws_secret_access_key"],
            bearer=section["outcrop_bearer_key"],
            region=section["region"],
        )


def _lock(handle: IO[str]) -> None:
    """Lock a file for this process; patient, because whoever asks `running()` holds it for an instant."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)
