"""The learning rate of a run by its length: what is reckoned, what runs, and that events, log and lineage say so."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from outcrop.records import MOST_MORE, rate_over
from tests.train.shelf import Shelf
from tests.train.work import Work, small_job


def test_a_longer_run_takes_less_and_a_shorter_one_more() -> None:
    assert rate_over(3e-3, 600, 600) == 3e-3
    assert rate_over(3e-3, 600, 2400) == pytest.approx(1.5e-3)
    assert rate_over(3e-3, 600, 384) == pytest.approx(3.75e-3)
    assert rate_over(3e-3, 600, 1) == pytest.approx(3e-3 * MOST_MORE)


def test_rates_that_suit_every_length_are_left_alone() -> None:
    assert [rate_over(2e-4, None, steps) for steps in (1, 600, 100_000)] == [2e-4] * 3


@pytest.mark.parametrize("steps", [1, 96, 600, 10_000_000])
def test_a_rate_asked_for_keeps_its_place_among_others(steps: int) -> None:
    once, twice = rate_over(1e-3, 600, steps), rate_over(2e-3, 600, steps)
    assert 0 < once < twice == pytest.approx(2 * once)
    assert rate_over(0.0, 600, steps) == 0.0


@pytest.mark.parametrize("suited", [4, 12, 27])
def test_what_is_told_is_what_ran(
    llama: Path, shelf: Shelf, write_pairs: Callable[..., Path], tmp_path: Path, suited: int
) -> None:
    shelf.objects["bucket/train.jsonl"] = write_pairs(24).read_bytes()
    spec = small_job(llama, epochs=2, learning_rate=2e-3, warmup_steps=0, rate_steps=suited)
    events = Work(tmp_path / "job", spec, shelf).run()
    expected = 2e-3 * math.sqrt(suited / 12)
    (plan,) = (event for event in events if event["kind"] == "plan")
    assert (plan["steps"], plan["learning_rate"]) == (12, pytest.approx(expected))
    steps = [event["learning_rate"] for event in events if event["kind"] == "step"]
    assert steps == [pytest.approx(expected * (12 - step) / 12) for step in range(12)]
    told = [event["message"] for event in events if event["kind"] == "log" and "learning rate" in event["message"]]
    said = f"the learning rate is {expected:.3g}: 0.002 suits runs of {suited} steps on a small llama"
    assert told == ([] if suited == 12 else [f"{said}, and this one has 12"])
    story = json.loads((tmp_path / "job" / "model" / "lineage.json").read_text())
    assert story["hyperparameters"]["effective"]["learning_rate"] == pytest.approx(expected)
