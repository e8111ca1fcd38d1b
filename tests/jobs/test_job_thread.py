"""The loop's own thread: woken, asleep, and not to be ended by a fault."""

import time
from collections.abc import Callable

import pytest

from outcrop.jobs import scheduler
from tests.jobs.world import WHOLE, World


def wait(true: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_wake_starts_a_job_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "IDLE_SECONDS", 3600.0)  # by itself the loop would not look again
    world.scheduler.start()
    time.sleep(0.1)
    job = world.job(["wait go", *WHOLE])
    world.scheduler.wake()
    wait(lambda: world.runs(job))
    (world.place(job) / "go").touch()
    wait(lambda: world.now(job).status == "Completed")
    world.scheduler.stop()


def test_a_job_that_nobody_rang_for_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "IDLE_SECONDS", 0.05)
    world.scheduler.start()
    job = world.job(WHOLE)
    wait(lambda: world.now(job).status == "Completed")
    world.scheduler.stop()


def test_a_stopped_loop_leaves_its_child_at_work(world: World) -> None:
    job = world.job(["wait go", *WHOLE])
    world.scheduler.start()
    wait(lambda: world.runs(job))
    world.scheduler.stop()
    assert world.executor.find(world.place(job)) is not None
    (world.place(job) / "go").touch()
    world.server().start()
    wait(lambda: world.now(job).status == "Completed")
    world.scheduler.stop()
    assert len(world.runs(job)) == 1


def test_a_database_that_is_away_for_a_while_does_not_end_the_loop(
    world: World, monkeypatch: pytest.MonkeyPatch, logged: list[dict[str, str]]
) -> None:
    monkeypatch.setattr(scheduler, "BUSY_SECONDS", 0.02)
    job = world.job(WHOLE)
    with world.store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE customization_jobs RENAME TO away")
    world.scheduler.start()
    wait(lambda: "the job loop met a fault" in [entry["event"] for entry in logged])
    time.sleep(0.1)  # some more looks, which have nothing new to say
    with world.store.database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO customization_jobs")
    wait(lambda: world.now(job).status == "Completed")
    world.scheduler.stop()
    assert [entry["event"] for entry in logged].count("the job loop met a fault") == 1


def test_an_unstarted_loop_can_be_stopped(world: World) -> None:
    world.scheduler.stop()
