"""The page /metrics: what callers got (the meter), and what the fleet looks like at the moment it is asked.

Knows the fleet's snapshot and Prometheus's families; decides nothing and keeps nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = b"text/plain; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One engine at a moment."""

    weights: str
    """Folder of its weights."""
    state: str
    """loading, serving or down."""
    bytes: int
    deaths: int
    """How often it has ended by itself since the server started."""
    leased: Mapping[str, int]
    """Calls that it answers now, by the model's name on the engine."""
    told: Mapping[str, float] = field(default_factory=dict)
    """Every number that its own /health tells: queue, cache, …"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The fleet at a moment."""

    engines: tuple[EngineFigures, ...]
    waiting: Mapping[str, int]
    """Calls that wait for their model to load, by target."""
    units: Mapping[str, tuple[int, int]]
    """By throughput: tokens a minute that its units promise, and how many of them are there now."""
    memory: int | None
    """Bytes that all engines may take; None: no bound."""


class FleetCollector(Collector):
    """Asks for a snapshot whenever Prometheus does."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        """Nothing beforehand: registering must not ask the engines."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families of one snapshot."""
        seen = self._snapshot()
        yield from _engines(seen)
        waiting = GaugeMetricFamily(
            "outcrop_waiting_calls", "Calls that wait for their model to load.", labels=["model_id"]
        )
        promised = GaugeMetricFamily(
            "outcrop_units_tokens_per_minute", "Tokens a minute that model units promise.", labels=["model_id"]
        )
        left = GaugeMetricFamily(
            "outcrop_units_tokens_left", "Tokens that model units still admit now.", labels=["model_id"]
        )
        for target, count in seen.waiting.items():
            waiting.add_metric([target], count)
        for target, (rate, level) in seen.units.items():
            promised.add_metric([target], rate)
            left.add_metric([target], level)
        yield from (waiting, promised, left)
        if seen.memory is not None:
            told = "Bytes of memory that all engines together may take."
            yield GaugeMetricFamily("outcrop_engine_memory_limit_bytes", told, value=seen.memory)


def _engines(seen: Snapshot) -> Iterator[Metric]:
    state = GaugeMetricFamily("outcrop_engine_state", "1 for the state it is in.", labels=["weights", "state"])
    held = GaugeMetricFamily("outcrop_engine_memory_bytes", "Memory that an engine holds.", labels=["weights"])
    deaths = CounterMetricFamily(
        "outcrop_engine_deaths", "How often an engine ended by itself and was started again.", labels=["weights"]
    )
    leased = GaugeMetricFamily(
        "outcrop_engine_calls", "Calls that an engine answers now, by model.", labels=["weights", "model"]
    )
    told = GaugeMetricFamily(
        "outcrop_engine_figure", "Every number of the engine's own /health.", labels=["weights", "figure"]
    )
    for engine in seen.engines:
        state.add_metric([engine.weights, engine.state], 1)
        held.add_metric([engine.weights], engine.bytes)
        deaths.add_metric([engine.weights], engine.deaths)
        for model, count in engine.leased.items():
            leased.add_metric([engine.weights, model], count)
        for name, value in engine.told.items():
            told.add_metric([engine.weights, name], value)
    yield from (state, held, deaths, leased, told)


def page(registry: CollectorRegistry) -> bytes:
    """The text that Prometheus reads."""
    return generate_latest(registry)
