"""What outlives a server: children are adopted, never run twice; what was half done is finished, nothing is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from outcrop.records import Job
from outcrop.store.database import Database
from outcrop.store.store import Store
from tests.jobs.world import CHECKED, PLANNED, TRAINED, WHOLE, World

REPOSITORY = Path(__file__).parents[2]


def waiting(world: World) -> Job:
    """A running job whose child waits for the file `go`."""
    job = world.job([*CHECKED, *PLANNED, "wait go", *TRAINED, *WHOLE[-3:]])
    world.until_told(job, "dataProcessing")
    world.scheduler.tick()
    return job


def release(world: World, job: Job) -> None:
    (world.place(job) / "go").touch()


def test_the_next_server_adopts_the_child(world: World) -> None:
    job = waiting(world)
    world.server()
    world.scheduler.tick()
    assert world.now(job).status == "InProgress"
    release(world, job)
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 1


def test_the_next_server_learns_what_was_told_while_none_ran(world: World) -> None:
    job = waiting(world)
    release(world, job)
    world.until(lambda: world.executor.find(world.place(job)) is None)
    world.server()
    done = world.until_status(job, "Completed")
    assert len(world.runs(job)) == 1
    assert done.metrics["tokens"] == 20


def test_a_child_that_died_while_no_server_ran_is_started_anew(world: World) -> None:
    job = world.job([*CHECKED, "wait go"], WHOLE)
    world.until_told(job, "Completed")
    os.kill(world.runs(job)[0], signal.SIGKILL)
    world.server()
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 2


def test_a_child_whose_handle_was_lost_is_found_by_its_lock(world: World) -> None:
    """As when a server is killed between the start of a child and the transaction that keeps its handle."""
    job = waiting(world)
    handle = world.now(job).handle
    world.store.jobs.started(job.arn, None, world.clock())
    world.server()
    world.until(lambda: world.now(job).handle == handle)
    release(world, job)
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 1


def test_a_second_child_leaves_and_the_first_is_kept(world: World) -> None:
    """As when that server's successor starts another child before the first one has its lock."""
    job = waiting(world)
    handle = world.now(job).handle
    second = world.executor.start(world.place(job), {})
    world.until(lambda: not world.executor.poll(second).alive)
    assert world.executor.poll(second).code == 0
    world.store.jobs.started(job.arn, second, world.clock())
    world.until(lambda: world.now(job).handle == handle)
    release(world, job)
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 1


def test_a_stop_that_was_asked_while_no_server_ran_is_obeyed(world: World) -> None:
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "hang"])
    world.until_told(job, "checkpoint")
    world.store.jobs.ask_stop(job.arn, world.clock())
    world.server()
    world.until_status(job, "Stopped")


def test_a_stop_that_the_last_server_passed_on_keeps_its_grace_with_the_next(world: World) -> None:
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "deaf"])
    world.until_told(job, "checkpoint")
    world.store.jobs.ask_stop(job.arn, world.clock())
    world.until((world.place(job) / "stop").exists)
    world.server()
    world.scheduler.tick()
    world.scheduler.tick()
    assert world.now(job).status == "Stopping"
    world.clock.ahead += timedelta(seconds=30)
    world.until_status(job, "Stopped")


def test_weights_that_were_moved_before_the_end_was_written_keep_their_id(world: World) -> None:
    """The database refuses the transaction after the weights lie in models/: the next server has only that to do."""
    engine = world.store.database.engine
    refuse = "CREATE TRIGGER refuse BEFORE INSERT ON custom_models BEGIN SELECT RAISE(ABORT, 'not now'); END"
    with engine.connect() as connection:
        connection.exec_driver_sql(refuse)
    job = world.job(WHOLE)
    world.until(lambda: list(world.models.iterdir()))
    world.scheduler.tick()
    assert world.now(job).status == "InProgress"
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP TRIGGER refuse")
    world.server()
    done = world.until_status(job, "Completed")
    (folder,) = world.models.iterdir()
    assert (
        done.model_arn
        == f"{job.arn.rpartition('/')[0].replace('model-customization-job', 'custom-model')}/{folder.name}"
    )
    assert len(world.runs(job)) == 1


def test_a_child_of_an_endpoint_that_is_no_more_goes_on_with_the_new_one(world: World) -> None:
    job = world.job(["env", *CHECKED, "wait go", *WHOLE])
    world.until_told(job, "Completed")
    world.endpoint = "http://127.0.0.1:4581"
    world.server()
    world.until(lambda: len(world.runs(job)) == 2)
    release(world, job)
    world.until_status(job, "Completed")
    told = json.loads((world.place(job) / "env.json").read_text())
    assert told["AWS_ENDPOINT_URL_S3"] == world.endpoint
    assert json.loads((world.place(job) / "start.json").read_text())["attempts"] == 1, "it is not the child's fault"


