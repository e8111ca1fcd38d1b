"""Job directories, and real training children started on them beside an object store of the test."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from outcrop.records import TrainSpec
from tests.train.shelf import Shelf

MORTAL = Path(__file__).with_name("mortal.py")


class Work:
    """One job directory and the children started on it."""

    def __init__(self, directory: Path, spec: TrainSpec, shelf: Shelf) -> None:
        self.directory, self._shelf = directory, shelf
        directory.mkdir()
        (directory / "spec.json").write_bytes(msgspec.json.encode(spec))

    def start(self, *options: str, limit: int | None = None) -> "subprocess.Popen[bytes]":
        """A child; limit: bytes of address space that the system gives it."""
        return self._spawn([*options, "-P", "-m", "outcrop.train.run"], limit)

    def mortal(self, event: str, pattern: str, count: int) -> "subprocess.Popen[bytes]":
        """A child that kills itself at that instant; see mortal.py."""
        return self._spawn([str(MORTAL), event, pattern, str(count)])

    def _spawn(self, arguments: list[str], limit: int | None = None) -> "subprocess.Popen[bytes]":
        environment = os.environ | {
            "AWS_ENDPOINT_URL_S3": self._shelf.url,
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_DEFAULT_REGION": "us-east-1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, *arguments, str(self.directory)]
        if limit is not None:
            command = ["sh", "-c", f'ulimit -v {limit >> 10}; exec "$0" "$@"', *command]
        with (self.directory / "log.txt").open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def run(self, *options: str) -> list[dict[str, Any]]:
        child = self.start(*options)
        assert child.wait(timeout=120) == 0, self.log()
        return self.events()

    def events(self) -> list[dict[str, Any]]:
        path = self.directory / "events.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        return [json.loads(line) for line in whole.splitlines()]

    def steps(self) -> int:
        return sum(event["kind"] == "step" for event in self.events())

    def log(self) -> str:
        return (self.directory / "log.txt").read_text()

    def wait_for(self, condition: Callable[[], bool], child: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert child.poll() is None, self.log()
            assert time.monotonic() < deadline
            time.sleep(0.002)


class Start:
    """Makes job directories under one folder, for one shelf."""

    def __init__(self, folder: Path, shelf: Shelf) -> None:
        self._folder, self.shelf = folder, shelf

    def __call__(self, spec: TrainSpec, name: str = "abcdefghijkl") -> Work:
        return Work(self._folder / name, spec, self.shelf)
