"""What jobs leave behind when they are over: their story, and neither data nor weights nor living credentials."""

import os
import time
from datetime import timedelta

import pytest

from outcrop.records import Job
from tests.jobs.world import CHECKED, PLANNED, TRAINED, WHOLE, World

COPIES = ("data", "plan", "model.draft")
WORKED = [*CHECKED, *PLANNED, *TRAINED]
FAILED = {"kind": "failed", "message": "No."}
ENDS = {
    "Completed": WHOLE,
    "Failed by its child": [*WORKED, "model", FAILED],
    "Failed by its data": [*CHECKED[:1], FAILED],
    "Failed by dying": [*WORKED, "exit 1"],
    "Stopped": [*WORKED, "hang"],
}


def furnish(world: World, job: Job) -> None:
    """All folders that a job may have, with something in each."""
    for name in (*COPIES, "checkpoint"):
        (world.place(job) / name / "deep").mkdir(parents=True)
        (world.place(job) / name / "deep" / "much").touch()


def left(world: World, job: Job) -> set[str]:
    return {path.name for path in world.place(job).iterdir() if path.is_dir()}


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_is_over_leaves_its_story_alone_and_no_key_of_its_role(world: World, end: str) -> None:
    job = world.job(ENDS[end])
    furnish(world, job)
    if end == "Stopped":
        world.until_told(job, "checkpoint")
        world.store.jobs.ask_stop(job.arn, world.clock())
    world.until_status(job, end.split(maxsplit=1)[0])
    assert left(world, job) == set()
    assert {"spec.json", "events.jsonl", "log.txt", "start.json"} <= {path.name for path in world.place(job).iterdir()}
    assert world.roles.asked
    assert world.roles.living == set()


def test_what_a_killed_server_did_not_come_to_is_removed_by_the_next(world: World) -> None:
    job, running = world.job(["wait go", *WHOLE]), world.job(["wait go", *WHOLE])
    world.until(lambda: world.runs(job))
    os.kill(world.runs(job)[0], 9)
    while world.executor.find(world.place(job)) is not None:
        time.sleep(0.005)  # and no tick: it would start another child
    world.store.jobs.fail(job.arn, "No.", world.clock())
    furnish(world, job)
    furnish(world, running)
    (world.work / "of-nobody" / "plan").mkdir(parents=True)
    assert world.roles.living
    world.server()
    world.scheduler.tick()
    assert left(world, job) == set()
    assert "plan" in left(world, running)
    assert (world.work / "of-nobody" / "plan").is_dir(), "no job of this store: not ours to judge"
    (world.place(running) / "go").touch()
    world.until_status(running, "Completed")
    assert world.roles.living == set()


def test_nothing_is_removed_under_a_child_that_still_lives(world: World) -> None:
    job = world.job(["deaf"])
    world.until(lambda: world.runs(job))
    furnish(world, job)
    world.store.jobs.fail(job.arn, "No.", world.clock())
    world.server()
    world.scheduler.tick()
    assert left(world, job) == {*COPIES, "checkpoint"}
    assert world.roles.living == {"ASIA1"}
    os.kill(world.runs(job)[0], 9)
    world.until(lambda: not left(world, job))
    assert world.roles.living == set()


def test_what_our_own_fault_ended_is_kept_for_a_person_but_not_the_customers_data(world: World) -> None:
    job = world.job([*WORKED, "model", {"kind": "checkpoint"}, "deaf"])
    furnish(world, job)
    world.until_told(job, '"checkpoint"}')
    world.scheduler.tick()
    world.clock.ahead += timedelta(minutes=5)
    world.until_status(job, "Failed")
    world.until(lambda: left(world, job) == {"checkpoint", "model"})
    assert "internal error" in (world.place(job) / "kept.txt").read_text()
    assert world.roles.living == set()


def test_the_keys_of_a_dead_child_end_once_another_works(world: World) -> None:
    job = world.job(["kill 9"], ["wait go", *WHOLE])
    world.until(lambda: len(world.runs(job)) == 2)
    world.until(lambda: world.roles.living == {"ASIA2"})
    (world.place(job) / "go").touch()
    world.until_status(job, "Completed")


def test_a_child_that_cannot_be_started_leaves_no_key(world: World) -> None:
    world.executor._command = ("/no/such/python",)
    job = world.job(WHOLE)
    for _ in range(4):
        world.scheduler.tick()
    assert len(world.roles.asked) == 4
    assert world.roles.living == set()
    world.clock.ahead += timedelta(minutes=5)
    world.until_status(job, "Failed")


def test_a_job_whose_leavings_cannot_be_read_holds_up_no_other(world: World) -> None:
    broken, other = world.job([FAILED]), world.job([FAILED])
    world.until_status(broken, "Failed")
    (world.place(broken) / "start.json").write_text("{")
    world.until_status(other, "Failed")
    furnish(world, other)
    furnish(world, broken)
    world.server()
    world.scheduler.tick()
    assert left(world, other) == set()
    (world.place(broken) / "start.json").unlink()
    world.scheduler.tick()
    assert left(world, broken) == set()
