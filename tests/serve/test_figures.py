"""/metrics: what callers got and what the fleet holds, as Prometheus reads it, and who may read it."""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from outcrop.app import Readers, front_door
from outcrop.errors import ModelErrorException, ThrottlingException
from outcrop.serve import line
from outcrop.serve.figures import FleetCollector, page
from outcrop.serve.meter import Meter
from tests.serve.fleet_world import World, until
from tests.store.resources import BASE_ARN, LONG_ID, REGION


def samples(world: World, meter: Meter) -> dict[str, float]:
    """Every sample, by its name with its labels."""
    meter.registry.register(collector := FleetCollector(world.fleet.snapshot))
    text = page(meter.registry).decode()
    meter.registry.unregister(collector)
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S*) (\S+)$", text, re.MULTILINE)}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, the engines' own figures come."""
    monkeypatch.setattr(line, "HEALTH_SECONDS", 60.0)


@pytest.fixture
def meter(world: World) -> Meter:
    """The meter of the world's fleet."""
    return world.fleet._meter


def test_calls_are_counted_by_how_they_end(still: World) -> None:
    arn = still.serve(1, BASE_ARN)
    for _ in range(3):
        still.ask(arn, "one two three")
    with pytest.raises(ModelErrorException):
        still.ask(arn, "fail")
    row = still.catalog.find(LONG_ID)
    assert row is not None
    minute = row.tokens_per_minute_per_unit
    with (
        still.fleet.lease(arn, REGION, minute // 2),
        pytest.raises(ThrottlingException),
        still.fleet.lease(arn, REGION, minute),
    ):
        pass
    seen = samples(still, still.fleet._meter)
    counted = {
        outcome: seen[f'outcrop_invocations_total{{model_id="{arn}",outcome="{outcome}"}}']
        for outcome in ("ok", "ModelErrorException", "ThrottlingException")
    }
    # The lease that was held while another call was refused asked nothing, and ended well.
    assert counted == {"ok": 4, "ModelErrorException": 1, "ThrottlingException": 1}
    assert seen[f'outcrop_tokens_total{{direction="input",model_id="{arn}"}}'] == 9
    assert seen[f'outcrop_tokens_total{{direction="output",model_id="{arn}"}}'] == 9
    assert seen[f'outcrop_invocation_seconds_count{{model_id="{arn}"}}'] == 4
    assert seen[f'outcrop_units_tokens_per_minute{{model_id="{arn}"}}'] == row.tokens_per_minute_per_unit
    left = seen[f'outcrop_units_tokens_left{{model_id="{arn}"}}']
    assert row.tokens_per_minute_per_unit * 0.9 < left <= row.tokens_per_minute_per_unit


def test_engines_are_told_as_they_are(world: World, meter: Meter) -> None:
    custom = world.model()
    arn = world.serve(1, custom.arn)
    with world.fleet.lease(arn, REGION, 1):
        seen = samples(world, meter)
    weights = str(world.base)
    assert seen[f'outcrop_engine_state{{state="serving",weights="{weights}"}}'] == 1
    assert seen[f'outcrop_engine_calls{{model="{custom.id}",weights="{weights}"}}'] == 1
    assert seen[f'outcrop_engine_figure{{figure="asked",weights="{weights}"}}'] == 1
    assert seen[f'outcrop_engine_memory_bytes{{weights="{weights}"}}'] > 10**6
    assert seen[f'outcrop_engine_deaths_total{{weights="{weights}"}}'] == 0
    with pytest.raises(ModelErrorException):
        world.ask(arn, "die")
    until(lambda: samples(world, meter)[f'outcrop_engine_deaths_total{{weights="{weights}"}}'] == 1)


def test_what_leases_change_is_read_under_their_lock(world: World) -> None:
    arn = world.serve(1, BASE_ARN)
    engine, lock = world.fleet._engines[world.place], world.fleet._lock
    held: list[bool] = []

    class Watched(Counter[str | None]):
        def items(self) -> Any:
            held.append(lock._is_owned())  # type: ignore[attr-defined]
            return super().items()

    engine.leased = Watched(engine.leased)
    held.clear()
    with world.fleet.lease(arn, REGION, 1):
        [seen] = world.fleet.snapshot().engines
    assert seen.leased == {"base": 1}
    assert held
    assert all(held)


def test_engines_are_asked_side_by_side(world: World) -> None:
    whole = world.model(1, method="full")
    world.serve(1, BASE_ARN)
    world.serve(2, whole.arn)
    # Nobody answers before all were asked.
    together = threading.Barrier(2)
    for running in world.fleet._engines.values():
        assert running.line is not None
        own = running.line.figures

        def figures(own: Callable[[], dict[str, float]] = own) -> dict[str, float]:
            together.wait(60)
            return own()

        running.line.figures = figures  # type: ignore[method-assign]
    told = [engine.told["asked"] for engine in world.fleet.snapshot().engines]
    assert told == [1, 1]


def asked(readers: Readers, client: str, path: str = "/metrics", method: str = "GET", *, signed: bool = False) -> str:
    """Who answers a request: its body, or "gateway"."""
    sent: list[Any] = []

    async def gateway(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.body", "body": b"gateway"})

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"authorization", b"AWS4-HMAC-SHA256 x")] if signed else [],
        "client": (client, 4711),
    }
    application = front_door(gateway, lambda: b"figures", readers)  # type: ignore[arg-type]
    asyncio.run(application(scope, None, send))  # type: ignore[arg-type]
    return bytes(sent[-1]["body"]).decode()


@pytest.mark.parametrize(
    ("readers", "client", "answer"),
    [
        ("loopback", "127.0.0.1", "figures"),
        ("loopback", "::1", "figures"),
        ("loopback", "192.0.2.7", "gateway"),
        ("everyone", "192.0.2.7", "figures"),
        ("nobody", "127.0.0.1", "gateway"),
    ],
)
def test_who_may_read_them(readers: Readers, client: str, answer: str) -> None:
    assert asked(readers, client) == answer


def test_what_is_signed_or_sent_is_for_the_gateway() -> None:
    assert asked("everyone", "127.0.0.1", signed=True) == "gateway"
    assert asked("everyone", "127.0.0.1", method="PUT") == "gateway"
    assert asked("everyone", "127.0.0.1", path="/metrics/1") == "gateway"
    assert asked("everyone", "127.0.0.1", method="HEAD") == ""
    assert asked("nobody", "192.0.2.7", path="/health") == '{"status":"ok"}\n'
