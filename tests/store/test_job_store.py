"""Jobs in the store: names, tokens, every legal and illegal move, and the one transaction that ends a job."""

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest

from outcrop.lifecycle import JOB, JOB_PART, IllegalMove
from outcrop.records import Job
from outcrop.store.database import Database
from outcrop.store.jobs import PARTS, JobStore
from outcrop.store.listing import Cursor, Listing
from outcrop.store.models import ModelStore
from outcrop.store.refusals import Gone, InUse, NameTaken, TokenMismatch
from outcrop.store.tags import TagStore
from tests.store.resources import BASE_ARN, REGION, at, job, model

METRICS = {"trainingMetrics": {"trainingLoss": 1.71}, "validationMetrics": [{"validationLoss": 1.62}]}


def walk(jobs: JobStore, status: str, number: int = 1) -> Job:
    """A job brought into a state through the verbs."""
    fresh = jobs.add(job(number), None, "f")
    if status == "Completed":
        return jobs.complete(fresh.arn, model(number), METRICS, at(200))
    if status == "Failed":
        return jobs.fail(fresh.arn, "broken", at(200))
    if status in ("Stopping", "Stopped"):
        fresh = jobs.ask_stop(fresh.arn, at(200))
    return jobs.stopped(fresh.arn, at(201), {}) if status == "Stopped" else fresh


MOVES: dict[str, Callable[[JobStore, Job], Job]] = {
    "Completed": lambda jobs, present: jobs.complete(present.arn, model(), METRICS, at(300)),
    "Failed": lambda jobs, present: jobs.fail(present.arn, "again", at(300)),
    "Stopping": lambda jobs, present: jobs.ask_stop(present.arn, at(300)),
    "Stopped": lambda jobs, present: jobs.stopped(present.arn, at(300), {}),
}


@pytest.mark.parametrize(("start", "finish"), list(product(JOB, MOVES)))
def test_every_pair_of_job_states(jobs: JobStore, start: str, finish: str) -> None:
    present = jobs.by_arn(walk(jobs, start).arn)
    assert present is not None
    assert present.status == start
    if finish == start:
        assert MOVES[finish](jobs, present) == present
    elif finish in JOB[start]:
        moved = MOVES[finish](jobs, present)
        assert moved.status == finish
        assert (moved.ended is None) == (finish == "Stopping")
        assert jobs.by_arn(present.arn) == moved
    else:
        with pytest.raises(IllegalMove) as caught:
            MOVES[finish](jobs, present)
        assert (caught.value.start, caught.value.finish) == (start, finish)
        assert jobs.by_arn(present.arn) == present


PART_STEPS: dict[str, tuple[str, ...]] = {
    "NotStarted": (),
    "InProgress": ("InProgress",),
    "Stopping": ("InProgress", "Stopping"),
    "Completed": ("InProgress", "Completed"),
    "Failed": ("InProgress", "Failed"),
    "Stopped": ("InProgress", "Stopped"),
}


@pytest.mark.parametrize(("start", "finish"), list(product(JOB_PART, JOB_PART)))
def test_every_pair_of_part_states(jobs: JobStore, start: str, finish: str) -> None:
    arn = jobs.add(job(), None, "f").arn
    for second, status in enumerate(PART_STEPS[start]):
        jobs.part(arn, "trainingDetails", status, at(10 + second))
    before = jobs.by_arn(arn)
    assert before is not None
    assert before.parts["trainingDetails"]["status"] == start
    replayed = finish == "InProgress" and start != "NotStarted"
    if finish == start or replayed:
        assert jobs.part(arn, "trainingDetails", finish, at(20)) == before
    elif finish in JOB_PART[start]:
        after = jobs.part(arn, "trainingDetails", finish, at(20))
        assert after.parts["trainingDetails"]["status"] == finish
        assert after.parts["trainingDetails"]["lastModifiedTime"] == "2026-05-01T12:00:20.123Z"
        assert after.parts["validationDetails"] == {"status": "NotStarted"}
        assert after.modified == at(20)
    else:
        with pytest.raises(IllegalMove):
            jobs.part(arn, "trainingDetails", finish, at(20))
        assert jobs.by_arn(arn) == before


