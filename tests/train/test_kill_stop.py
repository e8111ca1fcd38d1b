"""A request to stop is obeyed within a step, whatever the child is at: loading, scoring, waiting for hung storage."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from outcrop.records import TrainSpec
from tests.train.shelf import Shelf
from tests.train.work import PATIENCE, Start, Work, small_job

SOON: float = 30.0
"""Seconds. A step here takes milliseconds and the ear asks every 0.1 s: the rest is for a busy machine. Whoever waited
for what hangs here would wait for a minute (the client's read timeout)."""


@pytest.fixture
def spec(llama: Path, shelf: Shelf, write_pairs: Callable[..., Path]) -> TrainSpec:
    shelf.objects["bucket/train.jsonl"] = write_pairs(20).read_bytes()
    return small_job(llama)


@contextmanager
def hanging(shelf: Shelf) -> Iterator[threading.Event]:
    """Storage that takes every connection and never answers; the event is set once somebody waits for it."""
    waited, held = threading.Event(), []
    address = urlsplit(shelf.url)
    shelf.close()
    with socket.create_server((str(address.hostname), int(address.port or 0)), reuse_port=False) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    waited.set()

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield waited
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in held:
        connection.close()


def stop(job: Work, child: Any) -> list[dict[str, Any]]:
    """Ask, and see the child leave soon; its events."""
    asked = time.time()
    (job.directory / "stop").touch()
    assert child.wait(timeout=PATIENCE) == 0, job.log()
    took = time.time() - asked
    events = job.events()
    assert events[-1]["kind"] == "stopped", events[-3:]
    assert [event["status"] for event in events if event["kind"] == "part"][-1] == "Stopped"
    assert took < SOON
    assert not (job.directory / "model").exists()
    return events


def test_while_storage_hangs_in_the_intake(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    job = start(spec)
    with hanging(shelf) as waited:
        child = job.fork()
        assert waited.wait(PATIENCE)
        stop(job, child)


@pytest.mark.slow
def test_while_the_base_is_loaded(spec: TrainSpec, start: Start) -> None:
    job = start(spec)
    child = job.start()  # from nothing: its imports are what takes time
    job.wait_for(lambda: ("dataProcessing", "InProgress") in parts(job), child)
    events = stop(job, child)
    assert not [event for event in events if event["kind"] == "step"]


@pytest.mark.slow
def test_in_an_evaluation_and_the_next_life_of_it_would_have_lost_nothing(
    spec: TrainSpec, start: Start, shelf: Shelf, write_pairs: Callable[..., Path]
) -> None:
    shelf.objects["bucket/validation.jsonl"] = write_pairs(20_000, start=100).read_bytes()
    job = start(replace(spec, validation=("s3://bucket/validation.jsonl",)))
    child = job.fork()
    job.wait_for(lambda: job.steps() == 5, child)
    events = stop(job, child)
    kinds = [event["kind"] for event in events]
    assert "eval" not in kinds, "20,000 records take longer than this"
    assert kinds[-3:] == ["checkpoint", "part", "stopped"]
    assert events[-1]["step"] == 5
    assert events[-1]["tokens"] == sum(event["tokens"] for event in events if event["kind"] == "step")


@pytest.mark.slow
def test_while_storage_hangs_in_the_delivery(spec: TrainSpec, start: Start, shelf: Shelf) -> None:
    job = start(spec)
    child = job.fork()
    job.wait_for(lambda: ("dataProcessing", "Completed") in parts(job), child)
    with hanging(shelf) as waited:
        job.wait_for(lambda: job.steps() == 5, child)
        assert waited.wait(PATIENCE)
        events = stop(job, child)
    assert events[-1]["step"] == 5
    assert events[-1]["tokens"] == sum(event["tokens"] for event in events if event["kind"] == "step")


def parts(job: Work) -> list[tuple[str, str]]:
    return [(event["part"], event["status"]) for event in job.events() if event["kind"] == "part"]
