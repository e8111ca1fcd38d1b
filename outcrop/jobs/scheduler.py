"""The first of the two loops: makes true what the API wrote about jobs. It looks, asks `moves`, and does.

Knows the store, an executor, the job directories and who gives a role's credentials; nothing of HTTP, torch or data.
What it keeps in memory may be lost at any moment: all that matters stands in the store and in the job directories.
"""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import structlog

from outcrop import children, lifecycle
from outcrop.children import TERMINAL, read_spec, write_spec
from outcrop.durable import FULL
from outcrop.errors import OutcropError, ServiceUnavailableException
from outcrop.jobs.events import Account, Event, Follower, append
from outcrop.jobs.executor import Child, Executor
from outcrop.jobs.moves import Move, Rules, Sight, moves
from outcrop.jobs.spec import Specify
from outcrop.jobs.workplace import Start, Workplace
from outcrop.records import Arn, Job, Key, Model
from outcrop.store.jobs import PARTS, Part
from outcrop.store.store import Store

BUSY_SECONDS: Final = 0.5
IDLE_SECONDS: Final = 5.0
"""How long the loop sleeps when nobody wakes it: while a child runs, and while none does."""

DETAILS: Final[dict[str, Part]] = dict(zip(children.PARTS, PARTS, strict=True))
"""The parts as a child names them, and as statusDetails does."""

SESSION: Final = "bedrock-customization"

log = structlog.get_logger()


class Roles(Protocol):
    """Who gives a job its role's credentials (identity.Identity)."""

    def assume_for_service(self, role_arn: str, *, source_arn: str, source_account: str, session_name: str) -> Key:
        """Fresh session credentials, or ValidationException."""
        ...

    def end(self, access_key: str) -> None:
        """End session credentials before their time; no effect on those that are gone."""
        ...


@dataclass(slots=True)
class Watch:
    """What the loop remembers of one job between two looks."""

    place: Workplace
    follower: Follower
    account: Account = field(default_factory=Account)
    ended: datetime | None = None
    asked: datetime | None = None
    unborn: bool = False
    """The latest start was noted, and its child could not be started: it counts as no attempt."""


