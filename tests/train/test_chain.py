"""A customization upon a customization: what acts while it is trained, and that what is delivered is exactly that."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.lora import Adapters, Factors, LoraAdapter
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.loop import Course, train
from outcrop.train.text import TextLearner, load_learner
from outcrop.weights import load_model, save_model

IDS = torch.tensor([[0, 9, 33, 120, 7, 250]])

# PEFT asks transformers for a property that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """The same but for the order of float32 sums."""
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def drawn(model: torch.nn.Module, seed: int, rank: int, alpha: float, only: str = "") -> LoraAdapter:
    """An adapter that does something, on all layers or on those whose path has a word."""
    adapter = LoraAdapter.new(model, rank, alpha, seed)
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for path, pair in adapter.factors.items():
        b = torch.empty_like(pair.b).normal_(0, 0.1, generator=generator)
        if only in path:
            factors[path] = Factors(pair.a.detach(), b, pair.scale)
    return LoraAdapter(rank, alpha, factors)


def together(folder: Path, *adapters: LoraAdapter) -> torch.Tensor:
    """Logits of a base with several adapters that act at once."""
    model = load_model(folder, torch.float32)
    switch = Adapters(model)
    for index, adapter in enumerate(adapters):
        switch.attach(str(index), adapter)
    switch.act(*map(str, range(len(adapters))))
    logits: torch.Tensor = model(IDS).logits
    return logits


def with_peft(base: Path, adapter: Path) -> torch.Tensor:
    """Logits that plain transformers and PEFT give."""
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    logits: torch.Tensor = peft(IDS).logits
    return logits


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"rank": 4, "alpha": 8.0}, {"rank": 4, "alpha": 8.0}),
        ({"rank": 2, "alpha": 7.0}, {"rank": 5, "alpha": 3.0}),
        ({"rank": 3, "alpha": 5.0, "only": "self_attn"}, {"rank": 4, "alpha": 8.0, "only": "layers.1"}),
        ({"rank": 3, "alpha": 5.0, "only": "layers.0"}, {"rank": 4, "alpha": 8.0, "only": "mlp"}),
    ],
)
@pytest.mark.parametrize("name", ["llama", "qwen"])
def test_a_stack_does_what_both_do_together_for_us_and_for_peft(
    name: str, first: dict[str, float], second: dict[str, float], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(name)
    model = load_model(folder, torch.float32)
    parent, child = drawn(model, 1, **first), drawn(model, 2, **second)  # type: ignore[arg-type]
    expected = together(folder, parent, child)
    stack = child.over(parent)
    close(together(folder, stack), expected)
    for path in {*parent.factors, *child.factors}:
        parts = [adapter.factors[path].delta() for adapter in (parent, child) if path in adapter.factors]
        torch.testing.assert_close(stack.factors[path].delta(), torch.stack(parts).sum(0), atol=1e-6, rtol=1e-6)
    stack.write(tmp_path, str(folder))
    close(together(folder, LoraAdapter.read(tmp_path)), expected)
    close(with_peft(folder, tmp_path), expected)
    assert (expected - together(folder, parent)).abs().max() > 0.01
    assert (expected - together(folder, child)).abs().max() > 0.01


def test_a_foreign_parent_with_ranks_of_its_own_is_stacked(llama: Path, tmp_path: Path) -> None:
    torch.manual_seed(4)
    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["q_proj", "down_proj"],
        rank_pattern={"layers.1.self_attn.q_proj": 6},
        use_rslora=True,
        init_lora_weights=False,
    )
    peft = get_peft_model(AutoModelForCausalLM.from_pretrained(llama), config)
    peft.save_pretrained(str(tmp_path / "theirs"))
    parent = LoraAdapter.read(tmp_path / "theirs")
    close(together(llama, parent), peft.eval()(IDS).logits)
    child = drawn(load_model(llama), 2, 4, 8.0)
    stack = child.over(parent)
    assert {factors.a.shape[0] for factors in stack.factors.values()} == {10}
    stack.write(tmp_path / "stack", str(llama))
    close(with_peft(llama, tmp_path / "stack"), together(llama, parent, child))


def test_the_room_that_a_result_needs_is_known_before(llama: Path, plan: Plan, tmp_path: Path) -> None:
    adapter_parent(llama, tmp_path / "parent")
    for number, options in enumerate(
        ({}, {"parent": tmp_path / "parent"}, {"whole_parent": True}, {"method": "full"}, {"dtype": torch.bfloat16})
    ):
        learner = loaded(llama, plan, **options)
        learner.save(tmp_path / str(number), llama, "base")
        (written,) = (tmp_path / str(number)).glob("*.safetensors")
        header = 8 + int.from_bytes(written.read_bytes()[:8], "little")
        assert learner.result_bytes(llama) == written.stat().st_size - header


def test_unknown_adapters_do_not_act(llama: Path) -> None:
    model = load_model(llama)
    switch = Adapters(model)
    switch.attach("one", drawn(model, 1, 2, 2.0))
    with pytest.raises(KeyError):
        switch.act("one", "two")
    assert switch.acting == ()


@pytest.fixture
def plan(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    encoder = Encoder.read(llama)
    for name, start in (("train", 0), ("validation", 50)):
        source = write_pairs(12, f"{name}.jsonl", start)
        assert write_shard(source, "prompt-completion", encoder, tmp_path / "plan" / name, print) == 0
    return Plan(Shard.open(tmp_path / "plan/train"), (Shard.open(tmp_path / "plan/validation"),), 2, 4, seed=5)


def learn(learner: TextLearner, plan: Plan, folder: Path) -> None:
    """A few real steps through the loop."""
    course = Course(plan.steps, plan.steps_per_epoch, 5e-3, 0, "constant", 0.0, 1.0, 1e9)
    train(learner, course, Checkpoints(folder, "key"), lambda *told, **members: None, lambda: False)


def loaded(base: Path, plan: Plan, **options: object) -> TextLearner:
    given = {"method": "lora", "rank": 4, "alpha": 8.0, "seed": 0, "device": "cpu", "dtype": torch.float32}
    return load_learner(base, plan, **(given | options))  # type: ignore[arg-type]


def acting(learner: TextLearner) -> torch.Tensor:
    """The learner's logits as it would be asked, outside packed training."""
    learner.model.set_attn_implementation("sdpa")
    with torch.no_grad():
        logits: torch.Tensor = learner.model(IDS).logits
    return logits


