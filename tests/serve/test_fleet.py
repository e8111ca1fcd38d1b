"""The fleet's loop with real processes: engines that echo, and every way in which they can fail."""

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import structlog

from outcrop.errors import ModelErrorException, ModelNotReadyException, MustWait, OutcropError, ThrottlingException
from outcrop.serve import hands
from outcrop.serve.moves import Load, Serve
from outcrop.serve.units import Bucket
from tests.serve.fleet_world import World, alive, now, prompt, until, write_weights
from tests.store.resources import BASE_ARN, LONG_ID, REGION

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks at processes through /proc: run on Linux")


def test_a_throughput_is_in_service_only_once_its_model_answers(world: World) -> None:
    (world.base / "slow").write_text("0.5")
    custom = world.model()
    arn = world.provision(1, custom.arn)
    until(lambda: world.pids())
    assert world.throughput(arn).status == "Creating"
    assert world.settle(arn).status == "InService"
    assert world.health(world.base)["asked"] == 1, "nobody asked the model before it was put in service"
    assert world.ask(arn, "hello there") == f"{custom.id}: hello there"


def test_throughputs_of_one_base_share_an_engine_and_a_full_model_has_its_own(world: World) -> None:
    red, blue, full = world.model(1), world.model(2), world.model(3, method="full")
    arns = [world.serve(number, made.arn) for number, made in enumerate((red, blue, full), 1)]
    base = world.serve(4, BASE_ARN)
    assert [world.ask(arn) for arn in arns] == [f"{red.id}: hello", f"{blue.id}: hello", "hello"]
    assert world.ask(base) == "hello"
    assert len(world.pids()) == 2
    assert len(world.pids(world.root / "models" / full.id)) == 1


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("weights", "the engine ended with 1: out of memory"),
        ("adapter", "the adapter is broken"),
        ("missing", "the weights of"),
        ("base", "no tokenizer.json"),
    ],
)
def test_what_cannot_be_served_fails_with_the_reason(world: World, broken: str, told: str) -> None:
    custom = world.model()
    folder = world.root / "models" / custom.id
    if broken == "weights":
        (world.base / "broken").write_text("out of memory")
    elif broken == "adapter":
        (folder / "broken").touch()
    elif broken == "missing":
        folder.rmdir()
    else:
        (world.base / "tokenizer.json").unlink()
    settled = world.settle(world.provision(1, custom.arn))
    assert settled.status == "Failed"
    assert told in str(settled.failure)


def test_a_failed_throughput_does_not_disturb_its_neighbour(world: World) -> None:
    good, bad = world.model(1), world.model(2)
    (world.root / "models" / bad.id / "broken").touch()
    arn = world.serve(1, good.arn)
    [pid] = world.pids()
    assert world.settle(world.provision(2, bad.arn)).status == "Failed"
    assert world.ask(arn) == f"{good.id}: hello"
    assert world.pids() == [pid]


def test_an_engine_full_of_other_callers_does_not_fail_a_new_throughput(world: World) -> None:
    custom = world.model()
    busy = world.root / "models" / custom.id / "busy"
    busy.touch()
    arn = world.provision(1, custom.arn)
    until(lambda: world.pids() and world.fleet._engines[world.place].line is not None)
    until(lambda: world.health(world.base)["asked"] >= 2)
    assert world.throughput(arn).status == "Creating"
    busy.unlink()
    assert world.settle(arn).status == "InService"


@pytest.mark.parametrize("held", ["held", "mute"])
def test_an_engine_that_hangs_keeps_no_other_waiting(world: World, held: str) -> None:
    slow, whole = world.model(1), world.model(2, method="full")
    other = world.serve(2, whole.arn)
    [pid] = world.pids()
    hanging = world.root / "models" / slow.id / held
    hanging.touch()
    arn = world.provision(1, slow.arn)
    errands = world.fleet._errands
    until(lambda: any(isinstance(move, Load if held == "held" else Serve) for move in errands.under_way()))
    os.kill(pid, signal.SIGKILL)
    until(lambda: world.pids(world.root / "models" / whole.id) not in ([], [pid]))
    assert world.ask(other) == "hello"
    third = world.serve(3, world.model(3, method="full").arn)
    assert world.ask(third) == "hello"
    assert world.throughput(arn).status == "Creating"
    hanging.unlink()
    assert world.settle(arn).status == "InService"
    assert world.ask(arn) == f"{slow.id}: hello"


