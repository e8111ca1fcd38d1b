"""A step as one call gives the numbers that the same kernels give one after the other, bit by bit."""

import copy
import gc
import random
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from outcrop.engines import adapters, onecall
from outcrop.engines.batch import Batch, Part
from outcrop.engines.cache import Cache
from outcrop.engines.lean import PRODUCTS, LeanModel
from outcrop.engines.loaded import Loaded
from outcrop.kernels.product import pays
from outcrop.lora import LoraAdapter

SHAPE: dict[str, Any] = {
    "vocab_size": 70, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 1024, "initializer_range": 0.4, "dtype": "bfloat16",
}  # fmt: skip
WINDOWS = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 6}
KINDS = {
    "llama": LlamaConfig(**SHAPE),
    "qwen2, its table its head": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3, windows of some layers": Qwen3Config(**SHAPE, head_dim=16, use_sliding_window=True, **WINDOWS),
    "mistral, windows of all": MistralConfig(**SHAPE, sliding_window=5),
}
ROOM = 300

pytestmark = pytest.mark.skipif(not pays(), reason="the processor's products are not our own kernel's")


@dataclass(frozen=True)
class Both:
    """A model that takes steps as one call, and one that never does, over caches of their own."""

    one: LeanModel
    other: LeanModel
    caches: tuple[Cache, Cache]

    def step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            return self.one.run(batch, self.caches[0]).clone(), self.other.run(batch, self.caches[1])

    def adapter(self, name: str, adapter: LoraAdapter) -> Loaded:
        found = [model.gains.lay_out(name, adapter) for model in (self.one, self.other)]
        assert found[0].number == found[1].number
        return found[0]