@pytest.mark.parametrize("end", ["Failed", "Stopped", "Completed"])
def test_no_part_moves_after_the_job_ended(jobs: JobStore, end: str) -> None:
    ended = walk(jobs, end)
    untouched = {"Failed": "NotStarted", "Stopped": "Stopped", "Completed": "Completed"}[end]
    assert {details["status"] for details in ended.parts.values()} == {untouched}
    with pytest.raises(IllegalMove):
        jobs.part(ended.arn, "trainingDetails", "InProgress" if end == "Failed" else "Failed", at(400))


def test_a_fresh_job_has_three_parts_that_have_not_started(jobs: JobStore) -> None:
    kept = jobs.add(job(), None, "f")
    assert dict(kept.parts) == {part: {"status": "NotStarted"} for part in PARTS}
    assert jobs.by_arn(kept.arn) == kept


def test_parts_end_with_their_job(jobs: JobStore) -> None:
    arn = jobs.add(job(), None, "f").arn
    jobs.part(arn, "validationDetails", "InProgress", at(10))
    jobs.part(arn, "validationDetails", "Completed", at(11))
    jobs.part(arn, "trainingDetails", "InProgress", at(12))
    stopping = jobs.ask_stop(arn, at(13))
    assert [stopping.parts[part]["status"] for part in PARTS] == ["Completed", "NotStarted", "Stopping"]
    stopped = jobs.stopped(arn, at(14), {"tokens": 9})
    assert [stopped.parts[part]["status"] for part in PARTS] == ["Completed", "Stopped", "Stopped"]
    assert stopped.parts["trainingDetails"]["creationTime"] == "2026-05-01T12:00:12.123Z"
    assert stopped.metrics == {"tokens": 9}
    assert stopped.model_arn is None


def test_a_failure_takes_the_part_under_way_with_it(jobs: JobStore) -> None:
    arn = jobs.add(job(), None, "f").arn
    jobs.part(arn, "validationDetails", "InProgress", at(10))
    failed = jobs.fail(arn, "x" * 5000, at(11))
    assert [failed.parts[part]["status"] for part in PARTS] == ["Failed", "NotStarted", "NotStarted"]
    assert failed.failure == "x" * 2047 + "…"
    assert failed.ended == at(11)
    assert jobs.fail(arn, "again", at(12)) == failed


def test_instants_never_go_back_with_the_clock(jobs: JobStore) -> None:
    arn = jobs.add(job(), None, "f").arn
    jobs.part(arn, "validationDetails", "InProgress", at(50))
    failed = jobs.fail(arn, "clock set back", at(20))
    assert failed.ended == failed.modified == at(50)
    assert failed.created < failed.modified


def test_a_name_stays_taken_for_ever_in_its_region(jobs: JobStore) -> None:
    walk(jobs, "Failed")
    again = replace(job(2), name="job-1")
    with pytest.raises(NameTaken) as caught:
        jobs.add(again, None, "f")
    assert (caught.value.member, caught.value.name) == ("jobName", "job-1")
    elsewhere = replace(job(3, region="us-west-2"), name="job-1")
    assert jobs.add(elsewhere, None, "f").arn == elsewhere.arn
    found = jobs.find("us-west-2", "job-1")
    assert found is not None
    assert found.arn == elsewhere.arn


@pytest.mark.parametrize(
    ("state", "free"),
    [("InProgress", False), ("Stopping", False), ("Completed", False), ("Failed", True), ("Stopped", True)],
)
def test_a_model_name_is_free_when_its_job_ended_without_a_model(jobs: JobStore, state: str, free: bool) -> None:
    walk(jobs, state)
    other = job(2, customModelName="model-1")
    if free:
        assert jobs.add(other, None, "f").id == other.id
    else:
        with pytest.raises(NameTaken) as caught:
            jobs.add(other, None, "f")
        assert caught.value.member == "customModelName"
        assert jobs.by_arn(other.arn) is None
    assert jobs.add(job(3, region="us-west-2", customModelName="model-1"), None, "f").region == "us-west-2"


