"""What is added to the loop's events: counts are exact, work is what torch counts, times foretell what then comes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig, MixtralForCausalLM

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train import block, flops
from outcrop.train.gauge import Gauge, Machine
from outcrop.train.signs import Terms
from outcrop.train.text import load_learner


@pytest.fixture
def plan(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    """Ten examples, three a step, two epochs; the last step of an epoch holds one."""
    for name, count in (("train", 10), ("validation", 4)):
        source = write_pairs(count, f"{name}.jsonl")
        write_shard(source, "prompt-completion", Encoder.read(llama), tmp_path / name, print)
    return Plan(Shard.open(tmp_path / "train"), (Shard.open(tmp_path / "validation"),), 2, 3, seed=1)


def terms(plan: Plan) -> Terms:
    return Terms(steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, warmup_steps=0, clip=1.0)


def tokens(plan: Plan, step: int) -> int:
    lengths = plan.train.lengths()
    return int(lengths[plan.examples(step)].sum())


def step(plan: Plan, number: int, pace: float = 0.01, **more: Any) -> dict[str, Any]:
    """What the loop tells of a step at so many seconds a token."""
    count = tokens(plan, number)
    return {
        "step": number, "epoch": number // plan.steps_per_epoch, "loss": 1.0, "gradient_norm": 0.5, "tokens": count,
        "spared_tokens": 0, "scored_tokens": 5, "seconds": pace * count, **more,
    }  # fmt: skip


def evaluation(number: int, seconds: float) -> dict[str, Any]:
    return {"step": number, "validator": 0, "loss": 1.0, "tokens": 50, "scored_tokens": 20, "seconds": seconds}


aten = torch.ops.aten


class Fixed:
    """Work of a known size, which keeps the lengths that it was asked about."""

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def step(self, tokens: int, labels: int, lengths: Iterable[int]) -> float:
        self.lengths = list(lengths)
        return 1000.0 * tokens


def test_examples_are_counted_to_the_last_short_step(plan: Plan) -> None:
    gauge = Gauge(plan, terms(plan), 2)
    told = [next(gauge.read("step", step(plan, number)))["examples"] for number in range(plan.steps)]
    assert told == [3, 3, 3, 1, 3, 3, 3, 1]
    assert [plan.examples_until(done) for done in range(9)] == [0, 3, 6, 9, 10, 13, 16, 19, 20]
    totals = gauge.totals(plan.steps)
    assert totals["examples"] == 20
    assert totals["training_seconds"] == pytest.approx(0.01 * plan.tokens, abs=1e-3)
    assert totals["examples_per_second"] == pytest.approx(20 / (0.01 * plan.tokens), rel=1e-3)


def test_utilisation_is_work_over_time_over_rate(plan: Plan) -> None:
    work = Fixed()
    gauge = Gauge(plan, terms(plan), 2, machine=Machine(work, rate=200_000.0))
    (event,) = gauge.read("step", step(plan, 0, pace=0.01))
    assert event["utilisation"] == pytest.approx(0.5)
    assert sum(work.lengths) == event["tokens"]
    assert len(work.lengths) == 3
    assert "utilisation" not in next(Gauge(plan, terms(plan), 2).read("step", step(plan, 0)))


def test_the_time_left_is_that_of_the_tokens_and_evaluations_that_are_left(plan: Plan) -> None:
    gauge = Gauge(plan, terms(plan), 2)
    told = [next(gauge.read("step", step(plan, number))) for number in range(4)]
    assert ["seconds_left" in event for event in told] == [False, False, False, True]
    left = sum(tokens(plan, number) for number in range(4, 8)) * 0.01
    held = 2 * plan.validation[0].total() * 0.01
    low, high = told[-1]["seconds_left"]
    assert low == pytest.approx((left + held / 3) / 1.1, abs=0.1)
    assert high == pytest.approx((left + held) * 1.1, abs=0.1)
    (event,) = gauge.read("eval", evaluation(3, seconds=2.0))
    assert event == {"kind": "eval", **evaluation(3, seconds=2.0)}
    left -= tokens(plan, 4) * 0.01
    low, high = next(gauge.read("step", step(plan, 4)))["seconds_left"]
    assert (low, high) == (pytest.approx((left + 2.0) / 1.1, abs=0.1), pytest.approx((left + 2.0) * 1.1, abs=0.1))


def test_an_uneven_speed_makes_the_range_wider(plan: Plan) -> None:
    long = Plan(plan.train, plan.validation, 20, 3, seed=1)
    gauge = Gauge(long, terms(long), 20)
    for number in range(40):
        told = next(gauge.read("step", step(long, number, pace=0.01 if number // 6 % 2 else 0.03)))
    low, high = told["seconds_left"]
    assert high / low > 1.8


def test_a_resumed_run_goes_on_as_if_it_had_not_died(plan: Plan) -> None:
    whole = Gauge(plan, terms(plan), 2)
    told = [next(whole.read("step", step(plan, number))) for number in range(plan.steps)]
    past = [{"kind": "step", **step(plan, number)} for number in range(6)]
    resumed = Gauge(plan, terms(plan), 2, past)
    again = [next(resumed.read("step", step(plan, number))) for number in range(4, plan.steps)]
    assert again == told[4:]
    assert resumed.totals(plan.steps) == whole.totals(plan.steps)


def test_a_sign_follows_its_event_once_and_not_again_in_a_later_life(plan: Plan) -> None:
    long = Plan(plan.train, (), 20, 3, seed=1)
    gauge, told = Gauge(long, terms(long), 0), []
    for number in range(50):
        more = {"gradient_norm": 90.0 if number >= 40 else 0.5, "loss": 9.0 / (number + 1)}
        told += gauge.read("step", step(long, number, **more))
    signs = [event for event in told if event["kind"] == "log"]
    assert [(event["level"], event["sign"]) for event in signs] == [("warning", "explosion")]
    assert told.index(signs[0]) == 43, "behind the third far norm"
    again = Gauge(long, terms(long), 0, told)
    assert [event["kind"] for event in again.read("step", step(long, 50, gradient_norm=90.0))] == ["step"]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("base", ["llama", "qwen"])
def test_the_work_of_a_step_is_what_torch_counts(
    method: str, base: str, plan: Plan, request: pytest.FixtureRequest
) -> None:
    learner = load_learner(request.getfixturevalue(base), plan, method=method, rank=4, alpha=8.0, seed=0, device="cpu")
    work = flops.count(learner.model, learner.adapter.size() if learner.adapter else 0, full=method == "full")
    assert work is not None
    if learner.layout.blocks:
        # Blocks spare some of the work, and torch does not count what they add in place.
        block.remove(learner.model)
        learner.layout = replace(learner.layout, blocks=False)
    with FlopCounterMode(display=False) as counter:
        tally = learner.learn(0)
    lengths = [end - start for one in plan.examples(0) for start, end in plan.train.stretches(int(one))]
    # Products of matrices alone: how much of attention's triangle is computed is the attention's own matter.
    counted = sum(count for name, count in counter.get_flop_counts()["Global"].items() if name in (aten.mm, aten.addmm))
    ours = work.step(tally.tokens, tally.scored, [])
    if method == "full":
        assert counted == ours
    else:
        # No gradient goes below the lowest adapter, and what an adapter adds in place torch does not count.
        assert 0.85 * ours < counted <= ours
    assert work.step(tally.tokens, tally.scored, lengths) > ours


def test_a_mixture_of_experts_is_not_counted() -> None:
    config = MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=4,
    )  # fmt: skip
    assert flops.count(MixtralForCausalLM(config), 0, full=True) is None


def test_the_machine_s_rate_is_a_rate() -> None:
    rate = flops.rate(torch.device("cpu"), torch.float32)
    assert 1e8 < rate < 1e15
