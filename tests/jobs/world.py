"""A world for the job loop: a real store, real directories, real children of a small program, a clock to be moved."""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from outcrop.catalog.catalog import Catalog
from outcrop.errors import ServiceUnavailableException, ValidationException
from outcrop.jobs.executor import LocalExecutor
from outcrop.jobs.moves import Rules
from outcrop.jobs.scheduler import Scheduler
from outcrop.jobs.spec import specifier
from outcrop.records import Job, Key, Principal
from outcrop.store.store import Store

CHILD = Path(__file__).with_name("child.py")
LONG_ID = "amazon.titan-text-express-v1:0:8k"
ROLE = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"


def part(name: str, status: str) -> dict[str, str]:
    """A part's event."""
    return {"kind": "part", "part": name, "status": status}


def step(number: int, tokens: int = 10) -> dict[str, Any]:
    """A step's event."""
    return {"kind": "step", "step": number, "epoch": 0, "loss": 1.0, "tokens": tokens}


CHECKED = [part("validation", "InProgress"), part("validation", "Completed")]
PLANNED = [part("dataProcessing", "InProgress"), part("dataProcessing", "Completed")]
TRAINED = [part("training", "InProgress"), step(0), step(1), {"kind": "checkpoint", "step": 2}]
DONE = {
    "kind": "done",
    "training_loss": 0.5,
    "validation_losses": [0.75],
    "perplexity": 1.6,
    "tokens": 20,
    "scored_tokens": 8,
    "seconds": 3.5,
}
END = [part("training", "Completed"), "model", DONE]
WHOLE = [*CHECKED, *PLANNED, *TRAINED, *END]


@dataclass
class Clock:
    """The present instant, which tests may move forward."""

    ahead: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@dataclass
class RoleBook:
    """Gives any role's credentials, or refuses all."""

    clock: Clock
    refuses: bool = False
    taken: bool = False
    """Whether the database is another server's."""
    asked: list[dict[str, str]] = field(default_factory=list)
    living: set[str] = field(default_factory=set)
    """Access keys that were given and not ended."""

    def assume_for_service(self, role_arn: str, *, source_arn: str, source_account: str, session_name: str) -> Key:
        if self.refuses:
            raise ValidationException(f"Could not assume provided IAM role. {role_arn} does not trust bedrock.")
        if self.taken:
            raise ServiceUnavailableException("Another server has taken the database over.")
        self.asked.append({"role": role_arn, "arn": source_arn, "account": source_account, "session": session_name})
        who = Principal(arn=f"{role_arn}/{session_name}", account=source_account, user_id="AROA", role=role_arn)
        key = Key(f"ASIA{len(self.asked)}", "secret", who, "token", expires=self.clock() + timedelta(hours=12))
        self.living.add(key.access_key)
        return key

    def end(self, access_key: str) -> None:
        self.living.discard(access_key)


@dataclass
class World:
    """One data directory with its store, and schedulers over it: one server after the other."""

    root: Path
    store: Store
    clock: Clock = field(default_factory=Clock)
    endpoint: str = "http://127.0.0.1:4580"
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.roles = RoleBook(self.clock)
        self.work, self.models = self.root / "work", self.root / "models"
        self.work.mkdir(exist_ok=True)
        self.models.mkdir(exist_ok=True)
        self.jobs: list[Job] = []

    def server(self, **options: Any) -> Scheduler:
        """A scheduler that knows nothing of earlier ones, as after a server's start."""
        self.executor = LocalExecutor(os.environ, (sys.executable, "-I", str(CHILD)))
        self.scheduler = Scheduler(
            store=self.store,
            executor=self.executor,
            roles=self.roles,
            specify=specifier(Catalog.load(), self.store.models, self.models, 60.0),
            work=self.work,
            models=self.models,
            endpoint=self.endpoint,
            now=self.clock,
            rules=self.rules,
            **options,
        )
        return self.scheduler

    def job(self, *runs: list[Any], **hyperparameters: str) -> Job:
        """A stored job whose child does these runs."""
        number = len(self.jobs)
        job_id = f"job{number:09d}"
        given = {"epochCount": "1", "batchSize": "2", "learningRate": "1.0E-5", "learningRateWarmupSteps": "0"}
        request = {
            "jobName": f"job-{number}",
            "customModelName": f"model-{number}",
            "roleArn": ROLE,
            "baseModelIdentifier": f"arn:aws:bedrock:us-east-1::foundation-model/{LONG_ID}",
            "customizationType": "FINE_TUNING",
            "hyperParameters": given | hyperparameters | {"script": json.dumps(runs)},
            "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
            "validationDataConfig": {"validators": [{"s3Uri": "s3://bucket/validation.jsonl"}]},
            "outputDataConfig": {"s3Uri": "s3://bucket/out"},
        }
        job = Job(
            arn=f"arn:aws:bedrock:us-east-1:123456789012:model-customization-job/{LONG_ID}/{job_id}",
            id=job_id,
            name=f"job-{number}",
            region="us-east-1",
            status="InProgress",
            base_model_id=LONG_ID,
            request=request,
            created=self.clock() + timedelta(milliseconds=number),
            modified=self.clock(),
        )
        self.jobs.append(self.store.jobs.add(job, None, str(number)))
        return job

    def now(self, job: Job) -> Job:
        """The job as the store has it."""
        found = self.store.jobs.by_arn(job.arn)
        assert found is not None
        return found

    def place(self, job: Job) -> Path:
        """The job's directory."""
        return self.work / job.id

    def runs(self, job: Job) -> list[int]:
        """Pids of all children that ever held the job's lock."""
        path = self.place(job) / "runs"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def until(self, true: Callable[[], object], seconds: float = 60.0) -> None:
        """Tick until something is true."""
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"not within {seconds} s: {[self.now(job) for job in self.jobs]}"
            self.scheduler.tick()
            time.sleep(0.005)

    def until_status(self, job: Job, *statuses: str) -> Job:
        """Tick until the job is in one of these states."""
        self.until(lambda: self.now(job).status in statuses)
        return self.now(job)

    def until_told(self, job: Job, text: str) -> None:
        """Tick until the child has written this among its events."""
        path = self.place(job) / "events.jsonl"
        self.until(lambda: path.exists() and text in path.read_text())

    def close(self) -> None:
        """End the children that still live."""
        for job in self.jobs:
            handle = self.executor.find(self.place(job))
            if handle is not None:
                self.executor.stop(handle)
                while self.executor.poll(handle).alive:
                    time.sleep(0.005)
        self.store.database.close()
