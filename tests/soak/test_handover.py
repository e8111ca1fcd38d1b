"""One server after another over a training job: told to end, the first leaves its child, the next one adopts it.

And what a stop takes from the API's answer to the job's end.
"""

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
    bedrock, arn, place = begin(server, 160)
    child = (place / "lock").read_text()
    server.stop()
    before = reached(place)
    wait(lambda: reached(place) > before)
    server.start()
    wait(lambda: status(bedrock, arn) == "Completed")
    assert (place / "lock").read_text() == child, "the one child of this job"
    assert "resumed" not in (place / "events.jsonl").read_text()


@pytest.mark.slow
def test_a_stop_answers_at_once_and_ends_the_job_within_seconds(server: Server) -> None:
    bedrock, arn, place = begin(server, 20_000)
    asked = time.monotonic()
    bedrock.stop_model_customization_job(jobIdentifier=arn)
    answered = time.monotonic() - asked
    at = reached(place)
    wait(lambda: status(bedrock, arn) == "Stopped")
    took = time.monotonic() - asked
    print(f"answered after {answered:.3f} s, stopped after {took:.3f} s and {reached(place) - at} steps")
    assert answered < 2.0
    assert took < 10.0
