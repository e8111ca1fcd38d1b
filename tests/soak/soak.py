"""A job through a real server, killed over and over at random moments: python -m tests.soak.soak --kills 50.

Each trial is run twice: undisturbed, and with signal 9 for its training child, for the server, or for both, at moments
drawn from a seed that is printed. Losses of every step, every evaluation, the weights' bytes, the metric files and the
answers must be the same. A killed server is started again, as a service manager would. Knows the server from outside.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from botocore.config import Config

from outcrop.directory import DataDirectory
from tests.acceptance.server import Server
from tests.soak.trials import Trial, trials

ROLE: Final = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"
BUCKET: Final = "soak"
VICTIMS: Final = ("child", "child", "both", "both", "server")
"""A child whose server alone is killed goes on, so such kills use up much of the run: fewer of them."""
EARLY: Final = 0.3
"""Share of the kills that come in a child's first seconds, before it trains."""
PACE: Final = 0.8
"""Of an even pace through the run's steps, the longest that a life may last: some is done while somebody dies."""
LONGEST_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that must not depend on who was killed when."""

    measured: dict[str, Any]
    """Losses, norms and counts by place, of the last time that each was told."""
    weights: dict[str, str]
    """SHA-256 by file."""
    files: dict[str, str]
    """SHA-256 of the metric files in storage."""
    answer: dict[str, Any]
    """GetModelCustomizationJob's metrics."""


@dataclass(slots=True)
class Story:
    """What was done to a job."""

    kills: list[str] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    """Seconds from each kill in training until a step was told that had not been told before."""


def client(server: Server, service: str) -> Any:
    """A client that asks again while a server is away."""
    return server.client(service, config=Config(retries={"mode": "standard", "total_max_attempts": 10}))