@pytest.fixture(params=KINDS)
def both(request: pytest.FixtureRequest) -> Both:
    config = KINDS[request.param]
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for one in model.parameters():
            if one.ndim == 1:
                one.add_(torch.randn_like(one) * 0.2)
    weights = model.state_dict()
    models = []
    for _ in range(2):
        fresh = AutoModelForCausalLM.from_config(config)
        fresh.load_state_dict(weights)
        models.append(LeanModel(fresh))
    models[1]._one_call = None
    caches = [Cache(8 * ROOM, model.shapes, model.dtype, model.device) for model in models]
    return Both(models[0], models[1], (caches[0], caches[1]))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(onecall, "WORTH", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def adapter_for(kind: type, config: Any, seed: int, rank: int) -> LoraAdapter:
    adapter = LoraAdapter.new(kind(config), rank=rank, alpha=8.0, seed=seed)
    draw = torch.Generator().manual_seed(seed)
    for factors in adapter.factors.values():
        factors.a.data = torch.randn(factors.a.shape, generator=draw) * 0.3
        factors.b.data = torch.randn(factors.b.shape, generator=draw) * 0.3
    return adapter


def parts_of(lengths: list[int], draw: random.Random, owners: list[Loaded | None]) -> list[Part]:
    return [
        Part([draw.randrange(70)], length, number * ROOM, owners[number % len(owners)])
        for number, length in enumerate(lengths)
    ]


def fitting(both: Both) -> onecall.OneCall:
    found = both.one._one_call
    assert found is not None
    return found


@pytest.mark.usefixtures("threads")
def test_the_same_bits(both: Both) -> None:
    """Sequences of all lengths join, read their prompts in pieces, grow and leave, beside each other."""
    draw, device = random.Random(3), torch.device("cpu")
    lengths = [0] * 8
    kinds = set()
    for step in range(40):
        parts, budget = [], draw.choice((4, 20, 50))
        for number in draw.sample(range(8), draw.choice((1, 3, 8))):
            count = 1 if lengths[number] >= 30 else min(budget, draw.randint(1, 30), 30 - lengths[number])
            if count <= 0:
                continue
            wanted = draw.choice((0, 1, count)) if lengths[number] + count == 30 else int(lengths[number] >= 30)
            tokens = [draw.randrange(70) for _ in range(count)]
            parts.append(Part(tokens, lengths[number], number * ROOM, wanted=wanted))
            lengths[number] += count
            budget -= count
        if not parts:
            continue
        batch = Batch.of(parts, device)
        both.one.gains.begin(batch.groups, batch.rows)
        assert fitting(both).fit(batch)
        kinds.add((bool(batch.single), bool(batch.chunks), batch.answered == batch.rows))
        assert torch.equal(*both.step(batch)), step
    assert len(kinds) >= 4
    for mine, others in zip(both.caches[0].layers, both.caches[1].layers, strict=True):
        for number, length in enumerate(lengths):
            places = slice(number * ROOM, number * ROOM + length)
            assert all(torch.equal(a[:, places], b[:, places]) for a, b in zip(mine, others, strict=True))


def fill(both: Both) -> None:
    """As if all of it had been read."""
    draw = torch.Generator().manual_seed(0)
    for mine, others in zip(both.caches[0].layers, both.caches[1].layers, strict=True):
        for one, other in zip(mine, others, strict=True):
            one.copy_(torch.randn(one.shape, generator=draw))
            other.copy_(one)


@pytest.mark.usefixtures("threads")
def test_texts_longer_than_the_room_of_their_scores(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onecall, "REACH", 4)
    draw = random.Random(4)
    fill(both)
    for length in range(1, 70, 3):
        batch = Batch.of(parts_of([length - 1, max(0, length - 20)], draw, [None]), torch.device("cpu"))
        assert torch.equal(*both.step(batch)), length


@pytest.mark.usefixtures("threads")
def test_adapters_join_and_leave(both: Both, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of several adapters and of the base, few and many, whose number and owners change from step to step."""
    monkeypatch.setattr(adapters, "CROWD", 6)
    config = KINDS[request.node.callspec.params["both"]]
    kind = type(AutoModelForCausalLM.from_config(config))
    loaded = [
        both.adapter(f"a{seed}", adapter_for(kind, config, seed, rank)) for seed, rank in ((1, 4), (2, 3), (3, 8))
    ]
    draw, device = random.Random(6), torch.device("cpu")
    fill(both)
    for step in range(25):
        parts = [
            Part(
                [draw.randrange(70) for _ in range(draw.choice((1, 1, 3, 9)))],
                draw.choice((0, 5, 20)),
                number * ROOM,
                one,
            )
            for number, one in enumerate(draw.choice([None, *loaded]) for _ in range(draw.choice((2, 5, 8))))
        ]
        batch = Batch.of(parts, device)
        assert torch.equal(*both.step(batch)), step
    alone = Batch.of([Part([7] * 9, 0, 0, loaded[0])], device)
    gained = both.step(alone)[0]
    assert not torch.equal(gained, both.step(Batch.of([Part([7] * 9, 0, 0)], device))[0])


def test_factors_of_an_adapter_that_was_forgotten_are_gone_from_every_plan(
    both: Both, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other numbers of threads, too, which no step may ask for again; the next steps are the base's own."""
    monkeypatch.setattr(adapters, "CROWD", 6)
    device, config = torch.device("cpu"), KINDS[request.node.callspec.params["both"]]
    kind = type(AutoModelForCausalLM.from_config(config))
    loaded = both.adapter("a1", adapter_for(kind, config, 1, 4))
    fill(both)
    one, before = both.one, torch.get_num_threads()
    base = Batch.of([Part([7] * 9, 0, ROOM), Part([7] * 2, 0, 0)], device)
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            few, many = Part([7], 5, 0, loaded), Part([7] * 9, 0, ROOM, loaded)
            both.step(Batch.of([few, Part([7] * 3, 0, 2 * ROOM), many], device))
            assert (one.gains.thin is not None, len(one.gains.crowds)) == (True, 1)
        assert len(fitting(both)._planned) == 2
        factors = [pair[side]._laid for pair in loaded.paired if pair for side in (0, 1)]
        factors += [] if loaded.thin is None else loaded.thin.held
        kept = [weakref.ref(factor) for factor in factors]
        assert len(kept) == 4 * len(loaded.paired)
        for model in (one, both.other):
            model.gains.forget(loaded)
        del loaded, factors, few, many
        gc.collect()
        assert [found() for found in kept] == [None] * len(kept)
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert torch.equal(*both.step(base))
    finally:
        torch.set_num_threads(before)


@contextmanager
def failing(name: str, after: int) -> Iterator[None]:
    """As where memory cannot be had: so many of its calls succeed."""
    usual, left = getattr(onecall, name), iter(range(after))

    def made(*arguments: Any, **named: Any) -> Any:
        if next(left, None) is None:
            raise RuntimeError("no memory")
        return usual(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onecall, name, made)
        yield


@pytest.mark.parametrize("after", [1, 2, 3])
def test_prompts_of_a_step_that_failed_are_not_read_by_the_next(both: Both, after: int) -> None:
    draw, device = random.Random(7), torch.device("cpu")
    fill(both)
    answers = Batch.of(parts_of([5] * 8, draw, [None]), device)
    both.step(answers)
    prompts = Batch.of([Part([1, 2, 3], 0, number * ROOM) for number in range(4)], device)
    with failing("chunk_into", after), pytest.raises(RuntimeError, match="no memory"):
        both.step(prompts)
    assert torch.equal(*both.step(answers))
    assert torch.equal(*both.step(prompts))


@pytest.mark.parametrize("after", [1, 6, 13])
def test_adapters_of_a_step_that_failed_gain_nothing_in_the_next(
    both: Both, after: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "CROWD", 6)
    device, config = torch.device("cpu"), KINDS[request.node.callspec.params["both"]]
    kind = type(AutoModelForCausalLM.from_config(config))
    first, second = (both.adapter(f"a{seed}", adapter_for(kind, config, seed, 4)) for seed in (1, 2))
    fill(both)
    alone = Batch.of([Part([7] * 8, 0, 0, first)], device)
    both.step(alone)
    several = Batch.of([Part([7] * 9, 0, ROOM, second), Part([7] * 8, 0, 0, first)], device)
    with failing("_shares", after), pytest.raises(RuntimeError, match="no memory"):
        both.step(several)
    assert torch.equal(*both.step(alone))
    assert torch.equal(*both.step(Batch.of([Part([7] * 17, 0, 0)], device)))


def test_adapters_of_layers_that_read_odd_numbers() -> None:
    """Which nothing multiplies by pairs: not as one call, and not at all by our own products."""
    config = LlamaConfig(**{**SHAPE, "intermediate_size": 49})
    model = AutoModelForCausalLM.from_config(config)
    lean, kind = LeanModel(model), type(model)
    loaded = lean.gains.lay_out("odd", adapter_for(kind, config, 1, 4))
    cache = Cache(2 * ROOM, lean.shapes, lean.dtype, lean.device)
    with torch.inference_mode():
        found = [lean.run(Batch.of([Part([7] * 40, 0, 0, one)], lean.device), cache).float() for one in (loaded, None)]
    assert bool(found[0].isfinite().all())
    assert not torch.equal(*found)


def test_an_adapter_adds_to_what_lies_end_to_end(both: Both, request: pytest.FixtureRequest) -> None:
    config = KINDS[request.node.callspec.params["both"]]
    kind = type(AutoModelForCausalLM.from_config(config))
    loaded = both.adapter("a1", adapter_for(kind, config, 1, 4))
    x, y = torch.ones(40, 32).bfloat16(), torch.zeros(40, 32).bfloat16()
    loaded.add(1, x if both.one._width == 8 else x.repeat(1, 2), y)
    for other in (y.float(), torch.zeros(32, 40).bfloat16().t(), y[:, :31], y[:39]):
        with pytest.raises(RuntimeError, match="does not add to"):
            loaded.add(1, x if both.one._width == 8 else x.repeat(1, 2), other)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_no_one_call_and_is_answered_layer_by_layer(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its products are torch's: a program of kernels would read its weights as numbers of another width."""
    torch.manual_seed(5)
    model = AutoModelForCausalLM.from_config(KINDS[kind]).train(False)
    assert LeanModel(copy.deepcopy(model))._one_call is not None
    model = model.float()
    lean = LeanModel(copy.deepcopy(model))
    assert (lean._one_call, lean.dtype) == (None, torch.float32)
    seen, block = [], lean._block

    def layer(target: int, *rest: Any) -> Tensor:
        seen.append(target)
        return block(target, *rest)

    monkeypatch.setattr(lean, "_block", layer)
    cache = Cache(2 * ROOM, lean.shapes, lean.dtype, lean.device)
    ids = [7, 3, 60, 12, 5, 44, 9, 21]
    with torch.inference_mode():
        prompt = lean.run(Batch.of([Part(ids[:-1], 0, ROOM, wanted=7)], lean.device), cache).clone()
        answer = lean.run(Batch.of([Part(ids[-1:], 7, ROOM)], lean.device), cache)
        expected = model(torch.tensor([ids])).logits[0]
    assert seen == [number * PRODUCTS for number in range(len(lean.shapes))] * 2
    assert torch.cat([prompt, answer]).sub(expected).abs().max() < 1e-5 * expected.abs().max()


def test_what_is_no_one_call(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows, prompts or crowds than there is room for go the model's own way."""
    device = torch.device("cpu")
    fill(both)
    batch = Batch.of([Part([1, 2, 3], 0, number * ROOM) for number in range(3)], device)
    both.one.gains.begin(batch.groups, batch.rows)
    assert fitting(both).fit(batch)
    for name, most in (("MOST", 8), ("CHUNKS", 2), ("CROWDS", -1)):
        with monkeypatch.context() as patch:
            patch.setattr(onecall, name, most)
            assert not fitting(both).fit(batch)
            assert torch.equal(*both.step(batch))