def adapter_parent(llama: Path, folder: Path, rank: int = 3) -> LoraAdapter:
    parent = drawn(load_model(llama), 9, rank, 5.0)
    parent.write(folder, "base")
    return parent


def test_new_factors_learn_upon_the_frozen_parent_and_both_are_delivered(
    llama: Path, plan: Plan, tmp_path: Path
) -> None:
    parent = adapter_parent(llama, tmp_path / "parent")
    learner = loaded(llama, plan, parent=tmp_path / "parent")
    assert learner.adapter is not None
    close(acting(learner), together(llama, parent))
    learner = loaded(llama, plan, parent=tmp_path / "parent")
    assert learner.adapter is not None
    assert {id(one) for one in learner.parameters()} == {id(one) for one in learner.adapter.parameters()}
    assert sum(one.numel() for one in learner.parameters()) == learner.adapter.size()
    whole = load_model(llama)
    assert learner.total_parameters() == sum(one.numel() for one in whole.parameters()) + learner.adapter.size() + (
        parent.size()
    )
    learn(learner, plan, tmp_path / "checkpoint")
    learner.save(tmp_path / "result", llama, "base")
    result = LoraAdapter.read(tmp_path / "result")
    assert result.rank == 7
    for path, factors in result.factors.items():
        torch.testing.assert_close(factors.a[:3], parent.factors[path].a, rtol=0, atol=0)
        assert factors.b[:, 3:].abs().max() > 0
    expected = acting(learner)
    assert (expected - together(llama, parent)).abs().max() > 1e-3
    close(together(llama, result), expected)
    close(with_peft(llama, tmp_path / "result"), expected)
    again = loaded(llama, plan, parent=tmp_path / "result")
    close(acting(again), expected)


def test_every_generation_looks_in_directions_of_its_own(llama: Path, plan: Plan, tmp_path: Path) -> None:
    first = loaded(llama, plan)
    first.save(tmp_path / "first", llama, "base")
    second = loaded(llama, plan, parent=tmp_path / "first")
    second.save(tmp_path / "second", llama, "base")
    third = loaded(llama, plan, parent=tmp_path / "second")
    drawings = []
    for learner in (first, second, third):
        assert learner.adapter is not None
        drawings.append(next(iter(learner.adapter.factors.values())).a)
    assert not torch.equal(drawings[0], drawings[1])
    assert not torch.equal(drawings[1], drawings[2])
    again = loaded(llama, plan, parent=tmp_path / "second")
    assert again.adapter is not None
    assert torch.equal(next(iter(again.adapter.factors.values())).a, drawings[2])


def test_full_training_starts_from_the_base_with_the_parent_in_it(llama: Path, plan: Plan, tmp_path: Path) -> None:
    parent = adapter_parent(llama, tmp_path / "parent")
    learner = loaded(llama, plan, method="full", parent=tmp_path / "parent")
    close(acting(learner), together(llama, parent))
    learner = loaded(llama, plan, method="full", parent=tmp_path / "parent")
    learn(learner, plan, tmp_path / "checkpoint")
    learner.save(tmp_path / "result", llama, "base")
    assert not (tmp_path / "result" / "adapter_config.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "result")
    close(plain(IDS).logits, acting(learner))
    assert (plain(IDS).logits - together(llama, parent)).abs().max() > 1e-3


@pytest.mark.parametrize("method", ["lora", "full"])
def test_upon_a_whole_model_the_result_is_a_whole_model(method: str, llama: Path, plan: Plan, tmp_path: Path) -> None:
    parent = load_model(llama, torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in parent.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    save_model(parent, tmp_path / "parent", llama, torch.float32)
    learner = loaded(tmp_path / "parent", plan, method=method, whole_parent=True)
    learn(learner, plan, tmp_path / "checkpoint")
    expected = acting(learner)
    learner.save(tmp_path / "result", tmp_path / "parent", "base")
    names = {path.name for path in (tmp_path / "result").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.startswith("adapter")]
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "result")
    close(plain(IDS).logits, expected)
    assert (expected - parent(IDS).logits).abs().max() > 1e-3


def test_factors_trained_in_bfloat16_are_added_to_the_numbers_that_are_stored(
    llama: Path, plan: Plan, tmp_path: Path
) -> None:
    learner = loaded(llama, plan, dtype=torch.bfloat16, whole_parent=True)
    assert learner.adapter is not None
    learn(learner, plan, tmp_path / "checkpoint")
    learner.save(tmp_path / "result", llama, "base")
    before, after = (load_model(folder, torch.float32).state_dict() for folder in (llama, tmp_path / "result"))
    for path, factors in learner.adapter.factors.items():
        name = f"{path}.weight"
        torch.testing.assert_close(after[name], before[name] + factors.delta(), atol=1e-7, rtol=1e-7)
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
