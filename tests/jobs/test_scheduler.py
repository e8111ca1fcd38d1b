"""The job loop over a real store and real children: every end a job can come to, and what a child is given."""

import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outcrop.errors import ServiceUnavailableException
from outcrop.jobs.moves import Rules
from outcrop.records import Job
from tests.jobs.world import (
    CHECKED,
    DONE,
    END,
    LONG_ID,
    PLANNED,
    ROLE,
    TRAINED,
    WHOLE,
    World,
    part,
    step,
)


def fill(path: Path) -> Path:
    """Let this process find the disk full when it next writes a small file whole; unlinked, there is room again."""
    full = path.with_name(f".{path.name}.{os.getpid()}")
    full.symlink_to("/dev/full")  # the kernel's own full device
    return full


def parts(job: Job) -> list[str]:
    return [job.parts[name]["status"] for name in ("validationDetails", "dataProcessingDetails", "trainingDetails")]


def test_a_job_runs_and_becomes_a_model(world: World) -> None:
    job = world.job(WHOLE, method="full", seed="9")
    done = world.until_status(job, "Completed", "Failed")
    assert (done.status, done.failure) == ("Completed", None)
    assert parts(done) == ["Completed"] * 3
    assert done.metrics["trainingMetrics"] == {"trainingLoss": 0.5}
    assert done.metrics["validationMetrics"] == [{"validationLoss": 0.75}]
    assert (done.metrics["tokens"], done.metrics["perplexity"]) == (20, 1.6)
    assert done.created < done.ended <= done.modified
    model = world.store.models.by_arn(done.model_arn)
    assert model.arn == f"arn:aws:bedrock:us-east-1:123456789012:custom-model/{LONG_ID}/{model.id}"
    assert (model.name, model.status, model.job_arn) == ("model-0", "Active", job.arn)
    assert (model.method, model.base_weights) == ("full", "bundled:text")
    assert model.id != job.id
    assert (world.models / model.id / "weights").read_text() == str(world.runs(job)[0])
    assert not (world.place(job) / "model").exists()


def test_the_instants_of_the_parts_are_the_childs_own(world: World) -> None:
    job = world.job(WHOLE)
    done = world.until_status(job, "Completed")
    told = [json.loads(line) for line in (world.place(job) / "events.jsonl").read_text().splitlines()]
    began, ended = (
        next(event["at"] for event in told if event.get("part") == "training" and event["status"] == status)
        for status in ("InProgress", "Completed")
    )
    details = done.parts["trainingDetails"]
    assert [datetime.fromisoformat(details[name]) for name in ("creationTime", "lastModifiedTime")] == [
        datetime.fromisoformat(began),
        datetime.fromisoformat(ended),
    ]


def test_parts_move_while_the_child_works(world: World) -> None:
    job = world.job([*CHECKED, "wait one", *PLANNED, "wait two", *TRAINED, *END])
    world.until_told(job, "Completed")
    world.until(lambda: parts(world.now(job)) == ["Completed", "NotStarted", "NotStarted"])
    (world.place(job) / "one").touch()
    world.until(lambda: parts(world.now(job)) == ["Completed", "Completed", "NotStarted"])
    (world.place(job) / "two").touch()
    world.until_status(job, "Completed")


