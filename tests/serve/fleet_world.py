"""A fleet over a real store, with engines that echo: what its tests stand on."""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from outcrop.catalog.catalog import Catalog
from outcrop.records import Deployment, Job, Model, Prompt, Throughput
from outcrop.serve.fleet import Fleet
from outcrop.serve.wants import Place
from outcrop.store.database import Database
from outcrop.store.store import Store
from tests.store.resources import LONG_ID, REGION, deployment, job, model, throughput

CATALOG = Catalog.load()
ECHO = (sys.executable, str(Path(__file__).parent.parent / "echo_engine.py"))


def now() -> datetime:
    return datetime.now(UTC)


def write_weights(folder: Path) -> Path:
    """A folder that looks like weights to whoever only looks."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return folder


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    """Wait for something that other threads bring about."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def prompt(text: str, **members: Any) -> Prompt:
    return Prompt(text, max_tokens=members.pop("max_tokens", 50), **members)


class World:
    """A store, weights on disk, and a fleet. patience: seconds after which what does not settle never will."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        (root / "models").mkdir()
        (root / "logs").mkdir()
        database = Database(options.pop("database", "sqlite://"))
        database.create()
        self.store, self.catalog = Store.over(database), options.pop("catalog", CATALOG)
        self.patience: float = options.pop("patience", 60.0)
        self.base = write_weights(root / "base")
        self.store.models.use_weights(LONG_ID, str(self.base))
        self.options = options
        self.fleet = self.new_fleet()

    def new_fleet(self) -> Fleet:
        told: dict[str, Any] = {"program": ECHO, "on_demand_wait": 60.0, **self.options}
        return Fleet(
            store=self.store,
            catalog=self.catalog,
            models=self.root / "models",
            logs=self.root / "logs",
            now=now,
            **told,
        )

    @property
    def place(self) -> Place:
        """Our own engine over the base's weights."""
        return Place(self.base)

    def close(self) -> None:
        self.fleet.stop()
        self.store.database.close()

    def model(self, number: int = 1, *, method: str = "lora") -> Model:
        """A custom model with files, as a job leaves it."""
        made = replace(model(number), method=method, base_weights=str(self.base))
        began: Job = self.store.jobs.add(job(number), None, "")
        for part in ("validationDetails", "dataProcessingDetails", "trainingDetails"):
            for status in ("InProgress", "Completed"):
                self.store.jobs.part(began.arn, part, status, now())
        self.store.jobs.complete(began.arn, made, {}, now())
        folder = self.root / "models" / made.id
        if method == "full":
            write_weights(folder)
        else:
            folder.mkdir()
        return made

    def provision(self, number: int, model_arn: str, **fields: Any) -> str:
        """A throughput that is Creating."""
        made = throughput(number, model_arn=model_arn, **fields)
        self.store.throughputs.add(made)
        self.fleet.wake()
        return made.arn

    def serve(self, number: int, model_arn: str, **fields: Any) -> str:
        """A throughput that is InService."""
        arn = self.provision(number, model_arn, **fields)
        self.settle(arn)
        assert self.throughput(arn).status == "InService", self.throughput(arn).failure
        return arn

    def settle(self, arn: str) -> Throughput:
        """Wait until a throughput is neither Creating nor Updating."""
        until(lambda: self.throughput(arn).status not in ("Creating", "Updating"), self.patience)
        return self.throughput(arn)

    def throughput(self, arn: str) -> Throughput:
        found = self.store.throughputs.by_arn(arn)
        assert found is not None
        return found

    def deploy(self, number: int, model_arn: str) -> str:
        """A deployment that is Creating."""
        made = self.store.deployments.add(deployment(number, model_arn=model_arn))
        self.fleet.wake()
        return made.arn

    def deployed(self, arn: str) -> Deployment:
        """Wait until a deployment is neither Creating nor being updated."""

        def settled() -> bool:
            found = self.store.deployments.by_arn(arn)
            return found is not None and found.status != "Creating" and found.update_status != "Updating"

        until(settled)
        found = self.store.deployments.by_arn(arn)
        assert found is not None
        return found

    def ask(self, target: str, text: str = "hello", **members: Any) -> str:
        asked = prompt(text, **members)
        with self.fleet.lease(target, REGION, 1) as lease:
            answer, last = lease.line.complete(lease.model, asked)
            lease.charge(last.prompt_tokens, last.completion_tokens)
        return answer

    def pids(self, weights: Path | None = None) -> list[int]:
        """Processes of the engines over these weights, or of all."""
        running = [
            engine.process.pid
            for place, engine in self.fleet._engines.items()
            if engine.process is not None and weights in (None, place.weights)
        ]
        return sorted(running)

    def health(self, weights: Path) -> dict[str, Any]:
        line = self.fleet._engines[Place(weights)].line
        assert line is not None
        answer: dict[str, Any] = httpx.get(f"{line.url}/health", trust_env=False).json()
        return answer


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second where it goes between open and read
        return False