def test_a_deleted_models_name_is_free_again(jobs: JobStore, models: ModelStore) -> None:
    walk(jobs, "Completed")
    models.delete(model().arn)
    assert jobs.add(job(2, customModelName="model-1"), None, "f").id == job(2).id


def test_a_token_gives_the_first_job_again(jobs: JobStore) -> None:
    first = jobs.add(job(1), "token", "same")
    assert jobs.add(replace(job(2), name="job-1"), "token", "same") == first
    with pytest.raises(TokenMismatch):
        jobs.add(job(2), "token", "other")
    assert jobs.earlier(REGION, "token", "same") == first
    assert jobs.earlier("us-west-2", "token", "other") is None
    assert jobs.earlier(REGION, None, "same") is None
    # The same token in another region is another request; and no token is never the same.
    assert jobs.add(job(3, region="us-west-2"), "token", "other").id == job(3).id
    assert jobs.add(job(4), None, "same").id == job(4).id


def test_lookups_stay_in_their_region(jobs: JobStore) -> None:
    kept = jobs.add(job(), None, "f")
    assert jobs.find(REGION, "job-1") == kept
    assert jobs.find(REGION, kept.arn) == kept
    assert jobs.find("us-west-2", "job-1") is None
    assert jobs.find("us-west-2", kept.arn) is None
    assert jobs.find(REGION, kept.id) is None
    assert jobs.by_arn("arn:none") is None
    with pytest.raises(Gone):
        jobs.ask_stop("arn:none", at(1))


def test_unfinished_jobs_of_all_regions_oldest_first(jobs: JobStore) -> None:
    jobs.add(job(3), None, "f")
    jobs.add(job(2, region="us-west-2"), None, "f")
    walk(jobs, "Stopping", 1)
    walk(jobs, "Completed", 4)
    walk(jobs, "Stopped", 5)
    assert [item.id for item in jobs.unfinished()] == [job(1).id, job(2).id, job(3).id]


def test_a_handle_is_kept_until_the_job_is_over(jobs: JobStore) -> None:
    arn = jobs.add(job(), None, "f").arn
    assert jobs.started(arn, "12:34", at(5)).handle == "12:34"
    assert jobs.started(arn, "56:78", at(6)).modified == at(6)
    jobs.fail(arn, "gone", at(7))
    with pytest.raises(IllegalMove):
        jobs.started(arn, "9:9", at(8))


def test_complete_writes_model_tags_and_job_at_once(jobs: JobStore, models: ModelStore, tags: TagStore) -> None:
    mark = [{"key": "team", "value": "support"}]
    arn = jobs.add(job(jobTags=[{"key": "cost", "value": "1"}], customModelTags=mark), None, "f").arn
    assert models.find(REGION, "model-1") is None
    done = jobs.complete(arn, model(), {**METRICS, "tokens": 42}, at(300))
    assert done.model_arn == model().arn
    assert done.ended == done.modified == at(300)
    assert {details["status"] for details in done.parts.values()} == {"Completed"}
    written = models.find(REGION, "model-1")
    assert written is not None
    assert written.document == {
        "jobName": "job-1",
        "baseModelArn": BASE_ARN,
        "hyperParameters": {"epochCount": "3"},
        "trainingDataConfig": {"s3Uri": "s3://bucket/train.jsonl"},
        "validationDataConfig": {"validators": []},
        "outputDataConfig": {"s3Uri": "s3://bucket/out/"},
        "customizationType": "FINE_TUNING",
        **METRICS,
    }
    assert tags.of(arn) == [{"key": "cost", "value": "1"}]
    assert tags.of(model().arn) == mark
    # A second call, even with another model, changes nothing.
    assert jobs.complete(arn, model(2), {}, at(400)) == jobs.by_arn(arn)
    assert models.ids() == {model().id}