def test_a_child_gets_fresh_credentials_before_its_own_end(world: World) -> None:
    job = world.job(["env", *CHECKED, "wait go", *WHOLE])
    world.until_told(job, "Completed")
    world.clock.ahead += timedelta(hours=11, minutes=54)
    world.scheduler.tick()
    assert len(world.runs(job)) == 1
    world.clock.ahead += timedelta(minutes=2)
    world.until(lambda: len(world.runs(job)) == 2)
    release(world, job)
    world.until_status(job, "Completed")
    assert json.loads((world.place(job) / "env.json").read_text())["AWS_ACCESS_KEY_ID"] == "ASIA2"


def half_trained(world: World) -> Job:
    """A job whose first child left a checkpoint, and whose second would finish it once the file `go` is there."""
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "wait go", "kill 9"], WHOLE)
    world.until_told(job, "checkpoint")
    world.scheduler.tick()
    (world.place(job) / "checkpoint" / "step-000000002").mkdir(parents=True)
    return job


def test_a_full_disk_delays_a_half_trained_job_and_takes_nothing_from_it(world: World) -> None:
    job = half_trained(world)
    full = world.place(job) / f".start.json.{os.getpid()}"
    full.symlink_to("/dev/full")
    release(world, job)
    world.until(lambda: world.executor.find(world.place(job)) is None)
    for _ in range(5):
        world.scheduler.tick()
        world.clock.ahead += timedelta(hours=1)
    assert (world.now(job).status, world.now(job).failure) == ("InProgress", None)
    assert (world.place(job) / "checkpoint" / "step-000000002").is_dir()
    full.unlink()
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 2


def test_a_machine_that_starts_no_process_for_a_while_costs_a_job_none_of_its_attempts(world: World) -> None:
    job = half_trained(world)
    command, world.executor._command = world.executor._command, ("/no/such/python",)
    release(world, job)
    world.until(lambda: world.executor.find(world.place(job)) is None)
    for _ in range(2 * world.rules.attempts):
        world.scheduler.tick()
    assert world.now(job).status == "InProgress"
    world.executor._command = command
    world.until_status(job, "Completed", "Failed")
    assert world.now(job).status == "Completed"


def test_a_server_may_take_its_children_along_and_the_next_one_resumes_them(world: World) -> None:
    world.server(keep_children=False)
    job = world.job([*CHECKED, "wait go"], WHOLE)
    world.until_told(job, "Completed")
    world.scheduler.stop()
    wait(lambda: world.executor.find(world.place(job)) is None)
    assert json.loads((world.place(job) / "start.json").read_text())["attempts"] == 0
    world.server()
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 2


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[World]:
    database = Database(f"sqlite:///{tmp_path}/outcrop.db")
    database.create()
    world = World(tmp_path, Store.over(database))
    world.server()
    yield world
    world.close()


@contextlib.contextmanager
def serving(root: Path) -> Iterator[None]:
    """A server process over the directory, killed at the end as by a power cut."""
    with (root / "server.txt").open("a") as log:
        process = subprocess.Popen([sys.executable, "-m", "tests.jobs.server", str(root)], cwd=REPOSITORY, stdout=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


def wait(true: object, seconds: float = 60.0) -> None:
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_servers_child_works_on_and_the_next_server_takes_it_over(on_disk: World) -> None:
    world = on_disk
    job = world.job([*CHECKED, "wait go", *WHOLE[2:]])
    later = world.job(WHOLE)
    with serving(world.root):
        wait(lambda: world.now(job).parts["validationDetails"]["status"] == "Completed")
    (pid,) = world.runs(job)
    os.kill(pid, 0)
    with serving(world.root):
        release(world, job)
        wait(lambda: world.now(later).status == "Completed")
    assert world.now(job).status == "Completed"
    assert world.runs(job) == [pid]
    assert len(world.runs(later)) == 1


def test_server_and_child_killed_together_lose_nothing(on_disk: World) -> None:
    world = on_disk
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "deaf"], WHOLE)
    with serving(world.root):
        wait(lambda: world.now(job).parts["trainingDetails"]["status"] == "InProgress")
    os.kill(world.runs(job)[0], signal.SIGKILL)
    with serving(world.root):
        wait(lambda: world.now(job).status == "Completed")
    assert len(world.runs(job)) == 2


def test_a_server_killed_over_and_over_runs_each_job_once(on_disk: World) -> None:
    """Each one a moment after it moved something, the moments spread: no job is lost, none has two children."""
    world = on_disk
    jobs = [world.job(WHOLE) for _ in range(3)]

    def state() -> list[object]:
        return [(world.now(job), world.runs(job)) for job in jobs]

    lives = 0
    while any(world.now(job).status == "InProgress" for job in jobs):
        before = state()
        with serving(world.root):
            wait(lambda before=before: state() != before)
            time.sleep(0.011 * (lives % 7))
        lives += 1
    assert lives > 1, "else nothing was killed in the middle of anything"
    assert [len(world.runs(job)) for job in jobs] == [1] * 3
    assert [world.now(job).status for job in jobs] == ["Completed"] * 3
    assert {path.name for path in world.models.iterdir()} == world.store.models.ids()
