"""Units within what the machine was measured to do: once, kept, added up over engines, refused with figures."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

from outcrop.serve import capacity
from outcrop.serve.capacity import Capacities, TooMuch, measure
from outcrop.serve.seats import Seating
from outcrop.serve.wants import Place, Traffic
from outcrop.store.capacities import Capacity
from tests.serve.fleet_world import World, now
from tests.store.resources import BASE_ARN, LONG_ID, at, throughput


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, measured=True)
    world.fleet.start()
    yield world
    world.close()


def capacities(world: World) -> Capacities:
    return Capacities(world.store, Seating(world.store, world.catalog, world.root / "models"), now)


def unit(world: World) -> int:
    row = world.catalog.find(LONG_ID)
    assert row is not None
    return row.tokens_per_minute_per_unit


def test_an_engine_is_measured_once_and_the_measurement_is_kept(measured: World) -> None:
    arn = measured.provision(1, BASE_ARN)
    settled = measured.settle(arn)
    found = capacities(measured).known(measured.place)
    assert found is not None
    assert found.tokens_per_minute > 0
    asked = measured.health(measured.base)["asked"] if measured.pids() else 0
    if settled.status == "InService":
        assert asked == 8 + 1
    second = measured.settle(measured.provision(2, BASE_ARN))
    assert capacities(measured).known(measured.place) == found
    assert {settled.status, second.status} <= {"InService", "Failed"}


def test_it_counts_the_tokens_of_all_callers_by_the_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.serve(1, BASE_ARN)
    line = world.fleet._engines[world.place].line
    assert line is not None
    before = world.health(world.base)["asked"]
    # As if it had taken six seconds.
    monkeypatch.setattr(capacity, "time", SimpleNamespace(perf_counter=iter([100.0, 106.0]).__next__))
    rate = measure(line, "base")
    assert world.health(world.base)["asked"] == before + 8
    words = 8 * 8 + 32
    assert rate == 8 * words * 10


@pytest.mark.parametrize(("units", "status"), [(2, "InService"), (3, "Failed")])
def test_a_promise_beyond_the_measurement_fails_with_the_figures(measured: World, units: int, status: str) -> None:
    known = capacities(measured)
    rate = int(2.5 * unit(measured))
    measured.store.capacities.put(str(measured.base), known.machine, Capacity(rate, at(0)))
    settled = measured.settle(measured.provision(1, BASE_ARN, units=units))
    assert settled.status == status
    if status == "Failed":
        for figure in (f"{3 * unit(measured):,} tokens", f"the {rate:,} that", "2026-05-01", "0% of the machine"):
            assert figure in str(settled.failure)
        return
    excess = measured.fleet.excess(BASE_ARN, LONG_ID, 1)
    assert excess is not None
    assert "80% of the machine is promised to others" in excess
    assert f"the {round(0.2 * rate):,} that" in excess


def test_a_measurement_that_fails_is_not_repeated_at_once(world: World) -> None:
    clock = iter([0.0, 0.0, 0.9, 1.0, 1.0, 2.9, 3.0, 3.0])
    custom = world.model()
    world.serve(1, custom.arn)
    line = world.fleet._engines[world.place].line
    assert line is not None
    known = replace(capacities(world), clock=lambda: next(clock))
    (world.root / "models" / custom.id / "busy").touch()
    asked = [world.health(world.base)["asked"]]
    # In vain at 0; at 0.9 nothing is tried; in vain again at 1; nothing at 2.9, as the pause has doubled; then at 3.
    for _ in range(5):
        known.find_out(world.place, line, custom.id, lambda: Traffic(0, 0))
        asked.append(world.health(world.base)["asked"])
    tried = [before < after for before, after in pairwise(asked)]
    assert tried == [True, False, True, False, True]
    assert known.known(world.place) is None


@pytest.mark.parametrize("beside", ["before", "meanwhile"])
def test_what_was_measured_beside_others_admits_and_never_refuses(world: World, beside: str) -> None:
    world.serve(1, BASE_ARN)
    line = world.fleet._engines[world.place].line
    assert line is not None
    clock = [0.0]
    known = replace(capacities(world), clock=lambda: clock[0])
    seen = iter([Traffic(1, 1), Traffic(1, 1)] if beside == "before" else [Traffic(0, 1), Traffic(0, 2)])
    known.find_out(world.place, line, "base", lambda: next(seen))
    assert known.known(world.place) is None
    least = known._least[world.place].tokens_per_minute
    fitting, greedy = throughput(2, units=0), throughput(3, units=least // unit(world) + 1)
    assert known.kept(fitting, world.place)
    assert not known.kept(greedy, world.place)
    assert known.excess(BASE_ARN, LONG_ID, greedy.units) is None
    # Once the engine is alone the measurement counts for good.
    clock[0] = 1.0
    known.find_out(world.place, line, "base", lambda: Traffic(0, 3))
    found = known.known(world.place)
    assert found is not None
    with pytest.raises(TooMuch, match="are more than the"):
        known.kept(replace(greedy, units=found.tokens_per_minute // unit(world) + 1), world.place)


def test_promises_of_different_engines_share_one_machine(world: World) -> None:
    known, whole = capacities(world), world.model(1, method="full")
    for weights, units in ((world.base, 4), (world.root / "models" / whole.id, 2)):
        world.store.capacities.put(str(weights), known.machine, Capacity(units * unit(world), at(0)))
    first, second = throughput(1), throughput(2, model_arn=whole.arn)
    for promised in (first, second):
        world.store.throughputs.add(promised)
        world.store.throughputs.in_service(promised.arn, now())
    # A quarter and a half are gone.
    assert known.excess(BASE_ARN, LONG_ID, 1) is None
    told = known.excess(BASE_ARN, LONG_ID, 2)
    assert told is not None
    assert "75% of the machine" in told
    assert known.excess(whole.arn, LONG_ID, 1) is not None
    # What is in service is not counted against itself.
    assert known.kept(second, Place(world.root / "models" / whole.id))


def test_another_machine_is_measured_anew(world: World) -> None:
    known = capacities(world)
    world.store.capacities.put(str(world.base), "elsewhere, 1 CPUs", Capacity(1, at(0)))
    assert known.known(world.place) is None
    assert known.excess(BASE_ARN, LONG_ID, 10**6) is None


def test_where_promises_are_trusted_nothing_is_measured(world: World) -> None:
    world.serve(1, BASE_ARN, units=100)
    assert world.health(world.base)["asked"] == 1
    assert world.fleet.excess(BASE_ARN, LONG_ID, 10**6) is None
