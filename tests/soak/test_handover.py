"""One server after another over a training job: told to end, the first leaves its child, the next one adopts it.

And a stop, from the API's answer to the job's end.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server
from tests.soak.soak import BUCKET, ROLE, client, reached
from tests.soak.trials import trials


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data", keeps_port=True, checkpoint_seconds="0.2").start()
    yield running
    running.stop()
    running.release()


def wait(true: Callable[[], object], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def begin(server: Server, size: int) -> tuple[Any, str, Path]:
    """A job that trains."""
    trial, s3, bedrock = trials(size)["lora"], client(server, "s3"), client(server, "bedrock")
    s3.create_bucket(Bucket=BUCKET)
    for key, lines in trial.lines.items():
        s3.put_object(Bucket=BUCKET, Key=f"long/{key}.jsonl", Body="\n".join(lines).encode())
    arn = bedrock.create_model_customization_job(**trial.request("long-job", BUCKET, ROLE))["jobArn"]
    place = server.directory.work / arn.rpartition("/")[2]
    wait(lambda: reached(place) > 5)
    return bedrock, arn, place


def status(bedrock: Any, arn: str) -> str:
    return str(bedrock.get_model_customization_job(jobIdentifier=arn)["status"])


@pytest.mark.slow
def test_a_server_that_is_told_to_end_leaves_its_child_and_the_next_adopts_it(server: Server) -> None:
    bedrock, arn, place = begin(server, 100)
    child = (place / "lock").read_text()
    os.kill(int(child), signal.SIGSTOP)  # however long the server takes to end, the job is not over
    server.stop()
    before = reached(place)
    os.kill(int(child), signal.SIGCONT)
    wait(lambda: reached(place) > before)
    server.start()
    wait(lambda: status(bedrock, arn) == "Completed")
    assert (place / "lock").read_text() == child, "the one child of this job"
    assert "resumed" not in (place / "events.jsonl").read_text()


@pytest.mark.slow
def test_a_stop_ends_a_job_that_would_go_on_for_minutes(server: Server) -> None:
    bedrock, arn, place = begin(server, 20_000)
    bedrock.stop_model_customization_job(jobIdentifier=arn)
    assert status(bedrock, arn) in {"Stopping", "Stopped"}
    wait(lambda: status(bedrock, arn) == "Stopped")
    assert reached(place) < 10_000