def test_complete_is_all_or_nothing(jobs: JobStore, models: ModelStore, database: Database) -> None:
    walk(jobs, "Completed", 1)
    arn = jobs.add(job(2), None, "f").arn
    before = jobs.by_arn(arn)
    with pytest.raises(Exception, match=r"(?i)unique"):
        jobs.complete(arn, replace(model(2), id=model(1).id), METRICS, at(300))
    assert jobs.by_arn(arn) == before
    assert models.ids() == {model(1).id}


def test_a_model_that_a_job_starts_from_stays(jobs: JobStore, models: ModelStore) -> None:
    walk(jobs, "Completed", 1)
    child = jobs.add(job(2, baseModelIdentifier=model(1).arn), None, "f")
    with pytest.raises(InUse) as caught:
        models.delete(model(1).arn)
    assert (caught.value.user, caught.value.name) == (child.arn, "job-2")
    jobs.fail(child.arn, "over", at(400))
    models.delete(model(1).arn)
    with pytest.raises(Gone):
        jobs.add(job(3, baseModelIdentifier=model(1).arn), None, "f")
    assert jobs.find(REGION, "job-3") is None


def test_twenty_clients_with_one_name_make_one_job(database: Database, jobs: JobStore) -> None:
    outcomes: list[str] = []
    gate = threading.Barrier(20)

    def create(number: int) -> None:
        gate.wait()
        try:
            jobs.add(replace(job(number), name="the-name"), None, "f")
            outcomes.append("made")
        except NameTaken:
            outcomes.append("taken")

    threads = [threading.Thread(target=create, args=(number,)) for number in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", *["taken"] * 19]


def test_twenty_clients_that_stop_one_job_all_succeed(jobs: JobStore) -> None:
    arn = jobs.add(job(), None, "f").arn
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(jobs.ask_stop(arn, at(9)).status)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == ["Stopping"] * 20


def names(jobs: JobStore, **asked: object) -> list[str]:
    page, following = jobs.page(REGION, Listing(**asked))  # type: ignore[arg-type]
    assert following is None
    return [item.name for item in page]


def test_filters_and_order(jobs: JobStore) -> None:
    for number in range(1, 6):
        jobs.add(job(number), None, "f")
    jobs.add(job(6, name="Other%_x"), None, "f")
    jobs.add(job(7, region="us-west-2"), None, "f")
    jobs.fail(job(2).arn, "x", at(50))
    newest_first = ["Other%_x", "job-5", "job-4", "job-3", "job-2", "job-1"]
    assert names(jobs) == newest_first
    assert names(jobs, ascending=True) == newest_first[::-1]
    assert names(jobs, equals={"status": "Failed"}) == ["job-2"]
    assert names(jobs, name_contains="ob-") == newest_first[1:]
    assert names(jobs, name_contains="other") == []
    assert names(jobs, name_contains="%_") == ["Other%_x"]
    assert names(jobs, name_contains="_") == ["Other%_x"]
    assert names(jobs, created_after=at(4)) == ["Other%_x", "job-5"]
    assert names(jobs, created_before=at(2)) == ["job-1"]
    assert names(jobs, created_after=at(2), created_before=at(4)) == ["job-3"]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_meet_without_gap_or_overlap(jobs: JobStore, ascending: bool, size: int) -> None:
    for number in range(1, 8):
        # Three of them are born in one millisecond.
        jobs.add(replace(job(number), created=at(number if number < 4 else 4)), None, "f")
    whole, _ = jobs.page(REGION, Listing(ascending=ascending))
    seen: list[Job] = []
    cursor: Cursor | None = None
    while True:
        page, cursor = jobs.page(REGION, Listing(ascending=ascending, limit=size, after=cursor))
        assert len(page) == size or cursor is None
        seen += page
        if cursor is None:
            break
    assert seen == whole
    assert len({item.arn for item in seen}) == 7


def test_a_failure_that_quotes_what_no_text_may_hold_is_told_all_the_same(jobs: JobStore) -> None:
    arn = jobs.add(job(1), None, "f").arn
    assert jobs.fail(arn, "near 'a\0b'", at(9)).failure == "near 'a\N{REPLACEMENT CHARACTER}b'"
    assert jobs.by_arn(arn).failure == "near 'a\N{REPLACEMENT CHARACTER}b'"