def test_a_child_is_told_its_spec_its_roles_credentials_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    world.server(environment={"OMP_NUM_THREADS": "2"})
    job = world.job(["env", *WHOLE])
    world.until_status(job, "Completed")
    assert world.roles.asked == [
        {"role": ROLE, "arn": job.arn, "account": "123456789012", "session": f"bedrock-customization-{job.id}"}
    ]
    told = json.loads((world.place(job) / "env.json").read_text())
    assert told["OMP_NUM_THREADS"] == "2"
    assert {name: value for name, value in told.items() if name.startswith("AWS_")} == {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:4580",
        "AWS_ACCESS_KEY_ID": "ASIA1",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    assert told["NO_PROXY"] == "127.0.0.1"


def test_the_childs_own_failure_is_the_jobs(world: World) -> None:
    job = world.job(
        [part("validation", "InProgress"), part("validation", "Failed"), {"kind": "failed", "message": "No."}]
    )
    failed = world.until_status(job, "Failed")
    assert failed.failure == "No."
    assert parts(failed) == ["Failed", "NotStarted", "NotStarted"]
    assert failed.model_arn is None
    assert world.store.models.ids() == set()


def test_a_failed_jobs_model_name_is_free_again(world: World) -> None:
    world.until_status(world.job([{"kind": "failed", "message": "No."}]), "Failed")
    world.jobs.clear()
    with pytest.raises(Exception, match="job-0"):
        world.job(WHOLE)


def test_jobs_run_one_after_another_in_their_order(world: World) -> None:
    first, second, third = (world.job([f"wait {name}", *WHOLE]) for name in ("go", "go", "go"))
    for job, later in ((first, [second, third]), (second, [third])):
        world.until(lambda job=job: world.runs(job))
        assert [world.runs(one) for one in later] == [[] for _ in later]
        (world.place(job) / "go").touch()
        world.until_status(job, "Completed")
    world.until(lambda: world.runs(third))
    (world.place(third) / "go").touch()
    world.until_status(third, "Completed")


def test_two_places_run_two_jobs_at_a_time(world: World) -> None:
    world.rules = Rules(capacity=2)
    world.server()
    jobs = [world.job(["wait go", *WHOLE]) for _ in range(3)]
    world.until(lambda: world.runs(jobs[0]) and world.runs(jobs[1]))
    assert world.runs(jobs[2]) == []
    for job in jobs[:2]:
        (world.place(job) / "go").touch()
    world.until(lambda: world.runs(jobs[2]))
    (world.place(jobs[2]) / "go").touch()
    for job in jobs:
        world.until_status(job, "Completed")


def test_a_running_job_stops_when_asked(world: World) -> None:
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "hang"])
    world.until_told(job, "checkpoint")
    world.store.jobs.ask_stop(job.arn, world.clock())
    stopped = world.until_status(job, "Stopped")
    assert parts(stopped) == ["Completed", "Completed", "Stopped"]
    assert stopped.metrics["tokens"] == 70
    assert stopped.model_arn is None
    assert stopped.failure is None


def test_a_waiting_job_stops_without_ever_starting(world: World) -> None:
    running, waiting = world.job(["wait go", *WHOLE]), world.job(WHOLE)
    world.until(lambda: world.runs(running))
    world.store.jobs.ask_stop(waiting.arn, world.clock())
    stopped = world.until_status(waiting, "Stopped")
    assert stopped.metrics["tokens"] == 0
    assert world.runs(waiting) == []
    (world.place(running) / "go").touch()
    world.until_status(running, "Completed")


def test_a_child_that_ignores_the_stop_is_killed_after_its_grace(world: World) -> None:
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "deaf"])
    world.until_told(job, "checkpoint")
    world.store.jobs.ask_stop(job.arn, world.clock())
    world.until((world.place(job) / "stop").exists)
    assert world.now(job).status == "Stopping"
    world.clock.ahead += timedelta(seconds=30)
    stopped = world.until_status(job, "Stopped")
    assert stopped.metrics["tokens"] == 20, "what its steps came to"
    assert world.executor.find(world.place(job)) is None


def test_a_job_that_is_done_before_the_stop_arrives_is_completed(world: World) -> None:
    job = world.job([*WHOLE, "wait go"])
    world.until_told(job, "done")
    world.store.jobs.ask_stop(job.arn, world.clock())
    (world.place(job) / "go").touch()
    assert world.until_status(job, "Completed", "Stopped").status == "Completed"


