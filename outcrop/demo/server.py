"""A server for the demo: the one that already holds the data directory, or a child of ours while we need it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpx

from outcrop.directory import DataDirectory, Running
from outcrop.errors import OutcropError

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.05


@contextmanager
def served(directory: DataDirectory) -> Iterator[Running]:
    """The server of this data directory; a child is started when none runs, and ended afterwards."""
    directory.prepare()
    running = directory.running()
    if running is not None:
        yield running
        return
    log = directory.logs / "server.log"
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "outcrop.cli", "serve", "--data", str(directory.root), "--port", "0"],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield _ready(child, directory)
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _ready(child: subprocess.Popen[bytes], directory: DataDirectory) -> Running:
    """Wait until the child answers /health; raises OutcropError with the end of its log when it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        running = directory.running()
        if running is not None and running.pid == child.pid and _healthy(running.endpoint):
            return running
        time.sleep(POLL_SECONDS)
    tail = (directory.logs / "server.log").read_text(errors="replace").splitlines()[-15:]
    raise OutcropError("the server did not start:\n" + "\n".join(tail))


def _healthy(endpoint: str) -> bool:
    try:
        return httpx.get(f"{endpoint}/health", trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def environment(directory: DataDirectory, endpoint: str) -> dict[str, str]:
    """The variables that point unchanged AWS code at this server."""
    credentials = directory.read_credentials()
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret,
        "AWS_DEFAULT_REGION": credentials.region,
    }


def point_boto3_at(directory: DataDirectory, endpoint: str) -> None:
    """Set this process's environment as `outcrop env` sets a shell's: the user's own AWS account is left out of it."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        os.environ.pop(name, None)
    os.environ.update(environment(directory, endpoint))
