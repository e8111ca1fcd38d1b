"""`outcrop watch` beside real jobs of the bundled base: what it prints, how it ends, and that it changes nothing."""

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from fcntl import ioctl
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.acceptance.server import Server

BASE = "amazon.titan-text-express-v1"
ROLE = "arn:aws:iam::123456789012:role/BedrockCustomizationRole"
OUTCROP = (sys.executable, "-m", "outcrop.cli")
SECONDS = 120.0


class Jobs:
    """Jobs of one server over one small dataset."""

    def __init__(self, server: Server, pairs: Path) -> None:
        self.server, self.mark = server, uuid.uuid4().hex[:8]
        self.bucket = f"watch-{self.mark}"
        s3 = boto3.client("s3")
        self.bedrock = boto3.client("bedrock")
        s3.create_bucket(Bucket=self.bucket)
        s3.upload_file(str(pairs), self.bucket, "train.jsonl")

    def create(self, name: str, *, key: str = "train.jsonl", epochs: int = 2) -> str:
        """A job of so many epochs of four steps; its name."""
        full = f"{name}-{self.mark}"
        validators = [{"s3Uri": f"s3://{self.bucket}/train.jsonl"}]
        self.bedrock.create_model_customization_job(
            jobName=full,
            customModelName=full,
            roleArn=ROLE,
            baseModelIdentifier=BASE,
            trainingDataConfig={"s3Uri": f"s3://{self.bucket}/{key}"},
            validationDataConfig={"validators": validators},
            outputDataConfig={"s3Uri": f"s3://{self.bucket}/out/"},
            hyperParameters={"epochCount": str(epochs), "batchSize": "4", "learningRate": "0.00001"},
        )
        return full

    def get(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.bedrock.get_model_customization_job(jobIdentifier=name)
        return answer

    def events(self, name: str) -> Path:
        """The job's own diary."""
        return self.server.directory.work / self.get(name)["jobArn"].rsplit("/", 1)[-1] / "events.jsonl"

    def watch(self, *words: str, **options: Any) -> "subprocess.Popen[str]":
        """A watcher without a terminal."""
        return subprocess.Popen(
            [*OUTCROP, "watch", *words, "--data", str(self.server.directory.root)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def told(self, *words: str) -> tuple[int, str, str]:
        """Exit status, output and errors of a whole watch."""
        with self.watch(*words) as child:
            output, errors = child.communicate(timeout=SECONDS)
        return child.returncode, output, errors


@pytest.fixture
def jobs(server: Server, client_environment: dict[str, str], pairs: Path) -> Jobs:
    return Jobs(server, pairs)


def on_a_terminal(command: list[str], rows: int, columns: int) -> tuple[int, str]:
    """Run a command on a terminal of this size; its exit status and all that it wrote, control sequences left out."""
    master, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    size = {"TERM": "xterm-256color", "LINES": str(rows), "COLUMNS": str(columns)}
    child = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=os.environ | size, start_new_session=True
    )
    os.close(terminal)
    written, deadline = b"", time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if select.select([master], [], [], 0.5)[0]:
            try:
                written += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
    status = child.wait(SECONDS)
    os.close(master)
    return status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_a_job_is_watched_to_its_end_in_all_three_ways(jobs: Jobs) -> None:
    name = jobs.create("whole")
    with jobs.watch("--json") as watcher:  # no name: it is the newest that is not over
        command = [*OUTCROP, "watch", name, "--data", str(jobs.server.directory.root)]
        status, screen = on_a_terminal(command, 24, 80)
        output, errors = watcher.communicate(timeout=SECONDS)
    assert (status, watcher.returncode) == (0, 0), errors
    told = [json.loads(line) for line in output.splitlines()]
    assert told[:-1] == [json.loads(line) for line in jobs.events(name).read_text("utf-8").splitlines()]
    last = told[-1]
    assert (last["kind"], last["name"], last["status"]) == ("job", name, "Completed")
    steps = [event for event in told if event["kind"] == "step"]
    assert [event["step"] for event in steps] == list(range(8))
    assert all(event["examples"] == 4 and event["examples_per_second"] > 0 for event in steps)
    assert all(0 < event["utilisation"] < 2 for event in steps)
    low, high = steps[-1]["seconds_left"]
    assert 0 <= low <= high
    assert (last["metrics"]["examples"], last["metrics"]["tokens"]) == (32, sum(event["tokens"] for event in steps))
    assert last["metrics"]["examplesPerSecond"] > 0
    for said in (
        f"{name}  InProgress",
        "weights bundled:text",
        "data processing",
        f"{name}  Completed",
        "of 8 · epoch",
    ):
        assert said in screen, said
    assert f"32 examples · {last['metrics']['tokens']:,} tokens trained" in screen
    assert f"outcrop models show {name}" in screen
    _documented(told)
    _after_the_end(jobs, name, last)


def _documented(told: list[dict[str, Any]]) -> None:
    """Every kind and member stands on the reference page, and every member of these kinds on the page is told."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "events.md").read_text("utf-8")
    sections = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    for event in told:
        table = sections[event["kind"]].partition("| `sign` | when")[0]
        cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
        named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
        unknown = set(event) - {"at", "kind"} - named
        assert not unknown, f"{event['kind']}: {unknown}"
        missing = named - set(event) - {"sign", "seconds_left"}
        assert not missing, f"{event['kind']}: {missing}"


def _after_the_end(jobs: Jobs, name: str, last: dict[str, Any]) -> None:
    """A job that is over is shown in lines at once; with its files gone, in the store's numbers."""
    status, output, errors = jobs.told(last["arn"])
    assert status == 0, errors
    lines = output.splitlines()
    assert lines[0] == name
    assert sum(" step " in line and " left" in line for line in lines) >= 4
    assert any(line.endswith("validation: Completed") for line in lines)
    assert f"model {name}: outcrop models show {name}" in lines
    folder = jobs.events(name).parent
    folder.rename(folder.with_name("elsewhere"))
    status, output, errors = jobs.told(last["arn"].rsplit("/", 1)[-1], "--plain")
    assert status == 0, errors
    assert f"training loss {last['metrics']['trainingMetrics']['trainingLoss']:.4f}" in output
    assert f"32 examples · {last['metrics']['tokens']:,} tokens trained" in output
    assert "weights bundled:text" in output
    lineage = json.loads((jobs.server.directory.models / _id(last) / "lineage.json").read_text("utf-8"))
    assert (lineage["result"]["examples"], lineage["result"]["tokens"]) == (32, last["metrics"]["tokens"])


def _id(last: dict[str, Any]) -> str:
    return str(last["outputModelArn"].rsplit("/", 1)[-1])


def test_ctrl_c_ends_the_watching_and_not_the_job(jobs: Jobs) -> None:
    lines = [f'{{"prompt": "where is {number}?", "completion": " on its way"}}\n' for number in range(4000)]
    boto3.client("s3").put_object(Bucket=jobs.bucket, Key="long.jsonl", Body="".join(lines))
    name = jobs.create("long", key="long.jsonl", epochs=10)
    with jobs.watch(name) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == f"{name}\n"
        watcher.send_signal(signal.SIGINT)
        _, errors = watcher.communicate(timeout=SECONDS)
    assert watcher.returncode == 130
    assert f"the job {name} goes on" in errors
    assert jobs.get(name)["status"] == "InProgress"
    with jobs.watch(name) as watcher:
        jobs.bedrock.stop_model_customization_job(jobIdentifier=name)
        output, errors = watcher.communicate(timeout=SECONDS)
    assert watcher.returncode == 1, errors
    assert output.splitlines()[-1].startswith(("Stopped after", "0 tokens trained", "0 examples"))
    assert "Traceback" not in errors


def test_a_failed_job_ends_with_its_reason_and_a_mistyped_name_meets_it(jobs: Jobs) -> None:
    name = jobs.create("broken", key="nothing.jsonl")
    status, output, errors = jobs.told(name)
    assert status == 1, errors
    assert "nothing.jsonl" in output
    assert "Failed after" in output
    status, output, errors = jobs.told(name.replace("broken", "borken"))
    assert (status, output) == (1, "")
    assert f"did you mean {name}" in errors
    status, _, errors = jobs.told("zzz")
    assert status == 1
    assert name in errors
    _stops_reading(jobs, name)


def _stops_reading(jobs: Jobs, name: str) -> None:
    """Whoever has seen enough is no fault."""
    with jobs.watch(name, "--json") as watcher:
        assert watcher.stdout is not None
        watcher.stdout.close()
        assert watcher.stderr is not None
        errors = watcher.stderr.read()
        watcher.wait(SECONDS)
    assert errors == ""


def test_a_directory_without_jobs_says_so(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    server.stop()
    run = subprocess.run(
        [*OUTCROP, "watch", "--data", str(tmp_path / "data")], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "no customization job in this data directory yet" in run.stderr