def test_a_child_that_will_not_end_after_its_last_word_is_killed(world: World) -> None:
    job = world.job([*WHOLE, "deaf"])
    world.until_told(job, "done")
    world.scheduler.tick()
    assert world.now(job).status == "InProgress", "its place is not free before it is gone"
    world.clock.ahead += timedelta(seconds=30)
    world.until_status(job, "Completed")


def test_shards_and_checkpoints_go_when_the_job_is_over_and_its_story_stays(world: World) -> None:
    job = world.job(WHOLE)
    for name in ("plan", "checkpoint"):
        (world.place(job) / name).mkdir(parents=True)
        (world.place(job) / name / "much").touch()
    world.until_status(job, "Completed")
    left = {path.name for path in world.place(job).iterdir()}
    assert not {"plan", "checkpoint", "model"} & left
    assert {"spec.json", "events.jsonl", "log.txt"} <= left


def test_a_role_that_cannot_be_assumed_fails_the_job(world: World) -> None:
    world.roles.refuses = True
    job = world.job(WHOLE)
    failed = world.until_status(job, "Failed")
    assert failed.failure == f"Could not assume provided IAM role. {ROLE} does not trust bedrock."
    assert world.runs(job) == []


def test_weights_that_are_not_there_fail_the_job(world: World) -> None:
    world.store.models.use_weights(LONG_ID, "/no/such/folder")
    failed = world.until_status(world.job(WHOLE), "Failed")
    assert "weights '/no/such/folder'" in failed.failure


INTERNAL = "Encountered an internal error when processing the request."


def test_a_job_that_never_started_fails_for_a_disk_that_stays_full_and_says_so(world: World) -> None:
    job = world.job(WHOLE)
    world.place(job).mkdir()
    fill(world.place(job) / "spec.json")
    world.scheduler.tick()
    assert world.now(job).status == "InProgress"
    world.clock.ahead += timedelta(minutes=5)
    assert world.until_status(job, "Failed").failure == f"{INTERNAL} No space left on device"


def test_a_program_that_cannot_run_fails_the_job(world: World) -> None:
    world.executor._command = ("/no/such/python",)
    job = world.job(WHOLE)
    world.scheduler.tick()
    world.clock.ahead += timedelta(minutes=5)
    failed = world.until_status(job, "Failed")
    assert failed.failure == f"{INTERNAL} No such file or directory: /no/such/python"


def test_a_vanished_work_directory_fails_the_job_and_ends_its_child(world: World) -> None:
    job = world.job([*CHECKED, "deaf"])
    world.until_told(job, "Completed")
    world.place(job).rename(world.work / "elsewhere")
    failed = world.until_status(job, "Failed")
    assert failed.failure == "The work directory of the job has vanished, and its checkpoints with it."
    assert world.executor.find(world.work / "elsewhere") is None


def test_a_broken_spec_fails_the_job(world: World) -> None:
    job = world.job(["kill 9"], WHOLE)
    world.until(lambda: world.runs(job))
    (world.place(job) / "spec.json").write_text("{")
    assert "spec.json" in world.until_status(job, "Failed").failure


def test_success_without_weights_is_not_believed(world: World) -> None:
    job = world.job([*CHECKED, *PLANNED, *TRAINED, DONE])
    failed = world.until_status(job, "Failed", "Completed")
    assert failed.status == "Failed"
    assert "left no weights" in failed.failure
    assert world.store.models.ids() == set()


def test_a_fault_of_ours_is_borne_with_before_it_fails_the_job(world: World, logged: list[dict[str, str]]) -> None:
    job = world.job([*CHECKED, {"kind": "checkpoint"}, "wait go"])
    world.until_told(job, "checkpoint")
    for _ in range(5):
        world.scheduler.tick()
    assert world.now(job).status == "InProgress"
    assert [entry["event"] for entry in logged].count("the job loop met a fault") == 1, "said once"
    world.clock.ahead += timedelta(minutes=5)
    failed = world.until_status(job, "Failed")
    assert failed.failure == "Encountered an internal error when processing the request. KeyError: 'step'"
    world.until(lambda: not world.executor.find(world.place(job)))


