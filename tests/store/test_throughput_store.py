"""Provisioned throughput in the store: every pair of states, names, units, terms and moves."""

from collections.abc import Callable
from itertools import product

import pytest

from outcrop.lifecycle import THROUGHPUT, IllegalMove
from outcrop.records import Throughput
from outcrop.store.jobs import JobStore
from outcrop.store.listing import Listing
from outcrop.store.refusals import Busy, Committed, Gone, NameTaken, OverQuota, TokenMismatch
from outcrop.store.tags import TagStore
from outcrop.store.throughputs import ThroughputStore
from tests.store.resources import BASE_ARN, REGION, at, job, model, throughput

OTHER_BASE = BASE_ARN.replace(":8k", ":4k")


def walk(throughputs: ThroughputStore, status: str) -> Throughput:
    """A throughput brought into a state through the verbs."""
    fresh = throughputs.add(throughput())
    if status == "Failed":
        return throughputs.failed(fresh.arn, "no weights", at(10))
    if status in ("InService", "Updating"):
        fresh = throughputs.in_service(fresh.arn, at(10))
    if status == "Updating":
        fresh = throughputs.update_asked(fresh.arn, name=None, model_arn=OTHER_BASE, now=at(11))
    return fresh


def serve(throughputs: ThroughputStore, present: Throughput) -> Throughput:
    """What the fleet says when the wanted model really answers."""
    verb = throughputs.updated if present.status == "Updating" else throughputs.in_service
    return verb(present.arn, at(20))


MOVES: dict[str, Callable[[ThroughputStore, Throughput], Throughput]] = {
    "InService": serve,
    "Failed": lambda store, present: store.failed(present.arn, "again", at(20)),
    "Updating": lambda store, present: store.update_asked(present.arn, name=None, model_arn=OTHER_BASE, now=at(20)),
}


@pytest.mark.parametrize(("start", "finish"), list(product(THROUGHPUT, MOVES)))
def test_every_pair_of_states(throughputs: ThroughputStore, start: str, finish: str) -> None:
    present = throughputs.by_arn(walk(throughputs, start).arn)
    assert present is not None
    assert present.status == start
    if finish in THROUGHPUT[start]:
        moved = MOVES[finish](throughputs, present)
        assert moved.status == finish
        assert moved.modified == at(20)
        assert throughputs.by_arn(present.arn) == moved
        assert (moved.failure is not None) == (finish == "Failed")
    elif finish == start and finish != "Updating":
        assert MOVES[finish](throughputs, present) == present
    else:
        with pytest.raises((IllegalMove, Busy)):
            MOVES[finish](throughputs, present)
        assert throughputs.by_arn(present.arn) == present


def test_an_update_keeps_serving_the_old_model_until_the_new_one_answers(throughputs: ThroughputStore) -> None:
    arn = walk(throughputs, "InService").arn
    updating = throughputs.update_asked(arn, name="renamed", model_arn=OTHER_BASE, now=at(11))
    assert (updating.model_arn, updating.desired_model_arn) == (BASE_ARN, OTHER_BASE)
    assert updating.name == "renamed"
    with pytest.raises(Busy):
        throughputs.in_service(arn, at(12))
    settled = throughputs.updated(arn, at(12))
    assert settled.model_arn == settled.desired_model_arn == OTHER_BASE
    assert throughputs.updated(arn, at(13)) == settled


def test_a_new_name_alone_needs_no_fleet(throughputs: ThroughputStore) -> None:
    arn = walk(throughputs, "InService").arn
    renamed = throughputs.update_asked(arn, name="renamed", model_arn=None, now=at(11))
    assert (renamed.status, renamed.name, renamed.modified) == ("InService", "renamed", at(11))
    assert throughputs.update_asked(arn, name="renamed", model_arn=BASE_ARN, now=at(12)).status == "InService"
    throughputs.add(throughput(2))
    with pytest.raises(NameTaken):
        throughputs.update_asked(arn, name="pt-2", model_arn=None, now=at(13))
    found = throughputs.find(REGION, "renamed")
    assert found is not None
    assert throughputs.find(REGION, "pt-1") is None


def test_a_failed_update_says_why_and_can_be_tried_again(throughputs: ThroughputStore) -> None:
    arn = walk(throughputs, "Updating").arn
    failed = throughputs.failed(arn, "x" * 5000, at(12))
    assert failed.failure == "x" * 2047 + "…"
    assert throughputs.wanted() == []
    again = throughputs.update_asked(arn, name=None, model_arn=BASE_ARN, now=at(13))
    assert (again.status, again.failure) == ("Updating", None)
    assert throughputs.wanted() == [again]


