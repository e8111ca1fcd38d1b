"""What shall happen to the unfinished jobs now: a pure function of jobs, sights of their children, and the time.

Knows no process, no file, no store and no clock: the scheduler brings what it sees and carries out what is answered.
"""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from outcrop.children import AGAIN
from outcrop.jobs.events import Event
from outcrop.records import LONGEST_FAILURE, Job, shortened

Kind = Literal["adopt", "start", "ask", "kill", "renew", "complete", "fail", "stopped"]


@dataclass(frozen=True, slots=True)
class Rules:
    """How patient the loop is."""

    capacity: int = 1
    """Children at the same time."""
    attempts: int = 3
    """Starts without progress before a job is given up."""
    grace: timedelta = timedelta(seconds=30)
    """How long a child may take to stop when asked, and to end after its last word, before it is killed."""
    renewal: timedelta = timedelta(minutes=5)
    """How long before its credentials end a child is started anew, from its last checkpoint, with fresh ones."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of one job's child and directory."""

    alive: bool = False
    code: int | None = None
    """Exit status of a dead child, a signal negated; None where nobody was told."""
    found: str | None = None
    """Handle of a living child in the directory other than the one the store knows."""
    lost: bool = False
    """A child was started, and the directory it worked in is gone."""
    ending: Event | None = None
    """The child's last word."""
    ended: datetime | None = None
    """When that word was first seen here."""
    asked: datetime | None = None
    """When the child was asked to stop."""
    spent: int = 0
    """Starts since the last progress."""
    outdated: bool = False
    """The child was started for an endpoint that is no more."""
    expires: datetime | None = None
    """End of the child's credentials."""
    tail: str = ""
    """End of a dead child's log."""


@dataclass(frozen=True, slots=True)
class Move:
    """One thing to do for one job."""

    kind: Kind
    job: Job
    message: str = ""
    """Why it failed."""
    handle: str = ""
    """The child to adopt."""


def moves(jobs: Sequence[Job], sights: Mapping[str, Sight], now: datetime, rules: Rules) -> list[Move]:
    """What to do now, oldest job first; sights by ARN. A job that was not seen is left alone but keeps its place."""
    free = rules.capacity - sum(_takes_place(job, sights.get(job.arn)) for job in jobs)
    planned: list[Move] = []
    for job in jobs:
        sight = sights.get(job.arn)
        move = _move(job, sight, now, rules) if sight else None
        if move is None:
            continue
        if move.kind == "start":
            if free < 1:
                continue
            free -= 1
        planned.append(move)
    return planned


def _takes_place(job: Job, sight: Sight | None) -> bool:
    if sight is None:
        return job.handle is not None
    return sight.alive or sight.found is not None


def _move(job: Job, sight: Sight, now: datetime, rules: Rules) -> Move | None:
    if sight.alive:
        return _of_living(job, sight, now, rules)
    if sight.found is not None:
        return Move("adopt", job, handle=sight.found)
    if sight.lost:
        return Move("fail", job, "The work directory of the job has vanished, and its checkpoints with it.")
    if sight.ending is not None:
        return _of_ended(job, sight.ending)
    if job.status == "Stopping":
        return Move("stopped", job)
    if sight.spent >= rules.attempts:
        return Move("fail", job, obituary(sight))
    return Move("start", job)


def _of_living(job: Job, sight: Sight, now: datetime, rules: Rules) -> Move | None:
    if sight.lost:
        return Move("kill", job)
    if sight.ending is not None:
        return Move("kill", job) if sight.ended and now - sight.ended >= rules.grace else None
    if job.status == "Stopping":
        if sight.asked is None:
            return Move("ask", job)
        return Move("kill", job) if now - sight.asked >= rules.grace else None
    if sight.outdated or (sight.expires is not None and sight.expires - now <= rules.renewal):
        return Move("renew", job)
    return None


def _of_ended(job: Job, ending: Event) -> Move:
    if ending.kind == "done":
        return Move("complete", job)
    if ending.kind == "stopped":
        return Move("stopped", job)
    return Move("fail", job, shortened(str(ending.members["message"])))


def obituary(sight: Sight) -> str:
    """Why a job is given up whose children die without a word: how the last one ended, and the end of its log."""
    times = f"{sight.spent} times at the same place" if sight.spent > 1 else "once"
    if sight.code == AGAIN and sight.tail:
        return shortened(f"{sight.tail.splitlines()[-1]} (met {times})")
    start = f"The training process ended without a result, {times}: it {_end(sight.code)}."
    if not sight.tail:
        return start + " Its log is empty."
    start += " End of its log: "
    return start + sight.tail[-(LONGEST_FAILURE - len(start)) :]


def _end(code: int | None) -> str:
    if code is None:
        return "ended while no server watched, so nobody was told its exit status"
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unnamed"
    memory = ", which is what the system does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code} ({name}){memory}"
