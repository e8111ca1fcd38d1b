"""Packed training is exact: the same losses and gradients as each example alone, and as PEFT with transformers."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.lora import Adapters, LoraAdapter
from outcrop.train import attention
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.loop import Course, Progress, train
from outcrop.train.text import TextLearner, load_learner, pack
from tests.train.labels import per_label

CPU = torch.device("cpu")


def plan_of(base: Path, source: Path, folder: Path, *, batch: int = 4, epochs: int = 1) -> Plan:
    assert write_shard(source, "prompt-completion", Encoder.read(base), folder / "shard", lambda fault: None) == 0
    return Plan(Shard.open(folder / "shard"), (), epochs, batch, seed=5)


def lora(base: Path, plan: Plan) -> TextLearner:
    learner = load_learner(base, plan, method="lora", rank=4, alpha=8.0, seed=3, device="cpu")
    assert learner.adapter is not None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for factors in learner.adapter.factors.values():
            factors.b.normal_(0, 0.05, generator=generator)
    return learner


def gradients(learner: TextLearner) -> list[torch.Tensor]:
    found = []
    for parameter in learner.parameters():
        assert parameter.grad is not None
        found.append(parameter.grad.clone())
        parameter.grad = None
    return found


def reference_nll(model: torch.nn.Module, shard: Shard, index: int) -> torch.Tensor:
    """NLL of each label of one example, by transformers' own sdpa and a full-width head."""
    ids, scored = shard.example(index)
    row = torch.from_numpy(ids.astype(np.int64)).unsqueeze(0)
    logits = model(input_ids=row, use_cache=False).logits[0, :-1].float()
    nll = cross_entropy(logits, row[0, 1:], reduction="none")
    return nll[torch.from_numpy(scored[1:].astype(bool))]


@pytest.mark.parametrize("base", ["llama", "qwen"])
def test_every_label_costs_the_same_packed_or_alone(
    base: str, request: pytest.FixtureRequest, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(base)
    plan = plan_of(folder, write_pairs(12), tmp_path)
    learner = lora(folder, plan)
    plain = AutoModelForCausalLM.from_pretrained(folder)
    adapters = Adapters(plain)
    assert learner.adapter is not None
    adapters.attach("same", learner.adapter)
    order = [3, 0, 7, 7, 1, 11, 5]
    packed = per_label(learner, pack(plan.train, order, CPU))
    with adapters.active("same"):
        alone = torch.cat([reference_nll(plain, plan.train, index) for index in order])
    assert packed.shape == alone.shape
    torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-5)