class Soak:
    """One server, and the jobs on it."""

    def __init__(self, root: Path, chance: random.Random, say: Callable[[str], None]) -> None:
        self._chance, self._say = chance, say
        # Children keep the endpoint that they were started for: the next server must have it too.
        self._server = Server(
            root / "data", keeps_port=True, checkpoint_seconds="0.2", training_attempts="1000", engine_threads="1"
        ).start()
        self.directory = DataDirectory(root / "data")
        self._clients = {service: client(self._server, service) for service in ("bedrock", "s3")}

    def close(self) -> None:
        """End the server, in its own time, and whatever child is left."""
        self._server.stop()
        self._server.release()
        for lock in self.directory.work.glob("*/lock"):
            if (pid := _living(lock)) is not None:
                os.kill(pid, signal.SIGKILL)

    def client(self, service: str) -> Any:
        """A client of the server, the same each time: making one takes longer than most calls."""
        return self._clients[service]

    def upload(self, name: str, trial: Trial) -> None:
        """Put the trial's files into storage."""
        s3 = self.client("s3")
        s3.create_bucket(Bucket=BUCKET)
        for key, lines in trial.lines.items():
            s3.put_object(Bucket=BUCKET, Key=f"{name}/{key}.jsonl", Body="\n".join(lines).encode())

    def undisturbed(self, name: str, trial: Trial) -> Outcome:
        """The trial's job with nobody killed."""
        bedrock = self.client("bedrock")
        arn = bedrock.create_model_customization_job(**trial.request(f"{name}-whole", BUCKET, ROLE))["jobArn"]
        self._wait(lambda: self._over(arn))
        return self._outcome(arn)

    def torn(self, name: str, trial: Trial, kills: int, steps: int) -> tuple[Outcome, Story]:
        """The trial's job with so many kills, as far as it lasts."""
        arn = self.client("bedrock").create_model_customization_job(**trial.request(f"{name}-torn", BUCKET, ROLE))[
            "jobArn"
        ]
        place, story = self.directory.work / arn.rpartition("/")[2], Story()
        for number in range(kills):
            self._wait(lambda: _living(place / "lock") is not None or self._over(arn))
            self._await_moment(place, steps, kills - number)
            pid = _living(place / "lock")
            if pid is None or self._over(arn):
                break
            self._kill(pid, place, story)
        self._wait(lambda: self._over(arn))
        story.lost += _lost(place / "events.jsonl", story.kills)
        return self._outcome(arn), story

    def _await_moment(self, place: Path, steps: int, left: int) -> None:
        """Wait for the moment of the next kill: somewhere in the start, or after some more steps."""
        before = reached(place)
        most = PACE * (steps - before) / left
        if self._chance.random() < EARLY:
            end = time.monotonic() + self._chance.uniform(0.0, 4.0)
            # On a quick machine that may be the whole job.
            self._wait(lambda: time.monotonic() > end or reached(place) >= before + most)
            return
        more = self._chance.uniform(0.0, most)
        self._wait(lambda: _living(place / "lock") is None or reached(place) >= before + more)
        time.sleep(self._chance.uniform(0.0, 0.02))

    def _kill(self, pid: int, place: Path, story: Story) -> None:
        """Signal 9 for somebody; a killed server is started again a moment later."""
        victim = self._chance.choice(VICTIMS)
        last = _events(place)[-1:]
        doing = f"{last[0]['kind']} {last[0].get('step', '')}".strip() if last else "nothing yet"
        at = datetime.now().astimezone().isoformat(timespec="milliseconds")
        if victim in ("child", "both"):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if victim in ("server", "both"):
            self._server.kill()
            time.sleep(self._chance.uniform(0.0, 1.0))
            self._server.start()
        story.kills.append(f"{at} {victim}")
        self._say(f"  kill {len(story.kills):3}  {victim:6}  after {doing}")
        if victim != "server":
            self._wait(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid))

    def _over(self, arn: str) -> bool:
        time.sleep(0.05)  # whoever asks does so again and again
        status = self.client("bedrock").get_model_customization_job(jobIdentifier=arn)["status"]
        return bool(status not in {"InProgress", "Stopping"})

    def _outcome(self, arn: str) -> Outcome:
        found = self.client("bedrock").get_model_customization_job(jobIdentifier=arn)
        if found["status"] != "Completed":
            raise SystemExit(f"{found['jobName']} is {found['status']}: {found.get('failureMessage')}")
        job = arn.rpartition("/")[2]
        folder = self.directory.models / found["outputModelArn"].rpartition("/")[2]
        s3, files = self.client("s3"), {}
        prefix = f"output/model-customization-job-{job}/"
        for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
            # run_details/ tells how long steps took, which is no two runs' alike.
            if entry["Key"].endswith(".csv") and "/run_details/" not in entry["Key"]:
                content = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
                files[entry["Key"].removeprefix(prefix)] = hashlib.sha256(content).hexdigest()
        return Outcome(
            measured=_measured(_events(self.directory.work / job)),
            weights={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.safetensors")},
            files=files,
            answer={name: found.get(name) for name in ("trainingMetrics", "validationMetrics", "hyperParameters")},
        )

    def _wait(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + LONGEST_SECONDS
        while not true():
            if time.monotonic() > end:
                raise SystemExit(f"not within {LONGEST_SECONDS:.0f} s; the server's log:\n{self._server.log()[-4000:]}")
            time.sleep(0.01)


def differences(one: Outcome, other: Outcome) -> list[str]:
    """What is not the same, a line each."""
    found = [
        f"{place}: {one.measured.get(place)} and {other.measured.get(place)}"
        for place in sorted(one.measured.keys() | other.measured.keys())
        if one.measured.get(place) != other.measured.get(place)
    ]
    found += [
        f"{name}: {getattr(one, name)} and {getattr(other, name)}"
        for name in ("weights", "files", "answer")
        if getattr(one, name) != getattr(other, name)
    ]
    if not one.weights or not one.files or len(one.measured) < 2:
        found.append("nothing was compared")
    return found


def soak(root: Path, names: list[str], *, kills: int, seed: int, size: int, say: Callable[[str], None]) -> list[str]:
    """Run the trials; what differed, a line each."""
    given = trials(size)
    room, wrong = Soak(root, random.Random(seed), say), []
    say(f"seed {seed}, {kills} kills a trial, data in {root}")
    try:
        for name in names:
            began = time.monotonic()
            room.upload(name, given[name])
            whole = room.undisturbed(name, given[name])
            steps = sum(place.startswith("step") for place in whole.measured)
            say(f"{name}: {steps} steps undisturbed in {time.monotonic() - began:.1f} s")
            torn, story = room.torn(name, given[name], kills, steps)
            found = differences(whole, torn)
            wrong += [f"{name}: {line}" for line in found]
            if len(story.kills) < int(kills * 0.8):
                wrong.append(f"{name}: only {len(story.kills)} of {kills} kills, then it was over")
            lost = f"{statistics.median(story.lost):.1f} s" if story.lost else "unknown"
            same = "the same bits" if not found else f"{len(found)} DIFFERENCES"
            say(f"{name}: {len(story.kills)} kills, {same}; median time lost by a kill of a child: {lost}")
    finally:
        room.close()
    return wrong


def _events(place: Path) -> list[dict[str, Any]]:
    path = place / "events.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
    return [json.loads(line) for line in whole.splitlines()]


def reached(place: Path) -> int:
    """Steps that are told."""
    return max((event["step"] + 1 for event in _events(place) if event["kind"] == "step"), default=0)


def _measured(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Of what is told twice, the later telling."""
    found: dict[str, Any] = {}
    for event in events:
        if event["kind"] in {"step", "eval"}:
            place = f"{event['kind']} {event['step']} {event.get('validator', '')}"
            found[place] = [event.get(name) for name in ("loss", "gradient_norm", "learning_rate", "tokens")]
        elif event["kind"] == "done":
            names = ("training_loss", "validation_losses", "tokens", "scored_tokens", "delivered_step")
            found["done"] = [event[name] for name in names]
    return found


def _lost(path: Path, kills: list[str]) -> list[float]:
    """Seconds from the death of a child that trained until it was as far again and a step further."""
    told = [json.loads(line) for line in path.read_bytes().splitlines()]
    steps = [(datetime.fromisoformat(event["at"]), event["step"]) for event in told if event["kind"] == "step"]
    found = []
    for kill in kills:
        stamp, _, victim = kill.partition(" ")
        at = datetime.fromisoformat(stamp)
        reached = max((step for when, step in steps if when <= at), default=None)
        further = [when for when, step in steps if when > at and reached is not None and step > reached]
        if victim != "server" and further:
            found.append((min(further) - at).total_seconds())
    return found


def _living(lock: Path) -> int | None:
    """The child that a lock file names, while it lives."""
    text = lock.read_text().strip() if lock.exists() else ""
    if not text.isdigit() or not Path(f"/proc/{text}").exists() or _zombie(int(text)):
        return None
    return int(text)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def main() -> int:
    """Soak as the command line says; exit status 1 where anything differed."""
    parser = argparse.ArgumentParser(description="Kill a training job over and over; its bits must not change.")
    parser.add_argument("--kills", type=int, default=50, help="a trial")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--size", type=int, default=1200, help="about how many steps a trial has")
    parser.add_argument("--trials", nargs="+", choices=list(trials(0)), default=list(trials(0)))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="outcrop-soak-") as folder:
        wrong = soak(
            Path(folder),
            given.trials,
            kills=given.kills,
            seed=given.seed,
            size=given.size,
            say=lambda line: print(line, flush=True),
        )
    print("\n".join(wrong) or "every run ended with the bits of the undisturbed one")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
