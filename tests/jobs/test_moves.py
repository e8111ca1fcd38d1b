"""Every row of the job loop's decisions, without a process, a file or a clock."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from outcrop.jobs.events import Event
from outcrop.jobs.moves import Rules, Sight, moves
from outcrop.records import Job

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RULES = Rules(capacity=1, attempts=3, grace=30 * SECOND, renewal=300 * SECOND)
DONE, FAILED, STOPPED = (
    Event(NOW, kind, {"message": "line 3 is broken"} if kind == "failed" else {})
    for kind in ("done", "failed", "stopped")
)


def job(number: int = 1, status: str = "InProgress", handle: str | None = "7:1@b") -> Job:
    return Job(
        arn=f"arn:{number}",
        id=str(number),
        name=str(number),
        region="us-east-1",
        status=status,
        base_model_id="m",
        request={},
        created=NOW,
        modified=NOW,
        handle=handle,
    )


FRESH = job(handle=None)
RUNNING = job()
STOPPING = job(status="Stopping")

TABLE = [
    ("a fresh job starts", FRESH, Sight(), "start"),
    ("one asked to stop before it began just stops", replace(FRESH, status="Stopping"), Sight(), "stopped"),
    ("a child that the store does not know is adopted", FRESH, Sight(found="8:1@b"), "adopt"),
    ("… even when the known one is dead", RUNNING, Sight(found="8:1@b", spent=3), "adopt"),
    ("… and even when it shall stop", replace(FRESH, status="Stopping"), Sight(found="8:1@b"), "adopt"),
    ("a child that works is left alone", RUNNING, Sight(alive=True, spent=1), None),
    ("a child that works is left alone on its last attempt", RUNNING, Sight(alive=True, spent=3), None),
    ("a stop is passed on", STOPPING, Sight(alive=True), "ask"),
    ("an asked child has its grace", STOPPING, Sight(alive=True, asked=NOW - 29 * SECOND), None),
    ("after which it is killed", STOPPING, Sight(alive=True, asked=NOW - 30 * SECOND), "kill"),
    ("a killed one has stopped", STOPPING, Sight(code=-9, asked=NOW, spent=1), "stopped"),
    ("a child that said stopped may end", STOPPING, Sight(alive=True, asked=NOW, ending=STOPPED, ended=NOW), None),
    ("and has stopped when it did", STOPPING, Sight(code=0, ending=STOPPED), "stopped"),
    ("a stop that nobody asked for is a stop", RUNNING, Sight(code=0, ending=STOPPED), "stopped"),
    ("work that was done while the stop came is done", STOPPING, Sight(code=0, ending=DONE), "complete"),
    ("a failure while the stop came is a failure", STOPPING, Sight(code=1, ending=FAILED), "fail"),
    ("a child that said done may end", RUNNING, Sight(alive=True, ending=DONE, ended=NOW - 29 * SECOND), None),
    ("but not for ever", RUNNING, Sight(alive=True, ending=DONE, ended=NOW - 30 * SECOND), "kill"),
    ("done is done, however the child ended", RUNNING, Sight(code=-9, ending=DONE, spent=3), "complete"),
    ("its own failure is the job's", RUNNING, Sight(code=1, ending=FAILED), "fail"),
    ("a child that died without a word is started anew", RUNNING, Sight(code=-9, spent=2), "start"),
    ("but not a fourth time", RUNNING, Sight(code=-9, spent=3), "fail"),
    ("a start that never came to a handle counts too", FRESH, Sight(spent=3), "fail"),
    ("a child without its directory is killed", RUNNING, Sight(alive=True, lost=True), "kill"),
    ("and then its job fails", RUNNING, Sight(lost=True), "fail"),
    ("a child of an endpoint that is no more starts anew", RUNNING, Sight(alive=True, outdated=True), "renew"),
    ("as does one whose credentials end", RUNNING, Sight(alive=True, expires=NOW + 300 * SECOND), "renew"),
    ("but not before", RUNNING, Sight(alive=True, expires=NOW + 301 * SECOND), None),
    ("one that shall stop is asked all the same", STOPPING, Sight(alive=True, outdated=True), "ask"),
    ("one that is done needs no credentials", RUNNING, Sight(alive=True, ending=DONE, outdated=True), None),
]


@pytest.mark.parametrize(("one", "sight", "kind"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_each_sight_has_its_move(one: Job, sight: Sight, kind: str | None) -> None:
    planned = moves([one], {one.arn: sight}, NOW, RULES)
    assert [move.kind for move in planned] == ([kind] if kind else [])
    assert all(move.job == one for move in planned)


def kinds(jobs: list[Job], sights: dict[str, Sight], rules: Rules = RULES) -> list[tuple[str, str]]:
    return [(move.kind, move.job.id) for move in moves(jobs, sights, NOW, rules)]


def test_the_oldest_waiting_job_gets_the_only_place() -> None:
    waiting = [job(number, handle=None) for number in (1, 2, 3)]
    assert kinds(waiting, {one.arn: Sight() for one in waiting}) == [("start", "1")]


def test_a_living_child_takes_the_place_of_a_waiting_job() -> None:
    assert kinds([RUNNING, job(2, handle=None)], {"arn:1": Sight(alive=True), "arn:2": Sight()}) == []


def test_a_child_that_is_done_but_lives_still_takes_its_place() -> None:
    sights = {"arn:1": Sight(alive=True, ending=DONE, ended=NOW), "arn:2": Sight()}
    assert kinds([RUNNING, job(2, handle=None)], sights) == []


def test_a_finished_job_makes_room_at_once() -> None:
    sights = {"arn:1": Sight(code=0, ending=DONE), "arn:2": Sight()}
    assert kinds([RUNNING, job(2, handle=None)], sights) == [("complete", "1"), ("start", "2")]


def test_an_unknown_child_takes_a_place() -> None:
    sights = {"arn:1": Sight(), "arn:2": Sight(found="8:1@b")}
    assert kinds([FRESH, job(2, handle=None)], sights) == [("adopt", "2")]


def test_a_dead_child_is_started_anew_before_younger_jobs_begin() -> None:
    assert kinds([RUNNING, job(2, handle=None)], {"arn:1": Sight(code=1, spent=1), "arn:2": Sight()}) == [
        ("start", "1")
    ]


def test_capacity_is_the_number_of_living_children() -> None:
    waiting = [job(number, handle=None) for number in (2, 3, 4)]
    sights = {"arn:1": Sight(alive=True)} | {one.arn: Sight() for one in waiting}
    assert kinds([RUNNING, *waiting], sights, replace(RULES, capacity=3)) == [("start", "2"), ("start", "3")]


def test_a_stop_needs_no_place() -> None:
    stopping = job(2, status="Stopping", handle=None)
    assert kinds([RUNNING, stopping], {"arn:1": Sight(alive=True), "arn:2": Sight()}) == [("stopped", "2")]


def test_a_job_that_could_not_be_seen_keeps_its_place_and_is_left_alone() -> None:
    assert kinds([RUNNING, job(2, handle=None)], {"arn:2": Sight()}) == []


def test_a_job_without_a_child_that_could_not_be_seen_holds_nobody_up() -> None:
    assert kinds([FRESH, job(2, handle=None)], {"arn:2": Sight()}) == [("start", "2")]


def message(sight: Sight) -> str:
    return moves([RUNNING], {"arn:1": sight}, NOW, RULES)[0].message


def test_the_failure_is_the_childs_own_message() -> None:
    assert message(Sight(code=1, ending=FAILED)) == "line 3 is broken"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-9, "killed by signal 9 (SIGKILL), which is what the system does when memory runs out"),
        (-11, "killed by signal 11 (SIGSEGV)."),
        (-64 - 1, "killed by signal 65 (unnamed)."),
        (0, "exited with status 0."),
        (3, "exited with status 3."),
        (None, "ended while no server watched"),
    ],
)
def test_a_wordless_end_says_how_the_child_died_and_what_its_log_says(code: int | None, words: str) -> None:
    told = message(Sight(code=code, spent=3, tail="Traceback\nMemoryError"))
    assert words in told
    assert told.endswith("End of its log: Traceback\nMemoryError")
    assert "3 times at the same place" in told


def test_a_child_that_asked_for_another_life_too_often_fails_with_its_own_reason() -> None:
    told = message(Sight(code=75, spent=3, tail="Traceback\nRan out of memory (2 GB). What helps: a larger machine"))
    assert told == "Ran out of memory (2 GB). What helps: a larger machine (met 3 times at the same place)"


def test_messages_keep_awss_bound_and_the_end_of_a_log() -> None:
    told = message(Sight(code=1, spent=3, tail="x" * 5000 + "the end"))
    assert len(told) == 2048
    assert told.endswith("the end")
    own = message(Sight(code=1, ending=Event(NOW, "failed", {"message": "y" * 5000})))
    assert len(own) == 2048
    assert own.endswith("y…")


def test_an_empty_log_is_said_to_be_empty() -> None:
    assert message(Sight(code=1, spent=3)).endswith("Its log is empty.")
