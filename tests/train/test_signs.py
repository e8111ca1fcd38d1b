"""The signs in a run's curve: each where it belongs and nowhere else, on made curves and on recorded ones.

The recorded ones are real runs of the bundled base: tests/train/record_curves.py.
"""

import json
import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from outcrop.train.curve import Curve
from outcrop.train.signs import Sign, Terms, Watchman, explosion, idleness, overfitting, spike

CURVES = Path(__file__).parent / "curves"


def made(
    losses: Iterable[float],
    norms: Iterable[float] | None = None,
    evaluations: dict[int, float] | None = None,
) -> Curve:
    """A curve of these values, a step each; evaluations by the step that they follow."""
    curve, losses = Curve(), list(losses)
    for step, (loss, norm) in enumerate(zip(losses, norms or [0.5] * len(losses), strict=True)):
        curve.feed(event(step, loss, norm))
        if evaluations and step in evaluations:
            curve.feed(evaluation(step, evaluations[step]))
    return curve


def event(step: int, loss: float, norm: float = 0.5, scored: int = 10) -> dict[str, Any]:
    return {
        "kind": "step", "step": step, "loss": loss, "gradient_norm": norm, "scored_tokens": scored, "tokens": 20,
        "seconds": 0.1,
    }  # fmt: skip


def evaluation(step: int, loss: float, validator: int = 0, scored: int = 30) -> dict[str, Any]:
    return {
        "kind": "eval", "step": step, "validator": validator, "loss": loss, "tokens": 99, "scored_tokens": scored,
        "seconds": 0.2,
    }  # fmt: skip