def test_a_fault_that_passes_is_forgotten(world: World) -> None:
    job = world.job(["wait go", *WHOLE])
    world.until(lambda: world.runs(job))
    events, aside = world.place(job) / "events.jsonl", world.place(job) / "aside"
    for _ in range(3):
        events.rename(aside)
        events.mkdir()
        world.scheduler.tick()
        events.rmdir()
        aside.rename(events)
        world.clock.ahead += timedelta(minutes=4)
        world.scheduler.tick()
    (world.place(job) / "go").touch()
    world.until_status(job, "Completed")


def test_a_job_waits_for_a_database_that_another_server_has_taken(world: World) -> None:
    world.roles.taken = True
    job = world.job(WHOLE)
    for _ in range(3):
        world.scheduler.tick()
        world.clock.ahead += timedelta(minutes=4)
    assert world.now(job).status == "InProgress"
    world.roles.taken = False
    assert world.until_status(job, "Completed", "Failed").failure is None


def test_a_child_is_not_ended_while_nothing_of_its_job_may_be_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = world.job(["wait one", *CHECKED, "wait two", *PLANNED, *TRAINED, *END])
    world.until(lambda: world.runs(job))

    def taken(*_: object) -> Job:
        raise ServiceUnavailableException("Another server has taken the database over.")

    with monkeypatch.context() as patch:
        for verb in ("part", "fail"):
            patch.setattr(world.store.jobs, verb, taken)
        (world.place(job) / "one").touch()
        world.until_told(job, "Completed")
        for _ in range(3):
            world.clock.ahead += timedelta(minutes=4)
            world.scheduler.tick()
    assert world.executor.find(world.place(job)) is not None
    (world.place(job) / "two").touch()
    assert world.until_status(job, "Completed", "Failed").failure is None
    assert len(world.runs(job)) == 1


def test_one_jobs_fault_does_not_hold_up_another(world: World) -> None:
    world.rules = Rules(capacity=2)
    world.server()
    bad, good = world.job([{"kind": "checkpoint"}, "wait go"]), world.job(WHOLE)
    world.until_status(good, "Completed")
    assert world.now(bad).status == "InProgress"


