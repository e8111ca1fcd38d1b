"""The arithmetic of an estimate: the line through a few steps, the range of a time, the price, spans for people."""

from dataclasses import replace

import numpy as np
import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.catalog.rows import Prices
from outcrop.commands.plan_view import clock, dollars
from outcrop.datasets.lengths import Lengths
from outcrop.estimate.calibration import Calibration, fitted, line
from outcrop.estimate.duration import duration
from outcrop.estimate.foresight import Foresight
from outcrop.estimate.price import price

SEEN = Foresight(
    examples=1000, validation_examples=100, held_out=0, splits=0, epochs=3, batch_size=4, steps_per_epoch=250,
    steps=750, tokens=300_000, scored_tokens=90_000, validation_tokens=10_000, evaluations=3, longest=400,
    lengths=Lengths(1, 1, 1, 1, 1),
    packed=False, estimated=False, sampled_examples=1000,
)  # fmt: skip
ANSWER = {
    "load": 0.0,
    "start_seconds": 5.0,
    "steps": [{"tokens": tokens, "seconds": 0.02 + 0.001 * tokens} for tokens in (100, 400, 900, 250)],
    "evaluation": {"tokens": 1000, "seconds": 0.5},
    "checkpoint": {"seconds": 0.25, "bytes": 1000},
    "parameters": 10,
    "recomputed": False,
    "trainable_parameters": 5,
    "memory": {"before": 1, "loaded": 2, "peak": 3, "device_peak": 0, "device_free": 0},
    "device": "cpu",
    "dtype": "float32",
    "threads": 2,
}


def test_the_line_through_steps_finds_what_a_step_and_what_a_token_take() -> None:
    found = fitted(ANSWER)
    assert found.step_seconds == pytest.approx(0.02)
    assert found.token_seconds == pytest.approx(0.001)
    assert found.spread == pytest.approx(0, abs=1e-9)
    assert found.evaluation_token_seconds == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("tokens", "seconds"),
    [
        ([100, 100, 100], [1.0, 1.1, 0.9]),
        ([100, 200, 300], [3.0, 2.0, 1.0]),
        ([100, 200, 300], [0.1, 1.0, 3.0]),
        ([7], [0.07]),
    ],
)
def test_a_line_never_foretells_less_than_nothing(tokens: list[int], seconds: list[float]) -> None:
    step, token = line(np.array(tokens, dtype=np.float64), np.array(seconds))
    assert step >= 0
    assert token > 0
    assert sum(step + token * each for each in tokens) == pytest.approx(sum(seconds))


def test_a_duration_is_the_sum_of_its_parts() -> None:
    found = duration(SEEN, fitted(ANSWER), intake=2.0, checkpoint_seconds=60)
    assert found.training == pytest.approx(750 * 0.02 + 300_000 * 0.001)
    assert found.evaluation == pytest.approx(3 * 10_000 * 0.0005)
    assert found.checkpoints == pytest.approx((315 // 60 + 2) * 0.25)
    assert found.likely == pytest.approx(
        found.intake + found.start + found.training + found.evaluation + found.checkpoints
    )
    assert found.low == pytest.approx(found.likely / 1.2)
    assert found.high == pytest.approx(found.likely * 1.2)
    assert found.tokens_per_second == pytest.approx(300_000 / 315)


@pytest.mark.parametrize(("spread", "load", "factor"), [(0.0, 0.0, 1.2), (0.5, 0.1, 1.5), (0.1, 0.7, 1.7), (9, 0, 2)])
def test_a_restless_machine_widens_the_range(spread: float, load: float, factor: float) -> None:
    calm: Calibration = fitted(ANSWER)
    found = duration(SEEN, replace(calm, spread=spread, load=load), intake=0, checkpoint_seconds=60)
    assert found.high == pytest.approx(found.likely * factor)
    assert found.low == pytest.approx(found.likely / factor)


def test_the_price_is_awss_tokens_of_all_epochs() -> None:
    row = Catalog.load().find("amazon.titan-text-express-v1")
    assert row is not None
    found = price(row.prices, 60_001, 6, 5, seconds=(1800.0, 7200.0), machine_hour=0.5)
    assert found.tokens == 10_001 * 5
    assert found.aws_training == pytest.approx(50.005 * 0.008)
    assert found.aws_storage_month == 1.95
    assert found.aws_unit_hour == 20.5
    assert (found.ours_low, found.ours_high) == (0.25, 1.0)


def test_an_unknown_price_stays_unknown() -> None:
    found = price(Prices(), 60_000, 6, 1, seconds=None, machine_hour=None)
    assert found.aws_training is None
    assert (found.ours_low, found.ours_high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89.4, "89 s"), (90, "1 min 30 s"), (3600, "1 h"), (3660, "1 h 1 min"), (190_000, "2 d 4 h")],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "$0"), (0.0123, "$0.012"), (0.1, "$0.10"), (406.17, "$406.17"), (12_345.6, "$12,345.60")]
)
def test_dollars_for_people(amount: float, text: str) -> None:
    assert dollars(amount) == text