def terms(steps: int = 60, warmup: int = 5, **more: Any) -> Terms:
    return Terms(steps=steps, steps_per_epoch=max(1, steps // 3), warmup_steps=warmup, clip=1.0, **more)


def falling(count: int, noise: float = 0.1, seed: int = 0) -> list[float]:
    """A healthy loss: from 3 towards 0.2, with noise."""
    draw = random.Random(seed)
    return [(0.2 + 2.8 * math.exp(-4 * step / count)) * math.exp(draw.gauss(0, noise)) for step in range(count)]


def replayed(name: str) -> tuple[Terms, list[tuple[int, Sign]]]:
    """All signs of a recorded run, with the step after which each was told."""
    record = json.loads((CURVES / f"{name}.json").read_text("utf-8"))
    (step_names, *steps), (eval_names, *evals) = record["step"], record["eval"]
    events = [{"kind": "step", **dict(zip(step_names, row, strict=True))} for row in steps]
    events += [{"kind": "eval", **dict(zip(eval_names, row, strict=True))} for row in evals]
    events.sort(key=lambda one: (one["step"], one["kind"] == "eval"))
    given, curve, told = Terms(**record["course"]), Curve(), []
    watchman = Watchman(given)
    for one in events:
        curve.feed(one)
        told += [(int(one["step"]), sign) for sign in watchman.look(curve)]
    return given, told


def test_a_healthy_recorded_run_gives_no_sign() -> None:
    assert replayed("healthy")[1] == []


def test_the_demo_s_own_run_gives_no_sign() -> None:
    """Two epochs of `make demo`'s data with its settings."""
    assert replayed("demo")[1] == []


@pytest.mark.parametrize(
    ("name", "expected", "said"),
    [
        ("overfitting", "overfitting", "while the training loss fell"),
        ("idle", "idleness", "a larger learningRate helps"),
        ("exploding", "explosion", "a smaller learningRate"),
        ("strange", "spike", "look for examples that are broken"),
    ],
)
def test_a_recorded_run_gives_its_sign_once(name: str, expected: str, said: str) -> None:
    told = [sign for _, sign in replayed(name)[1]]
    assert [sign.name for sign in told].count(expected) == 1
    (sign,) = [sign for sign in told if sign.name == expected]
    assert said in sign.message


def test_over_fitting_names_its_numbers_and_the_way_out() -> None:
    curve = made([3.0] * 10 + [1.0] * 10 + [0.5] * 10 + [0.2] * 10, evaluations={9: 2.0, 19: 0.9, 29: 1.1, 39: 1.4})
    sign = overfitting(curve, Terms(steps=40, steps_per_epoch=10, warmup_steps=0, clip=1.0))
    assert sign is not None
    assert "rose from 0.9000 to 1.1000 and 1.4000" in sign.message
    assert "fell from 0.5000 to 0.2000" in sign.message
    assert "lowest, 0.9000, after 20 steps (2 epochs)" in sign.message
    assert "an epochCount of 2" in sign.message
    stopping = Terms(steps=40, steps_per_epoch=10, warmup_steps=0, clip=1.0, stops_early=True)
    sign = overfitting(curve, stopping)
    assert sign is not None
    assert "early stopping keeps the best weights" in sign.message


@pytest.mark.parametrize(
    ("evaluations", "losses"),
    [
        ({9: 1.0, 19: 1.1}, [2.0] * 10 + [1.0] * 10),  # one rise is chance
        ({9: 1.0, 19: 1.1, 29: 1.05}, [2.0] * 10 + [1.0] * 10 + [0.5] * 10),  # it came back
        ({9: 1.0, 19: 1.001, 29: 1.002}, [2.0] * 10 + [1.0] * 10 + [0.5] * 10),  # too little to mean anything
        ({9: 1.0, 19: 1.1, 29: 1.2}, [2.0] * 10 + [1.0] * 10 + [1.5] * 10),  # the training loss rises too
    ],
)
def test_what_only_looks_like_over_fitting(evaluations: dict[int, float], losses: list[float]) -> None:
    assert overfitting(made(losses, evaluations=evaluations), terms()) is None


def test_several_validation_sets_are_weighed_by_their_labels() -> None:
    curve = made([2.0, 1.0])
    for validator, (loss, scored) in enumerate([(1.0, 10), (4.0, 30)]):
        curve.feed(evaluation(1, loss, validator, scored))
    (found,) = curve.evaluations
    assert (found.loss, found.scored, found.sets, found.seconds) == (pytest.approx(3.25), 40, 2, 0.4)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
def test_a_loss_that_stands_still_is_told_at_the_half(noise: float) -> None:
    draw = random.Random(3)
    losses = [2.0 * math.exp(draw.gauss(0, noise)) for _ in range(400)]
    told = [count for count in range(1, 401) if idleness(made(losses[:count]), terms(400))]
    assert told
    assert told[0] >= 200
    sign = idleness(made(losses[: told[0]]), terms(400, rate="learningRateMultiplier"))
    assert sign is not None
    assert "does not learn" in sign.message
    assert "a larger learningRateMultiplier helps" in sign.message


def test_a_loss_that_rises_is_told_as_such() -> None:
    sign = idleness(made([1.0 + step / 40 for step in range(40)]), terms(40))
    assert sign is not None
    assert "rises, from" in sign.message
    assert "too large" in sign.message


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("count", "noise"), [(40, 0.1), (300, 0.1), (300, 0.5), (1000, 0.8)])
def test_what_learns_gives_no_sign(count: int, noise: float, seed: int) -> None:
    curve, draw, watchman = Curve(), random.Random(seed), Watchman(terms(count))
    for step, loss in enumerate(falling(count, noise, seed)):
        curve.feed(event(step, loss, 0.3 * loss * math.exp(draw.gauss(0, 0.5))))
        assert watchman.look(curve) == []


def test_nothing_is_said_of_a_loss_that_is_all_noise() -> None:
    draw = random.Random(1)
    losses = [2.0 * math.exp(draw.gauss(0, 1.0)) for _ in range(60)]
    assert not any(idleness(made(losses[:count]), terms(60)) for count in range(1, 61))


def test_nothing_is_said_before_the_warm_up_is_over() -> None:
    assert idleness(made([2.0] * 30), terms(60, warmup=40)) is None
    assert idleness(made([2.0] * 60), terms(60, warmup=40)) is not None


def test_norms_far_above_the_usual_are_an_explosion() -> None:
    norms = [0.5] * 40
    assert explosion(made([1.0] * 40, norms), terms()) is None
    assert explosion(made([1.0] * 41, [*norms, 80.0]), terms()) is None, "one is what clipping is for"
    sign = explosion(made([1.0] * 43, [*norms, 80.0, 90.0, 70.0]), terms())
    assert sign is not None
    assert "3 of the last 10 steps had a gradient norm of up to 90, where 0.5 was usual" in sign.message


def test_norms_that_grow_below_the_clip_are_no_explosion() -> None:
    assert explosion(made([1.0] * 45, [0.001] * 35 + [0.5] * 10), terms()) is None


def test_clipping_all_along_is_told_only_while_the_loss_rises() -> None:
    norms = [5.0] * 60
    assert explosion(made(falling(60), norms), terms()) is None
    rising = [1.0 + step / 20 for step in range(60)]
    sign = explosion(made([9.0, *rising[1:]], norms), terms())
    assert sign is not None
    assert "50 of the last 50 steps had to be clipped to a norm of 1" in sign.message
    assert explosion(made([9.0, *rising[1:]], [0.9] * 60), terms()) is None


def test_a_loss_that_stays_above_the_untouched_base_s_is_an_explosion() -> None:
    sign = explosion(made([2.0, 2.5, 30.0, *[6.0, 6.5] * 12], [9.0] * 27), terms())
    assert sign is not None
    assert "the training loss is 6.2500 in the last 20 steps and was 2.0000 before anything was learnt" in sign.message
    draw = random.Random(4)
    easy = [0.4] + [2.0 * math.exp(draw.gauss(0, 0.6)) for _ in range(60)]
    assert not any(explosion(made(easy[:count]), terms()) for count in range(1, 61)), "an easy first example"


@pytest.mark.parametrize(("high", "spikes"), [(1.2, False), (9.0, True)])
def test_a_loss_that_jumps_is_a_spike(high: float, spikes: bool) -> None:
    draw = random.Random(2)
    losses = [math.exp(draw.gauss(0, 0.1)) for _ in range(50)]
    sign = spike(made([*losses, high]), terms())
    assert (sign is not None) == spikes
    if sign is not None:
        assert "9.0000 at step 51, where 0.9602 was usual" in sign.message


def test_strange_examples_near_a_loss_of_zero_are_no_spike() -> None:
    assert spike(made([0.01] * 50 + [0.2]), terms()) is None


def test_each_sign_is_told_once_and_not_again_after_a_restart() -> None:
    curve = made([1.0] * 43, [0.5] * 40 + [80.0, 90.0, 70.0])
    watchman = Watchman(terms(1000))
    assert [sign.name for sign in watchman.look(curve)] == ["explosion"]
    assert watchman.look(curve) == []
    assert Watchman(terms(1000), ["explosion"]).look(curve) == []


@pytest.mark.parametrize("back", [0, 7, 25])
def test_a_run_that_goes_back_has_the_curve_of_one_that_never_died(back: int) -> None:
    losses = falling(40)
    events = [one for step, loss in enumerate(losses) for one in (event(step, loss, scored=5 + step), loss)]
    plain = [one for one in events if isinstance(one, dict)]
    plain.insert(20, evaluation(19, 1.0))
    plain.insert(31, evaluation(29, 0.9))
    whole, torn = Curve(), Curve()
    for one in plain:
        whole.feed(one)
    for one in [*plain[:35], *plain[35 - back :]]:
        torn.feed(one)
    assert torn == whole


def test_smoothing_weighs_labels_and_not_steps() -> None:
    curve = Curve()
    curve.feed(event(0, 4.0, scored=90))
    assert curve.smoothed == 4.0
    curve.feed(event(1, 1.0, scored=1))
    assert curve.smoothed == pytest.approx((0.9 * 4.0 * 90 + 1.0) / (0.9 * 90 + 1))
    assert curve.mean(-1, 1) == pytest.approx(361 / 91)
    assert curve.mean(1, 1) == 0.0


Judge = Callable[[Curve, Terms], Sign | None]


@pytest.mark.parametrize("judge", [overfitting, idleness, explosion, spike])
def test_a_run_without_labels_or_of_one_step_gives_no_sign(judge: Judge) -> None:
    assert judge(made([0.5]), terms(1, warmup=0)) is None
    curve = Curve()
    for step in range(60):
        curve.feed(event(step, 0.0, 0.0, scored=0))
    assert judge(curve, terms()) is None


class Counted(list[float]):
    """A list that counts what is copied out of it."""

    copied = 0

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        Counted.copied += len(found) if isinstance(found, list) else 1
        return found


def looked_at(steps: int, evaluations: dict[int, float]) -> int:
    """How many numbers the watchman takes out of a curve of so many steps for the next one."""
    curve = made(falling(steps), evaluations=evaluations)
    curve.feed(event(steps, 0.2))
    for name in ("losses", "norms", "steps", "scored"):
        setattr(curve, name, Counted(getattr(curve, name)))
    Counted.copied = 0
    Watchman(terms(10 * steps)).look(curve)
    return Counted.copied


@pytest.mark.parametrize("evaluations", [{}, {100: 1.0, 500: 1.0}])
def test_a_step_costs_the_same_however_long_the_run_is(evaluations: dict[int, float]) -> None:
    assert looked_at(1000, evaluations) == looked_at(9000, evaluations) > 0