def test_deletes(throughputs: ThroughputStore, tags: TagStore) -> None:
    for status in ("Creating", "InService", "Failed"):
        arn = walk(throughputs, status).arn
        throughputs.delete(arn, at(30))
        assert throughputs.by_arn(arn) is None
    arn = walk(throughputs, "Updating").arn
    with pytest.raises(Busy) as caught:
        throughputs.delete(arn, at(30))
    assert caught.value.status == "Updating"
    throughputs.updated(arn, at(31))
    throughputs.delete(arn, at(32))
    with pytest.raises(Gone):
        throughputs.delete(arn, at(33))


def test_a_commitment_holds_until_its_end(throughputs: ThroughputStore) -> None:
    arn = throughputs.add(throughput(commitment="OneMonth", commitment_ends=at(1000))).arn
    with pytest.raises(Committed) as caught:
        throughputs.delete(arn, at(999))
    assert caught.value.ends.startswith("2026-05-01T12:16:40")
    throughputs.delete(arn, at(1000))


def test_units_of_all_regions_share_one_quota(throughputs: ThroughputStore) -> None:
    throughputs.add(throughput(1, units=3), quota=5)
    with pytest.raises(OverQuota) as caught:
        throughputs.add(throughput(2, region="us-west-2", units=3), quota=5)
    assert (caught.value.used, caught.value.quota) == (3, 5)
    throughputs.add(throughput(2, region="us-west-2", units=2), quota=5)
    throughputs.delete(throughput(1).arn, at(9))
    throughputs.add(throughput(3, units=3), quota=5)


def test_names_and_tokens(throughputs: ThroughputStore, tags: TagStore) -> None:
    first = throughputs.add(throughput(1), "token", "same", tags=[{"key": "a", "value": "b"}])
    assert throughputs.add(throughput(2, name="pt-1"), "token", "same") == first
    assert throughputs.earlier(REGION, "token", "same") == first
    with pytest.raises(TokenMismatch):
        throughputs.add(throughput(2), "token", "other")
    with pytest.raises(NameTaken):
        throughputs.add(throughput(2, name="pt-1"))
    assert throughputs.add(throughput(3, region="us-west-2", name="pt-1"), "token", "other").id == throughput(3).id
    assert tags.of(first.arn) == [{"key": "a", "value": "b"}]
    throughputs.delete(first.arn, at(9))
    assert tags.of(first.arn) == []


def test_a_deleted_model_is_not_served(jobs: JobStore, throughputs: ThroughputStore) -> None:
    with pytest.raises(Gone):
        throughputs.add(throughput(1, model_arn=model().arn))
    jobs.add(job(), None, "f")
    jobs.complete(job().arn, model(), {}, at(5))
    arn = throughputs.add(throughput(1, model_arn=model().arn)).arn
    throughputs.in_service(arn, at(6))
    with pytest.raises(Gone):
        throughputs.update_asked(arn, name=None, model_arn=model(2).arn, now=at(7))
    kept = throughputs.by_arn(arn)
    assert kept is not None
    assert kept.status == "InService"


def test_wanted_is_everything_but_failed_of_all_regions_oldest_first(throughputs: ThroughputStore) -> None:
    for number, region in ((3, REGION), (1, "us-west-2"), (2, REGION), (4, REGION)):
        throughputs.add(throughput(number, region=region))
    throughputs.failed(throughput(4).arn, "x", at(9))
    throughputs.in_service(throughput(2).arn, at(9))
    assert [item.id for item in throughputs.wanted()] == [throughput(number).id for number in (1, 2, 3)]


def test_filters_and_pages(throughputs: ThroughputStore) -> None:
    for number in range(1, 4):
        throughputs.add(throughput(number))
    throughputs.in_service(throughput(2).arn, at(9))
    page, following = throughputs.page(REGION, Listing(equals={"status": "InService"}))
    assert [item.name for item in page] == ["pt-2"]
    page, following = throughputs.page(REGION, Listing(equals={"model_arn": BASE_ARN}, limit=2))
    assert [item.name for item in page] == ["pt-3", "pt-2"]
    page, following = throughputs.page(REGION, Listing(equals={"model_arn": BASE_ARN}, limit=2, after=following))
    assert [item.name for item in page] == ["pt-1"]
    assert following is None