def test_gradients_do_not_depend_on_layout(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    plan = plan_of(llama, write_pairs(12), tmp_path)
    learner = lora(llama, plan)
    examples = [0, 1, 2, 3, 4, 5, 6]
    results = []
    for layout in ([examples], [examples[::-1]], [[index] for index in examples], [examples[:2], examples[2:]]):
        total = 0.0
        for group in layout:
            nll = per_label(learner, pack(plan.train, group, CPU)).sum()
            torch.autograd.backward(nll)
            total += float(nll.detach())
        results.append((total, gradients(learner)))
    for total, found in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-6)
        for one, other in zip(found, results[0][1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_token_budget_changes_no_loss(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    plan = plan_of(llama, write_pairs(8), tmp_path, batch=8)
    learner = lora(llama, plan)
    whole = learner.learn(0)
    whole_gradients = gradients(learner)
    narrow = TextLearner(learner.layout, plan, learner.adapter, token_budget=20)
    pieces = narrow.learn(0)
    assert (pieces.tokens, pieces.scored) == (whole.tokens, whole.scored)
    assert pieces.nll == pytest.approx(whole.nll, rel=1e-6)
    for one, other in zip(gradients(narrow), whole_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_step_without_labels_has_no_gradient(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    plan = plan_of(llama, write_pairs(4), tmp_path)
    silent = replace(plan.train, scored=np.zeros_like(plan.train.scored))
    learner = lora(llama, Plan(silent, (), 1, 4, seed=0))
    tally = learner.learn(0)
    assert (tally.nll, tally.scored) == (0.0, 0)
    assert tally.tokens == plan.train.offsets[-1]
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in learner.parameters())


def test_loss_weighs_tokens_not_examples(llama: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    plan = plan_of(llama, write_pairs(4), tmp_path, batch=4)
    learner = lora(llama, plan)
    tally = learner.learn(0)
    by_example = [per_label(learner, pack(plan.train, [index], CPU)).detach() for index in range(4)]
    assert len({len(nll) for nll in by_example}) > 1
    assert tally.scored == sum(len(nll) for nll in by_example)
    assert tally.nll == pytest.approx(float(torch.cat(by_example).double().sum()), rel=1e-6)


def test_bfloat16_computes_the_same_loss_and_trains_float32_factors(
    llama: Path, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    plan = plan_of(llama, write_pairs(8), tmp_path, batch=8)
    found = []
    for dtype in ("float32", "bfloat16"):
        learner = load_learner(llama, plan, method="lora", rank=4, alpha=8.0, seed=3, device="cpu", dtype=dtype)
        assert str(learner.dtype) == f"torch.{dtype}"
        assert {parameter.dtype for parameter in learner.parameters()} == {torch.float32}
        tally = learner.learn(0)
        found.append((tally.nll, torch.cat([gradient.flatten() for gradient in gradients(learner)])))
    (exact, direction), (rounded, other) = found
    assert rounded == pytest.approx(exact, rel=1e-2)
    assert torch.cosine_similarity(direction, other, dim=0) > 0.99


OTHERS = {
    "mistral with a window of 5": (
        MistralForCausalLM,
        MistralConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, sliding_window=5, head_dim=8,
        ),
    ),
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8,
        ),
    ),
    "gemma3, one layer of two with a window": (
        Gemma3ForCausalLM,
        Gemma3TextConfig(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=8, sliding_window=6, layer_types=["sliding_attention", "full_attention"],
        ),
    ),
    "phi3": (
        Phi3ForCausalLM,
        Phi3Config(
            vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, pad_token_id=0,
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_other_architectures_are_exact_too(
    kind: str, qwen: Path, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    make, config = OTHERS[kind]
    torch.manual_seed(2)
    folder = tmp_path / "base"
    make(config).save_pretrained(folder)
    plan = plan_of(qwen, write_pairs(6), tmp_path)
    assert plan.train.lengths().max() > 10
    learner = load_learner(folder, plan, method="lora", rank=2, alpha=4.0, seed=0, device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    order = [4, 1, 5, 0]
    packed = per_label(learner, pack(plan.train, order, CPU))
    alone = torch.cat([reference_nll(plain, plan.train, index) for index in order])
    torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-4)


def test_an_architecture_that_cannot_be_packed_is_refused(
    qwen: Path, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    config = MistralConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    folder = tmp_path / "base"
    MistralForCausalLM(config).save_pretrained(folder)
    plan = plan_of(qwen, write_pairs(2), tmp_path)
    learner = load_learner(folder, plan, method="lora", rank=2, alpha=4.0, seed=0, device="cpu")
    with pytest.raises(OutcropError, match="does not hand on its segments"):
        learner.model(input_ids=torch.zeros(1, 4, dtype=torch.int64), use_cache=False)


def test_whole_models_of_older_kinds_learn_or_are_refused(
    qwen: Path, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    config = GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=1)
    GPT2LMHeadModel(config).save_pretrained(folder)
    plan = plan_of(qwen, write_pairs(4), tmp_path)
    with pytest.raises(OutcropError, match="no linear layer"):
        load_learner(folder, plan, method="lora", rank=2, alpha=4.0, seed=0, device="cpu")
    learner = load_learner(folder, plan, method="full", rank=2, alpha=4.0, seed=0, device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").train(False)
    packed = per_label(learner, pack(plan.train, [2, 0], CPU))
    alone = torch.cat([reference_nll(plain, plan.train, index) for index in (2, 0)])
    torch.testing.assert_close(packed, alone, atol=2e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("method", ["lora", "full"])
def test_twenty_steps_equal_peft_and_transformers(
    method: str, llama: Path, write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    plan = plan_of(llama, write_pairs(30), tmp_path, batch=3, epochs=2)
    learner = load_learner(llama, plan, method=method, rank=4, alpha=8.0, seed=3, device="cpu")
    course = Course(
        steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, learning_rate=5e-3, warmup_steps=3, schedule="linear",
        weight_decay=0.01, clip=1.0, checkpoint_seconds=1e9,
    )  # fmt: skip
    reference = _reference_model(method, llama, learner)
    losses: list[float] = []
    norms: list[float] = []

    def emit(kind: str, **fields: float) -> None:
        if kind == "step":
            losses.append(fields["loss"])
            norms.append(fields["gradient_norm"])

    outcome = train(learner, course, Checkpoints(tmp_path / "checkpoint", "k"), emit, lambda: False)
    expected = _reference_run(reference, plan, course)
    assert plan.steps == 20
    assert losses == pytest.approx([loss for loss, _ in expected], rel=2e-4)
    assert losses[0] == pytest.approx(expected[0][0], rel=1e-6)
    assert norms == pytest.approx([norm for _, norm in expected], rel=5e-3)
    assert losses[-1] < losses[0]
    _check_summary(outcome, plan, losses)


def _check_summary(outcome: Progress, plan: Plan, losses: list[float]) -> None:
    """The last epoch's mean, weighted by labels."""
    first = plan.steps - plan.steps_per_epoch
    labels = [
        sum(int(plan.train.example(int(index))[1].sum()) for index in plan.examples(step))
        for step in range(first, plan.steps)
    ]
    weighted = sum(loss * count for loss, count in zip(losses[first:], labels, strict=True)) / sum(labels)
    assert outcome.training_loss == pytest.approx(weighted, rel=1e-9)
    assert outcome.tokens == plan.tokens
    assert outcome.scored == plan.scored_tokens


def _reference_model(method: str, base: Path, learner: TextLearner) -> torch.nn.Module:
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if method == "full":
        return plain
    assert learner.adapter is not None
    targets = sorted({path.rsplit(".", 1)[-1] for path in learner.adapter.factors})
    tuned = get_peft_model(plain, LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM"))
    own = learner.adapter.tensors()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(own[name.replace(".default", "")])
    return tuned


def _reference_run(model: torch.nn.Module, plan: Plan, course: Course) -> list[tuple[float, float]]:
    """Loss and gradient norm of every step, example by example, by plain torch and PEFT."""
    model.eval()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim >= 2]
    vectors = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=(0.9, 0.95))
    found = []
    for step in range(plan.steps):
        warm = (step + 1) / 3 if step < 3 else (plan.steps - step) / (plan.steps - 3)
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * warm
        optimizer.zero_grad()
        nll = torch.cat([reference_nll(model, plan.train, int(index)) for index in plan.examples(step)])
        torch.autograd.backward(nll.mean())
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        found.append((float(nll.detach().mean()), float(norm)))
    return found


def test_the_attention_hook_is_named_and_importing_registers_nothing() -> None:
    assert attention.NAME == "outcrop_segments"
    assert list(attention.runs([3, 3, 2, 3])) == [(3, 2), (2, 1), (3, 1)]
    assert LoraAdapter.__slots__ is not None