def test_a_capped_learning_rate_is_told_among_the_events(world: World) -> None:
    job = world.job(WHOLE, learningRate="0.5")
    world.until_status(job, "Completed")
    first = json.loads((world.place(job) / "events.jsonl").read_text().splitlines()[0])
    assert (first["kind"], first["level"]) == ("log", "warning")
    assert "learningRate 0.5" in first["message"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_child_that_dies_three_times_at_the_same_place_fails_the_job(world: World, number: int) -> None:
    job = world.job([*CHECKED, "say tensor of 3 petabytes", f"kill {number}"])
    failed = world.until_status(job, "Failed")
    assert len(world.runs(job)) == 3
    assert f"killed by signal {number:d} ({signal.Signals(number).name})" in failed.failure
    assert failed.failure.endswith("tensor of 3 petabytes")
    assert ("memory runs out" in failed.failure) == (number == signal.SIGKILL)


def test_a_child_that_leaves_without_a_word_is_no_success(world: World) -> None:
    failed = world.until_status(world.job([*CHECKED, "exit 0"]), "Failed", "Completed")
    assert "exited with status 0" in failed.failure


def test_progress_gives_new_attempts(world: World) -> None:
    dying = [[*CHECKED, *TRAINED, {"kind": "checkpoint", "step": number}, "kill 9"] for number in (3, 4, 5, 6, 6, 6)]
    job = world.job(*dying)
    world.until_status(job, "Failed")
    assert len(world.runs(job)) == 7, "the fourth reached step 6, from which three more went on in vain"


def test_progress_on_the_last_attempt_saves_the_job(world: World) -> None:
    early, late = ([*CHECKED, *TRAINED, {"kind": "checkpoint", "step": number}, "kill 9"] for number in (3, 9))
    job = world.job(early, early, early, late, WHOLE)
    assert world.until_status(job, "Completed", "Failed").status == "Completed"


def test_a_part_whose_beginning_was_not_told_has_ended_all_the_same(world: World) -> None:
    job = world.job([part("validation", "Completed"), "wait go", *WHOLE])
    world.until(lambda: parts(world.now(job))[0] == "Completed")
    (world.place(job) / "go").touch()
    world.until_status(job, "Completed")


def test_a_part_that_is_over_stays_so_whatever_a_resumed_child_finds(world: World) -> None:
    again = [
        part("validation", "InProgress"),
        part("validation", "Failed"),
        {"kind": "failed", "message": "The file is gone."},
    ]
    job = world.job([*CHECKED, "kill 9"], again)
    failed = world.until_status(job, "Failed")
    assert failed.failure == "The file is gone."
    assert parts(failed) == ["Completed", "NotStarted", "NotStarted"]


def test_a_stop_file_of_nobody_does_not_stop_a_job_that_starts(world: World) -> None:
    job = world.job(["wait go", *WHOLE])
    world.place(job).mkdir()
    (world.place(job) / "stop").touch()
    world.until(lambda: world.runs(job))
    assert not (world.place(job) / "stop").exists()
    (world.place(job) / "go").touch()
    world.until_status(job, "Completed")


PHASES = {
    "before a word": ["kill 9"],
    "in validation": [part("validation", "InProgress"), "kill 9"],
    "after validation": [*CHECKED, "kill 9"],
    "in processing": [*CHECKED, part("dataProcessing", "InProgress"), "kill 9"],
    "in a line": [*CHECKED, *PLANNED, "torn", "kill 9"],
    "in training": [*CHECKED, *PLANNED, part("training", "InProgress"), step(0), "kill 9"],
    "after a checkpoint": [*CHECKED, *PLANNED, *TRAINED, "kill 9"],
    "in delivery": [*CHECKED, *PLANNED, *TRAINED, part("training", "Completed"), "kill 9"],
    "with the weights made": [*CHECKED, *PLANNED, *TRAINED, part("training", "Completed"), "model", "kill 9"],
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_child_killed_at_any_moment_is_started_anew_and_finishes(world: World, phase: str) -> None:
    rest = [one for one in WHOLE if one != "model" or phase != "with the weights made"]
    job = world.job(PHASES[phase], rest)
    done = world.until_status(job, "Completed", "Failed")
    assert (done.status, done.failure) == ("Completed", None)
    assert parts(done) == ["Completed"] * 3
    assert len(world.runs(job)) == 2


def test_a_child_killed_after_its_last_word_needs_no_other(world: World) -> None:
    job = world.job([*WHOLE, "kill 9"])
    world.until_status(job, "Completed")
    assert len(world.runs(job)) == 1


def test_a_resumed_childs_repeated_parts_change_nothing(world: World) -> None:
    job = world.job([*CHECKED, *PLANNED, *TRAINED, "kill 9"], ["wait go", *WHOLE])
    world.until(lambda: len(world.runs(job)) == 2)
    before = world.now(job).parts
    (world.place(job) / "go").touch()
    after = world.until_status(job, "Completed").parts
    assert after["validationDetails"] == before["validationDetails"]


def test_the_end_is_dated_by_the_servers_clock(world: World) -> None:
    done = world.until_status(world.job(WHOLE), "Completed")
    assert done.ended is not None
    assert abs(datetime.now(UTC) - done.ended) < timedelta(minutes=1)


def test_the_log_holds_what_every_child_said(world: World) -> None:
    job = world.job(["say one", "kill 9"], ["say two", *WHOLE])
    world.until_status(job, "Completed")
    assert (Path(world.place(job)) / "log.txt").read_text() == "one\ntwo\n"