class Scheduler:
    """Runs the jobs of the store, oldest first, from `start()` to `stop()`."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        roles: Roles,
        specify: Specify,
        work: Path,
        models: Path,
        endpoint: str,
        now: Callable[[], datetime],
        environment: Mapping[str, str] | None = None,
        rules: Rules | None = None,
        patience: timedelta = timedelta(minutes=5),
        keep_children: bool = True,
    ) -> None:
        """endpoint: the S3 that children use; environment: what they get beside their credentials.

        patience: how long a fault of ours may last before the job fails for it; a full disk is waited for without end
        by a job that was ever started, a database that another server has taken over by every one. keep_children:
        whether children go on when the loop stops, to be adopted at the next start.
        """
        self._store, self._executor, self._roles, self._specify = store, executor, roles, specify
        self._work, self._models, self._endpoint, self._now = work, models, endpoint, now
        self._environment, self._rules = dict(environment or {}), rules or Rules()
        self._patience, self._keep_children = patience, keep_children
        self._watches: dict[str, Watch] = {}
        self._faults: dict[str, tuple[datetime, str]] = {}
        self._faulty: set[str] = set()
        self._over: set[str] | None = None
        self._bell, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the store now."""
        self._bell.set()

    def stop(self) -> None:
        """End the loop; children go on and are adopted at the next start, unless keep_children is false."""
        self._ending.set()
        self._bell.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._keep_children:
            self._end_children()

    def _run(self) -> None:
        while not self._ending.is_set():
            busy = True
            with self._border(None):
                busy = self.tick()
            self._bell.wait(BUSY_SECONDS if busy else IDLE_SECONDS)
            self._bell.clear()

    def tick(self) -> bool:
        """Look once at every unfinished job and do what there is to do; whether to look again soon."""
        jobs = self._store.jobs.unfinished()
        self._faulty = set()
        if self._over is None:  # what an earlier server did not come to
            self._over = self._store.jobs.over() & {path.name for path in self._work.iterdir()}
        sights: dict[str, Sight] = {}
        for job in jobs:
            with self._border(job):
                sights[job.arn] = self._look(job)
        planned = moves(jobs, sights, self._now(), self._rules)
        for move in planned:
            with self._border(move.job):
                self._make(move)
        self._clear()
        unfinished = {job.arn for job in jobs}
        self._watches = {arn: watch for arn, watch in self._watches.items() if arn in unfinished}
        self._faults = {key: fault for key, fault in self._faults.items() if key in self._faulty}
        return bool(planned) or len(sights) < len(jobs) or any(sight.alive for sight in sights.values())

    @contextmanager
    def _border(self, job: Job | None, what: str = "") -> Iterator[None]:
        """Where a fault of ours ends: logged once, tried again at every tick, and when patience ends the job's failure.

        what: a name for what is done, where it is for no unfinished job. A fault while the end is written down passes
        through to the border around the whole tick.
        """
        key = job.arn if job else what
        try:
            yield
        except Exception as fault:
            first, text = self._faults.get(key, (self._now(), ""))
            self._faults[key] = (first, _text(fault))
            self._faulty.add(key)
            if text != _text(fault):
                log.exception("the job loop met a fault", job=key or None)
            if job is not None and self._now() - first >= self._patience and not _waits(job, fault):
                self._give_up(job, f"Encountered an internal error when processing the request. {_text(fault)}")

    def _look(self, job: Job) -> Sight:
        """See the job's child and directory, and heed what the child has told since the last look."""
        watch = self._watches.get(job.arn)
        if watch is None:
            place = Workplace(self._work / job.id)
            watch = self._watches[job.arn] = Watch(place, Follower(place.events))
        child = self._executor.poll(job.handle) if job.handle else Child(alive=False)
        if job.handle and not watch.place.spec.exists():
            return Sight(alive=child.alive, lost=True)
        found = None if child.alive else self._executor.find(watch.place.root)
        # Only now, so that the last words of a child that has just ended are among them.
        for event in watch.follower.new():
            job = self._heed(job, watch, event)
        start = watch.place.latest_start()
        if child.alive and start is not None and len(start.keys) > 1:
            self._retire(job, watch.place, start)
        dead = job.handle is not None and not child.alive
        return Sight(
            alive=child.alive,
            code=child.code,
            found=found,
            ending=watch.account.ending,
            ended=watch.ended,
            asked=watch.asked,
            spent=start.attempts - watch.unborn if start and watch.account.checkpoint <= start.checkpoint else 0,
            outdated=start is not None and start.endpoint != self._endpoint,
            expires=start.expires if start else None,
            tail=watch.place.tail() if dead else "",
        )

    def _heed(self, job: Job, watch: Watch, event: Event) -> Job:
        """Take one event of the child into account, and tell the store of a part that moved; the job as it is now."""
        watch.account.add(event)
        if event.kind in TERMINAL:
            watch.ended = watch.ended or self._now()
        if event.kind == "part":
            part = DETAILS[event.members["part"]]
            for status in _way(job.parts[part]["status"], event.members["status"]):
                job = self._store.jobs.part(job.arn, part, status, event.at)
        return job

    def _make(self, move: Move) -> None:
        """Carry out one move."""
        job, watch = move.job, self._watches[move.job.arn]
        match move.kind:
            case "start":
                self._start(job, watch)
            case "adopt":
                self._store.jobs.started(job.arn, move.handle, self._now())
            case "ask":
                watch.place.stop.touch()
                watch.asked = self._now()
            case "kill":
                self._kill(job)
            case "renew":
                watch.place.excuse()
                self._kill(job)
            case "complete":
                self._complete(job, watch)
            case "stopped":
                self._stopped(job, watch)
            case "fail":
                self._fail(job, move.message)
        log.info("a job moved", job=job.arn, move=move.kind)

    def _start(self, job: Job, watch: Watch) -> None:
        """Start a child, the first or one that goes on from the last checkpoint; a job that cannot start says why.

        A machine that refuses (a full disk, no more processes) says nothing about the job: its OSError is the border's.
        Nor does a database that is another server's now.
        """
        try:
            handle = self._child(job, watch)
        except ServiceUnavailableException:
            raise
        except OutcropError as fault:
            self._fail(job, str(fault))
            return
        self._store.jobs.started(job.arn, handle, self._now())

    def _child(self, job: Job, watch: Watch) -> str:
        """Start a child with fresh credentials of its role, which live no longer than it if it cannot be started."""
        watch.place.root.mkdir(exist_ok=True)
        key = self._roles.assume_for_service(
            job.request["roleArn"],
            source_arn=job.arn,
            source_account=Arn.parse(job.arn).account,
            session_name=f"{SESSION}-{job.id}",
        )
        try:
            return self._birth(job, watch, key)
        except BaseException:
            self._roles.end(key.access_key)
            raise

    def _birth(self, job: Job, watch: Watch, key: Key) -> str:
        """Leave all that the child is told, and start it; its handle."""
        place, account = watch.place, watch.account
        notes = []
        if place.spec.exists():
            read_spec(place.spec)  # the child would say the same, but as a crash
        else:
            spec, warning = self._specify(job)
            notes = [Event(self._now(), "log", {"level": "warning", "message": warning})] if warning else []
            write_spec(spec, place.spec)
        append(place.events, *notes)
        place.stop.unlink(missing_ok=True)
        earlier = place.latest_start()
        again = earlier is not None and account.checkpoint <= earlier.checkpoint
        spent = earlier.attempts - watch.unborn if earlier and again else 0
        keys = earlier.keys[: -1 if watch.unborn else None] if earlier else ()
        start = Start(spent + 1, account.checkpoint, self._endpoint, key.expires, (*keys, key.access_key))
        place.note_start(start)
        watch.unborn = True
        handle = self._executor.start(place.root, self._variables(job, key))
        watch.unborn = False
        return handle

    def _variables(self, job: Job, key: Key) -> dict[str, str]:
        """The child's environment: the front door, its role's credentials, and no other way to any."""
        host = urlsplit(self._endpoint).hostname or ""
        return {
            **self._environment,
            "AWS_ENDPOINT_URL_S3": self._endpoint,
            "AWS_ACCESS_KEY_ID": key.access_key,
            "AWS_SECRET_ACCESS_KEY": key.secret,
            **({"AWS_SESSION_TOKEN": key.session_token} if key.session_token else {}),
            "AWS_DEFAULT_REGION": job.region,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": host,
            "no_proxy": host,
        }

    def _retire(self, job: Job, place: Workplace, start: Start) -> None:
        """End the credentials of earlier children once the present one holds the lock, so that none of them lives."""
        if self._executor.find(place.root) == job.handle:
            for access_key in start.keys[:-1]:
                self._roles.end(access_key)
            place.note_start(replace(start, keys=start.keys[-1:]))

    def _kill(self, job: Job) -> None:
        if job.handle is not None:
            self._executor.stop(job.handle)

    def _complete(self, job: Job, watch: Watch) -> None:
        """Put the weights where models are kept, then write the model and the job's end in one transaction.

        After a crash between the two the same weights lie under the same id, and only the transaction is left to do.
        """
        done = watch.account.ending
        assert done is not None
        model_id = watch.place.model_id()
        try:
            spec = read_spec(watch.place.spec)
            watch.place.deliver(self._models / model_id)
        except OutcropError as fault:
            self._fail(job, str(fault))
            return
        arn = Arn.parse(job.arn)
        model = Model(
            arn=str(replace(arn, resource=f"custom-model/{job.base_model_id}/{model_id}")),
            id=model_id,
            name=job.request["customModelName"],
            region=job.region,
            status="Active",
            base_model_id=job.base_model_id,
            job_arn=job.arn,
            document={},
            method="full" if spec.method == "full" or spec.whole_parent else "lora",
            base_weights=spec.base_name,
            created=self._now(),
        )
        self._store.jobs.complete(job.arn, model, metrics(done), self._now())
        self._leave(job)

    def _stopped(self, job: Job, watch: Watch) -> None:
        """End a job whose child has stopped, was killed for not stopping, or never was."""
        if job.status == "InProgress":  # somebody other than the API asked the child
            self._store.jobs.ask_stop(job.arn, self._now())
        ending = watch.account.ending
        told = ending.members.get("tokens") if ending else None
        tokens = told if told is not None else sum(watch.account.tokens.values())
        self._store.jobs.stopped(job.arn, self._now(), {"tokens": tokens})
        self._leave(job)

    def _fail(self, job: Job, message: str) -> None:
        self._store.jobs.fail(job.arn, message, self._now())
        self._leave(job)

    def _give_up(self, job: Job, message: str) -> None:
        """End a job that our own fault keeps from going on; what it trained stays for a person to look at."""
        self._kill(job)
        Workplace(self._work / job.id).keep(message)
        self._fail(job, message)

    def _leave(self, job: Job) -> None:
        """Remember that the job is over, and that what only its children needed may go."""
        if self._over is not None:
            self._over.add(job.id)

    def _clear(self) -> None:
        """Remove what jobs that are over left behind, and end their children's credentials."""
        for job_id in sorted(self._over or ()):
            with self._border(None, job_id):
                self._clear_one(job_id)

    def _clear_one(self, job_id: str) -> None:
        place = Workplace(self._work / job_id)
        if self._executor.find(place.root) is not None:
            return  # killed, and not gone yet: it would write while we remove
        start = place.latest_start()
        if start is not None and start.keys:
            for access_key in start.keys:
                self._roles.end(access_key)
            place.note_start(replace(start, keys=()))
        place.sweep()
        assert self._over is not None
        self._over.discard(job_id)

    def _end_children(self) -> None:
        """End every child; its job goes on from the last checkpoint at the next start."""
        for job in self._store.jobs.unfinished():
            if job.handle is not None and self._executor.poll(job.handle).alive:
                Workplace(self._work / job.id).excuse()
                self._executor.stop(job.handle)