@pytest.mark.parametrize("busy", [True, False])
def test_a_proof_that_waits_too_long_says_something_of_an_idle_engine_only(
    world: World, monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    slow, other = world.model(1), world.serve(2, BASE_ARN)
    monkeypatch.setattr(hands, "PROOF_SECONDS", 0.5)
    mute = world.root / "models" / slow.id / "mute"
    mute.touch()
    with world.fleet.lease(other, REGION, 1) if busy else nullcontext():
        arn = world.provision(1, slow.arn)
        if busy:
            asked = world.health(world.base)["asked"]
            until(lambda: world.health(world.base)["asked"] >= asked + 3)
            assert world.throughput(arn).status == "Creating"
            mute.unlink()
        found = world.settle(arn)
    assert found.status == ("InService" if busy else "Failed")
    assert busy or "the model does not answer" in str(found.failure)


@pytest.mark.parametrize("held", ["held", "mute"])
def test_stopping_under_an_engine_that_hangs_is_no_verdict_on_its_model(world: World, held: str) -> None:
    slow = world.model(1)
    (world.root / "models" / slow.id / held).touch()
    arn = world.provision(1, slow.arn)
    until(lambda: any(isinstance(move, Load if held == "held" else Serve) for move in world.fleet._errands.under_way()))
    until(lambda: world.health(world.base)["load"] == (held == "mute"))
    world.fleet.stop()
    assert world.throughput(arn).status == "Creating"


def test_an_update_switches_without_a_dropped_request(world: World) -> None:
    red, blue = world.model(1), world.model(2)
    arn = world.serve(1, red.arn)
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
        world.store.throughputs.update_asked(arn, name=None, model_arn=blue.arn, now=now())
        world.fleet.wake()
        settled = world.settle(arn)
        told.set()
        until(lambda: len(late) > 20)
        ended.set()
    for each in asked:
        each.result()
    assert (settled.status, settled.model_arn) == ("InService", blue.arn)
    assert set(answers) == {f"{red.id}: hello", f"{blue.id}: hello"}
    assert set(late) == {f"{blue.id}: hello"}
    until(lambda: world.health(world.base)["models"] == ["base", blue.id])


def test_an_update_that_fails_is_told_and_can_be_mended(world: World) -> None:
    red, blue = world.model(1), world.model(2)
    broken = world.root / "models" / blue.id / "broken"
    broken.touch()
    arn = world.serve(1, red.arn)
    world.store.throughputs.update_asked(arn, name=None, model_arn=blue.arn, now=now())
    settled = world.settle(arn)
    assert (settled.status, settled.failure) == ("Failed", "the adapter is broken")
    until(lambda: not world.pids())
    broken.unlink()
    world.store.throughputs.update_asked(arn, name=None, model_arn=blue.arn, now=now())
    world.fleet.wake()
    assert world.settle(arn).status == "InService"
    assert world.ask(arn) == f"{blue.id}: hello"


def test_what_nobody_wants_any_more_is_taken_away(world: World) -> None:
    red, blue = world.model(1), world.model(2)
    first, second = world.serve(1, red.arn), world.serve(2, blue.arn)
    [pid] = world.pids()
    world.store.throughputs.delete(first, now())
    world.fleet.wake()
    until(lambda: world.health(world.base)["models"] == ["base", blue.id])
    assert world.ask(second) == f"{blue.id}: hello"
    world.store.throughputs.delete(second, now())
    world.fleet.wake()
    until(lambda: not alive(pid))
    assert world.fleet._engines == {}


def test_a_lease_keeps_what_it_uses(world: World) -> None:
    arn = world.serve(1, world.model().arn)
    with world.fleet.lease(arn, REGION, 1) as lease:
        world.store.throughputs.delete(arn, now())
        world.fleet.wake()
        time.sleep(0.3)
        assert lease.line.complete(lease.model, prompt("still"))[0].endswith("still")
    until(lambda: not world.pids())


def test_the_end_of_an_answer_calls_for_a_look_only_where_something_waits_for_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    fleet, bell = world.fleet, world.fleet._bell

    def look_until(true: Callable[[], bool]) -> None:
        # The loop does not run: nobody looks but this test, so that whatever rings the bell is seen.
        until(lambda: (fleet.tick(), true() and not fleet._errands.under_way())[1])
        bell.clear()

    try:
        first, second = world.model(1), world.model(2)
        arn, stays = world.provision(1, first.arn), world.provision(2, second.arn)
        look_until(lambda: all(world.throughput(each).status == "InService" for each in (arn, stays)))
        with fleet.lease(arn, REGION, 1):
            pass
        assert not bell.is_set()
        with fleet.lease(arn, REGION, 1):
            world.store.throughputs.delete(arn, now())
            look_until(lambda: arn not in fleet._routes)
            assert fleet._engines[world.place].adapters == {first.id, second.id}
        assert bell.is_set()
        look_until(lambda: fleet._engines[world.place].adapters == {second.id})
        with fleet.lease(stays, REGION, 1):
            process = fleet._engines[world.place].process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            until(lambda: process.state() == "dead")
        assert bell.is_set()
    finally:
        world.close()


def test_an_engine_that_is_killed_is_started_again(world: World) -> None:
    custom = world.model()
    arn = world.serve(1, custom.arn)
    [pid] = world.pids()
    os.kill(pid, signal.SIGKILL)
    until(lambda: world.pids() != [pid])
    assert world.ask(arn) == f"{custom.id}: hello"
    assert world.throughput(arn).status == "InService"


def test_an_engine_that_dies_under_a_request_ends_that_request_and_no_other(world: World) -> None:
    arn = world.serve(1, world.model().arn)
    [pid] = world.pids()
    with pytest.raises(ModelErrorException, match="broke off"):
        world.ask(arn, "die")
    until(lambda: world.pids() != [pid])
    assert world.ask(arn, "well").endswith("well")


def test_a_lease_upon_an_engine_that_is_gone_says_try_again(world: World) -> None:
    arn = world.serve(1, world.model().arn)
    [pid] = world.pids()
    with world.fleet.lease(arn, REGION, 1) as lease:
        # It must not come back before this test has asked: on the same port, by chance, it would answer.
        (world.base / "broken").write_text("never again")
        os.kill(pid, signal.SIGKILL)
        until(lambda: world.fleet._engines[world.place].line is None)
        with pytest.raises(ModelNotReadyException):
            lease.line.complete(lease.model, prompt("hello"))
        with pytest.raises(ModelNotReadyException):
            lease.line.count(lease.model, prompt("hello"))
        assert lease.line.figures() == {}


def test_a_base_is_started_when_it_is_asked_and_ends_when_it_is_not(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.fleet.start()
    try:
        assert world.pids() == []
        assert world.ask(LONG_ID) == "hello"
        [pid] = world.pids()
        assert world.ask(LONG_ID, "again") == "again"
        assert world.pids() == [pid]
        kept, world.fleet._demand.keep = world.fleet._demand.keep, 0.0
        until(lambda: not alive(pid))
        world.fleet._demand.keep = kept
        assert world.ask(LONG_ID, "once more") == "once more"
    finally:
        world.close()


def test_other_weights_chosen_for_a_base_answer_the_next_call(world: World) -> None:
    world.ask(LONG_ID)
    other = write_weights(world.root / "other")
    world.store.models.use_weights(LONG_ID, str(other))
    until(lambda: world.ask(LONG_ID) == "hello" and world.pids(other))
    until(lambda: not world.pids(world.base))


def test_a_base_that_loads_too_long_is_not_ready(tmp_path: Path) -> None:
    world = World(tmp_path, on_demand_wait=0.2)
    (world.base / "slow").write_text("30")
    world.fleet.start()
    try:
        started = time.monotonic()
        with pytest.raises(ModelNotReadyException, match="still loading"):
            world.ask(LONG_ID)
        assert time.monotonic() - started < 30
    finally:
        world.close()


@pytest.mark.parametrize("broken", ["engine", "folder"])
def test_a_base_that_cannot_be_started_says_why_at_once(world: World, broken: str) -> None:
    if broken == "engine":
        (world.base / "broken").write_text("out of memory")
    else:
        (world.base / "config.json").unlink()
    started = time.monotonic()
    with pytest.raises(ModelErrorException, match="out of memory" if broken == "engine" else r"no config\.json"):
        world.ask(LONG_ID)
    assert time.monotonic() - started < 30


def test_a_program_that_is_not_there_fails_with_a_message(tmp_path: Path) -> None:
    world = World(tmp_path, program=("/no/such/program",))
    world.fleet.start()
    try:
        settled = world.settle(world.provision(1, BASE_ARN))
        assert settled.status == "Failed"
        assert "/no/such/program" in str(settled.failure)
    finally:
        world.close()


def test_units_admit_and_refuse(still: World) -> None:
    arn = still.serve(1, BASE_ARN)
    row = still.catalog.find(LONG_ID)
    assert row is not None
    minute = row.tokens_per_minute_per_unit
    with (
        still.fleet.lease(arn, REGION, minute - 1000),
        pytest.raises(ThrottlingException, match="Too many tokens"),
        still.fleet.lease(arn, REGION, 2000),
    ):
        pass
    with still.fleet.lease(arn, REGION, minute - 1000) as lease:
        lease.charge(minute - 500, 0)
    with pytest.raises(ThrottlingException), still.fleet.lease(arn, REGION, 5000):
        pass
    with still.fleet.lease(LONG_ID, REGION, 10 * minute):
        pass


def test_who_is_not_patient_is_told_so_at_once_and_has_used_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)  # its loop does not run: nothing is ever served
    bucket = world.fleet._buckets[LONG_ID] = Bucket(600, lambda: 0.0)
    try:
        with pytest.raises(MustWait), world.fleet.lease(LONG_ID, REGION, 500, patient=False):
            pytest.fail("it has a lease upon nothing")
        assert bucket.level == 600
        assert world.fleet._demand.queue == {}
        assert [sample for each in world.fleet._meter.invocations.collect() for sample in each.samples] == []
        bucket.take(500)
        with pytest.raises(ThrottlingException), world.fleet.lease(LONG_ID, REGION, 500, patient=False):
            pytest.fail("it has a lease over its units")
    finally:
        world.close()


def test_a_restarted_fleet_serves_what_is_in_service(world: World) -> None:
    custom = world.model()
    arn = world.serve(1, custom.arn)
    [pid] = world.pids()
    world.fleet.stop()
    assert not alive(pid)
    world.fleet = world.new_fleet()
    world.fleet.start()
    assert world.ask(arn) == f"{custom.id}: hello"


def test_stopping_ends_waiting_calls_and_loading_engines(tmp_path: Path) -> None:
    world = World(tmp_path, on_demand_wait=60.0)
    (world.base / "slow").write_text("60")
    world.fleet.start()
    failed: list[OutcropError] = []

    def ask() -> None:
        try:
            world.ask(LONG_ID)
        except OutcropError as fault:
            failed.append(fault)

    caller = threading.Thread(target=ask)
    caller.start()
    until(world.pids)
    pids = world.pids()
    started = time.monotonic()
    world.close()
    caller.join(60)
    assert time.monotonic() - started < 30
    assert not any(alive(pid) for pid in pids)
    assert [type(fault) for fault in failed] == [ModelNotReadyException]


def test_only_so_many_calls_wait_for_an_engine(tmp_path: Path) -> None:
    world = World(tmp_path, on_demand_wait=600.0)
    (world.base / "slow").write_text("600")
    world.fleet.start()

    def ask() -> str:
        try:
            return world.ask(LONG_ID)
        except OutcropError as fault:
            return type(fault).__name__

    with ThreadPoolExecutor(24) as callers:
        asked = [callers.submit(ask) for _ in range(24)]
        try:
            # Who finds no place is told so at once, whoever waits when the fleet stops.
            until(lambda: sum(one.done() for one in asked) >= 8)
            assert [one.result() for one in asked if one.done()] == ["ThrottlingException"] * 8
        finally:
            world.close()
    answers = [one.result() for one in asked]
    assert (answers.count("ModelNotReadyException"), answers.count("ThrottlingException")) == (16, 8)


def test_many_callers_at_once_and_no_lease_is_left(world: World) -> None:
    custom = world.model()
    arn = world.serve(1, custom.arn)
    with ThreadPoolExecutor(16) as callers:
        answers = list(callers.map(lambda number: world.ask(arn, f"number {number}"), range(100)))
    assert answers == [f"{custom.id}: number {number}" for number in range(100)]
    assert not any(world.fleet._engines[world.place].leased.values())


def test_a_fault_of_the_store_does_not_end_the_loop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = type(world.store.throughputs).wanted
    faults = iter([OSError("the disk is gone")] * 2)

    def sometimes(self: object) -> object:
        if (fault := next(faults, None)) is not None:
            raise fault
        return wanted(world.store.throughputs)

    monkeypatch.setattr(type(world.store.throughputs), "wanted", sometimes)
    with structlog.testing.capture_logs() as entries:
        world.fleet.wake()
        assert world.serve(1, world.model().arn)
    # Both looks met it, and a fault that lasts is told once.
    assert [entry["times"] for entry in entries if entry["event"] == "the fleet's look failed"] == [1]
