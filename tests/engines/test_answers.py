"""A step of answers as one call gives the numbers that the same kernels give one after the other, bit by bit."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from outcrop.engines import answers
from outcrop.engines.batch import Batch, Part
from outcrop.engines.cache import Cache
from outcrop.engines.lean import LeanModel
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
    models[1]._answers = None
    caches = [Cache(8 * ROOM, model.shapes, model.dtype, model.device) for model in models]
    return Both(models[0], models[1], (caches[0], caches[1]))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(answers, "WORTH", 0)
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


def parts_of(lengths: list[int], draw: random.Random, adapters: list[Loaded | None]) -> list[Part]:
    return [
        Part([draw.randrange(70)], length, number * ROOM, adapters[number % len(adapters)])
        for number, length in enumerate(lengths)
    ]


@pytest.mark.usefixtures("threads")
def test_the_same_bits(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of all lengths join, grow and leave."""
    # Fewer than are asked for: programs are made anew and let go of meanwhile.
    monkeypatch.setattr(answers, "KEPT", 2)
    draw = random.Random(3)
    prompts = [Part([draw.randrange(70) for _ in range(30)], 0, number * ROOM) for number in range(8)]
    first = both.step(Batch.of(prompts, torch.device("cpu")))
    assert torch.equal(*first)
    fit = both.one._answers
    assert fit is not None
    lengths = [30] * 8
    taken = 0
    for step in range(30):
        count = draw.choice((1, 3, 8, 8))
        batch = Batch.of(parts_of(lengths[:count], draw, [None]), torch.device("cpu"))
        both.one.gains.begin(batch.groups, batch.rows)
        assert fit.fit(batch)
        assert torch.equal(*both.step(batch)), step
        for number in range(count):
            # Also beyond what attention's room was made for.
            lengths[number] += 1
        taken += count
    assert taken > 60
    for mine, others in zip(both.caches[0].layers, both.caches[1].layers, strict=True):
        for number, length in enumerate(lengths):
            places = slice(number * ROOM, number * ROOM + length)
            assert all(torch.equal(a[:, places], b[:, places]) for a, b in zip(mine, others, strict=True))


@pytest.mark.usefixtures("threads")
def test_texts_longer_than_the_room_of_their_scores(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "REACH", 16)
    draw = random.Random(4)
    for length in range(1, 70, 3):
        batch = Batch.of(parts_of([length - 1, max(0, length - 20)], draw, [None]), torch.device("cpu"))
        for cache in both.caches:
            for keys, values in cache.layers:
                if length == 1:
                    keys.fill_(0.25)
                    values.fill_(0.5)
        assert torch.equal(*both.step(batch)), length


@pytest.mark.usefixtures("threads")
def test_adapters_join_and_leave(both: Both, request: pytest.FixtureRequest) -> None:
    """Rows of several adapters and of the base, whose number and owners change from step to step."""
    config = KINDS[request.node.callspec.params["both"]]
    kind = type(AutoModelForCausalLM.from_config(config))
    loaded = [
        both.adapter(f"a{seed}", adapter_for(kind, config, seed, rank)) for seed, rank in ((1, 4), (2, 3), (3, 8))
    ]
    draw = random.Random(6)
    for cache in both.caches:
        for keys, values in cache.layers:
            keys.fill_(0.25)
            values.fill_(0.5)
    plain = None
    for step in range(20):
        adapters = [draw.choice([None, *loaded]) for _ in range(5)]
        batch = Batch.of(parts_of([5, 9, 20, 3, 7], random.Random(1), adapters), torch.device("cpu"))
        found, wanted = both.step(batch)
        assert torch.equal(found, wanted), step
        if not any(adapters):
            plain = found
    assert plain is None or not torch.equal(found, plain)


def test_what_is_no_step_of_answers(both: Both) -> None:
    """Prompts, and tokens whose logits nobody wants, go the model's own way."""
    fit = both.one._answers
    assert fit is not None
    for cache in both.caches:
        for layer in cache.layers:
            for one in layer:
                one.fill_(0.25)
    device = torch.device("cpu")
    answer, prompt = Part([1], 3, 0), Part([1, 2], 0, ROOM)
    unasked = Part([1], 3, 2 * ROOM, wanted=0)
    assert fit.fit(Batch.of([answer], device))
    for parts in ([answer, prompt], [answer, unasked], [prompt]):
        batch = Batch.of(parts, device)
        assert not fit.fit(batch)
        assert torch.equal(*both.step(batch))