def metrics(done: Event) -> dict[str, Any]:
    """A job's metrics from its child's last word: AWS's two members, and what else was measured."""
    told = done.members
    return {
        "trainingMetrics": {"trainingLoss": told["training_loss"]},
        "validationMetrics": [{"validationLoss": loss} for loss in told["validation_losses"]],
        "perplexity": told["perplexity"],
        "tokens": told["tokens"],
        "scoredTokens": told["scored_tokens"],
        "seconds": told["seconds"],
        # A child of an earlier version, adopted by this server, does not tell them.
        "examples": told.get("examples"),
        "examplesPerSecond": told.get("examples_per_second"),
    }


def _way(present: str, status: str) -> list[str]:
    """The legal moves of a part to a status that its child tells; none when it is past it.

    A resumed child goes through its parts anew, and a later server reads the story from its start.
    """
    if status in lifecycle.JOB_PART[present]:
        return [status]
    if present == "NotStarted" and status in lifecycle.JOB_PART["InProgress"]:
        return ["InProgress", status]
    return []


def _waits(job: Job, fault: Exception) -> bool:
    """Whether the job waits: for room as its child would, as failing would throw away what was trained, or for the
    database, which is another server's now: while nothing of the job may be written its child is not ended either."""
    if isinstance(fault, ServiceUnavailableException):
        return True
    return job.handle is not None and isinstance(fault, OSError) and fault.errno in FULL


def _text(fault: Exception) -> str:
    """What a person is told of a fault."""
    if isinstance(fault, OutcropError):
        return str(fault)
    if isinstance(fault, OSError) and fault.strerror:
        return f"{fault.strerror}: {fault.filename}" if fault.filename else fault.strerror
    return f"{type(fault).__name__}: {fault}"
