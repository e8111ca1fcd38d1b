"""Job directories, and real training children started on them beside an object store of the test.

A child starts from nothing, as a service starts it, or (many times faster) from a nursery.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from outcrop.records import TrainSpec
from tests.train.nursery import Child, Nursery
from tests.train.shelf import Shelf

PATIENCE: float = 200.0
"""Seconds after which something is not slow but hangs."""


def small_job(base: Path, **members: Any) -> TrainSpec:
    """A LoRA job on a small base and s3://bucket/train.jsonl."""
    told: dict[str, Any] = {
        "job_arn": "arn:aws:bedrock:us-east-1:123456789012:model-customization-job/m.v1:0:8k/abcdefghijkl",
        "job_id": "abcdefghijkl",
        "base_model_id": "amazon.titan-text-express-v1:0:8k",
        "base": str(base),
        "base_name": "a small llama",
        "training": "s3://bucket/train.jsonl",
        "output": "s3://bucket/out",
        "batch_size": 4,
        "learning_rate": 5e-3,
        "lora_rank": 4,
        "lora_alpha": 8.0,
    }
    return TrainSpec(**told | members)


class Work:
    """One job directory and the children started on it."""

    def __init__(self, directory: Path, spec: TrainSpec, shelf: Shelf, nursery: Nursery | None = None) -> None:
        self.directory, self._shelf, self._nursery = directory, shelf, nursery
        directory.mkdir()
        (directory / "spec.json").write_bytes(msgspec.json.encode(spec))

    def start(self, *options: str, limit: int | None = None) -> "subprocess.Popen[bytes]":
        """A child from nothing; limit: bytes of address space that the system gives it."""
        return self._spawn([*options, "-P", "-m", "outcrop.train.run"], limit)

    def fork(self) -> Child:
        """A child from the nursery."""
        return self._born(None)

    def mortal(self, event: str, pattern: str, count: int) -> Child:
        """A child from the nursery that kills itself at that instant; see mortal.py."""
        return self._born((signal.SIGKILL, event, pattern, count))

    def stands_still(self, event: str, pattern: str, count: int) -> Child:
        """A child from the nursery, once it has come to that instant; it waits there for SIGCONT."""
        child = self._born((signal.SIGSTOP, event, pattern, count))
        self.wait_for(lambda: Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T", child)
        return child

    def _born(self, moment: tuple[int, str, str, int] | None) -> Child:
        assert self._nursery is not None, "this test has no nursery"
        return self._nursery.start(self.directory, self._environment(), moment)

    def _environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self._shelf.url,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "OMP_NUM_THREADS": "1",
        }

    def _spawn(self, arguments: list[str], limit: int | None = None) -> "subprocess.Popen[bytes]":
        command = [sys.executable, *arguments, str(self.directory)]
        if limit is not None:
            command = ["sh", "-c", f'ulimit -v {limit >> 10}; exec "$0" "$@"', *command]
        with (self.directory / "log.txt").open("ab") as log:
            return subprocess.Popen(command, env=os.environ | self._environment(), stdout=log, stderr=log)

    def run(self, *options: str) -> list[dict[str, Any]]:
        """The events of a whole life from nothing."""
        return self._whole(self.start(*options))

    def live(self) -> list[dict[str, Any]]:
        """The events after a whole life from the nursery."""
        return self._whole(self.fork())

    def _whole(self, child: "Child | subprocess.Popen[bytes]") -> list[dict[str, Any]]:
        assert child.wait(timeout=PATIENCE) == 0, self.log()
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        path = self.directory / "events.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        return [json.loads(line) for line in whole.splitlines()]

    def steps(self) -> int:
        return sum(event["kind"] == "step" for event in self.events())

    def log(self) -> str:
        return (self.directory / "log.txt").read_text()

    def wait_for(self, condition: Callable[[], bool], child: "Child | subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert child.poll() is None, self.log()
            assert time.monotonic() < deadline
            time.sleep(0.002)


class Start:
    """Makes job directories under one folder, for one shelf."""

    def __init__(self, folder: Path, shelf: Shelf, nursery: Nursery | None = None) -> None:
        self._folder, self.shelf, self._nursery = folder, shelf, nursery

    def __call__(self, spec: TrainSpec, name: str = "abcdefghijkl") -> Work:
        return Work(self._folder / name, spec, self.shelf, self._nursery)
