"""Deployments and bases on demand, with real processes: loaded when asked, idle ones give way, the figures of a no."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from outcrop.errors import ModelErrorException, ModelNotReadyException
from outcrop.serve import fleet
from tests.serve.fleet_world import World, alive, now, prompt, until, write_weights
from tests.store.resources import BASE_ARN, LONG_ID, REGION

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc: run on Linux")

GB = 10**9
NOVA = "amazon.nova-micro-v1:0:128k"


def test_a_deployment_is_active_once_its_model_has_answered(world: World) -> None:
    (world.base / "slow").write_text("0.3")
    custom = world.model()
    arn = world.deploy(1, custom.arn)
    assert world.deployed(arn).status == "Active"
    assert world.health(world.base)["asked"] == 1, "nobody asked the model before it was Active"
    assert world.ask(arn) == f"{custom.id}: hello"


def test_what_was_just_proven_is_not_taken_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    custom = world.model()
    deployments, throughputs = type(world.store.deployments), type(world.store.throughputs)
    prove, wanted, looks, pids = deployments.proven, throughputs.wanted, list[None](), list[list[int]]()

    def look(self: Any) -> Any:
        looks.append(None)
        return wanted(self)

    def prove_slowly(self: Any, *told: Any) -> Any:
        found, before = prove(self, *told), len(looks)
        # It is Active by now, and nobody has asked for it: some looks see just that.
        until(lambda: len(looks) > before + 3)
        pids.append(world.pids())
        return found

    monkeypatch.setattr(throughputs, "wanted", look)
    monkeypatch.setattr(deployments, "proven", prove_slowly)
    arn = world.deploy(1, custom.arn)
    assert world.deployed(arn).status == "Active"
    until(lambda: pids)
    assert world.ask(arn) == f"{custom.id}: hello"
    assert [world.pids()] == pids
    assert world.health(world.base)["asked"] == 2


@pytest.mark.parametrize(
    ("broken", "told"),
    [("weights", "the engine ended with 1: out of memory"), ("adapter", "the adapter is broken")],
)
def test_what_cannot_be_deployed_fails_with_the_reason(world: World, broken: str, told: str) -> None:
    custom = world.model()
    if broken == "weights":
        (world.base / "broken").write_text("out of memory")
    else:
        (world.root / "models" / custom.id / "broken").touch()
    found = world.deployed(world.deploy(1, custom.arn))
    assert found.status == "Failed"
    assert told in str(found.failure)
    until(lambda: not world.pids())


def test_deployments_share_an_engine_with_everything_else_of_their_base(world: World) -> None:
    red, blue = world.model(1), world.model(2)
    provisioned, deployed = world.serve(1, red.arn), world.deploy(2, blue.arn)
    world.deployed(deployed)
    assert [world.ask(target) for target in (provisioned, deployed, LONG_ID)] == [
        f"{red.id}: hello",
        f"{blue.id}: hello",
        "hello",
    ]
    assert len(world.pids()) == 1


def test_an_idle_deployment_holds_nothing_and_comes_back(tmp_path: Path) -> None:
    world = World(tmp_path, on_demand_keep=0.3)
    world.fleet.start()
    try:
        custom = world.model()
        arn = world.deploy(1, custom.arn)
        assert world.deployed(arn).status == "Active"
        until(lambda: not world.pids())
        # Held by the lease: without it the engine may go between these lines.
        with world.fleet.lease(arn, REGION, 1) as lease:
            assert lease.line.complete(lease.model, prompt("again"))[0] == f"{custom.id}: again"
            [pid] = world.pids()
        until(lambda: not alive(pid))
        found = world.store.deployments.by_arn(arn)
        assert found is not None
        assert found.status == "Active"
    finally:
        world.close()


def test_what_loads_longer_than_it_is_kept_is_there_for_who_tries_again(tmp_path: Path) -> None:
    world = World(tmp_path, on_demand_keep=0.5, on_demand_wait=0.1)
    (world.base / "slow").write_text("1.5")
    world.fleet.start()
    try:
        with pytest.raises(ModelNotReadyException):
            world.ask(LONG_ID)
        until(lambda: world.fleet._engines[world.place].line is not None)
        time.sleep(1)
        assert world.ask(LONG_ID) == "hello"
        until(lambda: not world.pids())
    finally:
        world.close()


def test_an_idle_adapter_leaves_an_engine_that_stays(tmp_path: Path) -> None:
    world = World(tmp_path, on_demand_keep=0.3)
    world.fleet.start()
    try:
        red, blue = world.model(1), world.model(2)
        world.serve(1, red.arn)
        arn = world.deploy(2, blue.arn)
        world.deployed(arn)
        until(lambda: world.health(world.base)["models"] == ["base", red.id])
        # Held by the lease: without it the adapter may go between these lines.
        with world.fleet.lease(arn, REGION, 1) as lease:
            assert lease.line.complete(lease.model, prompt("hello"))[0] == f"{blue.id}: hello"
            assert blue.id in world.health(world.base)["models"]
    finally:
        world.close()


def test_an_update_switches_without_a_dropped_request(world: World) -> None:
    red, blue = world.model(1), world.model(2, method="full")
    arn = world.deploy(1, red.arn)
    world.deployed(arn)
    answers: list[str] = []
    late: list[str] = []
    told, ended = threading.Event(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            # Begun after the update was told, however late others of before come back.
            kept = (answers, late) if told.is_set() else (answers,)
            found = world.ask(arn)
            for each in kept:
                each.append(found)

    with ThreadPoolExecutor(4) as callers:
        asked = [callers.submit(ask) for _ in range(4)]
        until(lambda: len(answers) > 20)
        world.store.deployments.update_asked(arn, blue.arn, now())
        world.fleet.wake()
        settled = world.deployed(arn)
        told.set()
        until(lambda: len(late) > 20)
        ended.set()
    for each in asked:
        each.result()
    assert (settled.status, settled.update_status, settled.model_arn) == ("Active", "UpdateCompleted", blue.arn)
    assert set(answers) == {f"{red.id}: hello", "hello"}
    assert set(late) == {"hello"}
    until(lambda: not world.pids(world.base))


def test_an_update_that_fails_leaves_the_old_model_answering(world: World) -> None:
    red, blue = world.model(1), world.model(2)
    (world.root / "models" / blue.id / "broken").touch()
    arn = world.deploy(1, red.arn)
    world.deployed(arn)
    world.store.deployments.update_asked(arn, blue.arn, now())
    world.fleet.wake()
    found = world.deployed(arn)
    assert (found.status, found.update_status, found.failure) == ("Active", "UpdateFailed", "the adapter is broken")
    assert world.ask(arn) == f"{red.id}: hello"


def test_a_deleted_deployment_is_forgotten(world: World) -> None:
    arn = world.deploy(1, world.model().arn)
    world.deployed(arn)
    world.store.deployments.delete(arn)
    world.fleet.wake()
    until(lambda: not world.pids())


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[World]:
    """Memory for two engines: each takes 4 GB, as far as anybody tells, and 10 GB are there."""
    world = World(tmp_path, memory=10 * GB, size=lambda _: 4 * GB)
    world.fleet.start()
    yield world
    pids = world.pids()
    world.close()
    until(lambda: not any(alive(pid) for pid in pids))


def whole(world: World, number: int) -> tuple[str, Path]:
    """A deployment of a model with an engine of its own, and its weights."""
    made = world.model(number, method="full")
    arn = world.deploy(number, made.arn)
    assert world.deployed(arn).status == "Active"
    return arn, world.root / "models" / made.id


def test_the_least_recently_asked_gives_way_and_comes_back(narrow: World) -> None:
    (first, one), (second, two) = whole(narrow, 1), whole(narrow, 2)
    assert narrow.ask(first) == "hello"
    third, three = whole(narrow, 3)
    assert (len(narrow.pids(one)), len(narrow.pids(two)), len(narrow.pids(three))) == (1, 0, 1)
    assert narrow.ask(second) == "hello"
    assert (len(narrow.pids(one)), len(narrow.pids(two)), len(narrow.pids(three))) == (0, 1, 1)
    assert [narrow.ask(target) for target in (first, second, third) * 2] == ["hello"] * 6
    assert len(narrow.pids()) == 2


def test_what_is_being_asked_does_not_give_way(narrow: World) -> None:
    (first, one), (second, _) = whole(narrow, 1), whole(narrow, 2)
    with narrow.fleet.lease(first, REGION, 1) as lease:
        narrow.ask(second)
        third, _ = whole(narrow, 3)
        assert narrow.ask(third) == "hello"
        assert lease.line.complete(lease.model, prompt("still"))[0] == "still"
        assert len(narrow.pids(one)) == 1


def test_whoever_waits_is_seen_to_when_the_engine_in_the_way_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "SLOW_SECONDS", 1000.0)  # nobody looks by and by: who is done has to say so
    world = World(tmp_path, memory=6 * GB, size=lambda _: 4 * GB)
    world.fleet.start()
    try:
        with ThreadPoolExecutor(2) as callers:
            first = callers.submit(world.ask, LONG_ID)
            until(world.pids)  # it is loading when the other one comes
            second = callers.submit(world.ask, NOVA)
            assert [first.result(), second.result()] == ["hello"] * 2
    finally:
        world.close()


def test_many_that_do_not_fit_together_take_turns(narrow: World) -> None:
    arns = [whole(narrow, number)[0] for number in range(1, 6)]

    def ask(number: int) -> str:
        for _ in range(20):
            try:
                return narrow.ask(arns[number % 5], f"number {number}")
            except ModelNotReadyException:
                time.sleep(0.05)
        raise AssertionError("its turn did not come")

    with ThreadPoolExecutor(10) as callers:
        answers = list(callers.map(ask, range(30)))
    assert answers == [f"number {number}" for number in range(30)]
    assert len(narrow.pids()) <= 2


def test_a_provisioned_model_takes_the_room_and_keeps_it(narrow: World) -> None:
    (deployed, one), (_, two) = whole(narrow, 1), whole(narrow, 2)
    first = narrow.serve(1, BASE_ARN)
    made = narrow.model(3, method="full")
    second = narrow.serve(2, made.arn)
    assert narrow.pids(one) == narrow.pids(two) == []
    with pytest.raises(ModelErrorException) as caught:
        narrow.ask(deployed)
    for figure in ("at least 4.0 GB", "may take 10.0 GB", "8.0 GB of it", "engine_memory_gb"):
        assert figure in str(caught.value)
    third = narrow.model(4, method="full")
    failed = narrow.settle(narrow.provision(3, third.arn))
    assert failed.status == "Failed"
    assert "8.0 GB of it are held for provisioned models" in str(failed.failure)
    refused = narrow.deployed(narrow.deploy(4, third.arn))
    assert refused.status == "Failed"
    assert "at least 4.0 GB" in str(refused.failure)
    assert [narrow.ask(target) for target in (first, second)] == ["hello", "hello"]
    narrow.store.throughputs.delete(second, now())
    narrow.fleet.wake()
    until(lambda: not narrow.pids(narrow.root / "models" / made.id))
    assert narrow.ask(deployed) == "hello"


def test_what_an_engine_really_holds_counts(tmp_path: Path) -> None:
    """A Python process alone holds more than a megabyte."""
    world = World(tmp_path, memory=2 * 10**6, size=lambda _: 10**6)
    write_weights(world.root / "other")
    world.fleet.start()
    try:
        world.serve(1, BASE_ARN)
        held = world.fleet._engines[world.place].bytes()
        assert held > 2 * 10**6
        made = world.model(1, method="full")
        failed = world.settle(world.provision(2, made.arn))
        assert failed.status == "Failed"
        assert "takes at least 1 MB" in str(failed.failure)
        assert "may take 2 MB" in str(failed.failure)
    finally:
        world.close()
