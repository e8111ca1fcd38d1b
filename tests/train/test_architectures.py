"""Seven kinds of decoder with random weights: trained, saved, read by plain transformers and PEFT, merged and served.

Windows shorter than the examples, capped scores, tied embeddings, fused projections, shards, heads wider than their
share, added tokens, no padding token, several end tokens: each kind brings some of them.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tokenizers import AddedToken, Tokenizer
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from outcrop import weights
from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.engines.sequence import Output
from outcrop.engines.text import TextEngine
from outcrop.lora import Adapters, LoraAdapter, merge
from outcrop.records import Prompt
from outcrop.train.checkpoint import Checkpoints
from outcrop.train.loop import Course, train
from outcrop.train.text import TextLearner, load_learner, pack
from tests.train.labels import per_label

# PEFT asks transformers for a property that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CPU = torch.device("cpu")
SHAPE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": None, "initializer_range": 0.2,
}  # fmt: skip
LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6}
KINDS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaConfig(**SHAPE, tie_word_embeddings=False),
    "qwen2": lambda: Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=32),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=5, head_dim=16),
    "gemma2": lambda: Gemma2Config(
        **SHAPE, **LAYERS, head_dim=32, query_pre_attn_scalar=20, attn_logit_softcapping=0.5,
        final_logit_softcapping=3.0, tie_word_embeddings=True,
    ),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, **LAYERS, head_dim=32, query_pre_attn_scalar=20),
    "phi3": lambda: Phi3Config(**SHAPE, tie_word_embeddings=False),
}  # fmt: skip


@pytest.fixture(scope="session", params=KINDS)
def base(request: pytest.FixtureRequest, llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one kind, in shards, as save_pretrained writes it; its name is the kind."""
    folder = tmp_path_factory.mktemp("kinds") / request.param
    folder.mkdir()
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(KINDS[request.param]())
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=[1, 300])
    model.save_pretrained(folder, max_shard_size="60KB")
    tokenizer = Tokenizer.from_file(str(llama / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken("<|turn_end|>", special=True)])
    tokenizer.save(str(folder / "tokenizer.json"))
    shutil.copy(llama / "tokenizer_config.json", folder)
    return folder


@pytest.fixture
def plan(base: Path, write_pairs: Callable[..., Path], tmp_path: Path) -> Plan:
    """Twelve examples of many lengths, four a step."""
    encoder = Encoder.read(base)
    shard = tmp_path / "shard"
    assert write_shard(write_pairs(12), "prompt-completion", encoder, shard, lambda fault: None) == 0
    return Plan(Shard.open(shard), (), 2, 4, seed=5)


def trained(base: Path, plan: Plan, method: str, tmp_path: Path) -> TextLearner:
    """A learner after all its steps."""
    learner = load_learner(base, plan, method=method, rank=4, alpha=8.0, seed=3, device="cpu", dtype="float32")
    course = Course(
        steps=plan.steps, steps_per_epoch=plan.steps_per_epoch, learning_rate=2e-2 if method == "lora" else 2e-3,
        warmup_steps=0, schedule="constant", weight_decay=0.0, clip=1.0, checkpoint_seconds=1e9,
    )  # fmt: skip
    losses: list[float] = []

    def emit(kind: str, **fields: Any) -> None:
        if kind == "step":
            losses.append(fields["loss"])

    train(learner, course, Checkpoints(tmp_path / "checkpoint", "k"), emit, lambda: False)
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.05
    return learner


def plain(folder: Path, attention: str = "eager") -> Any:
    """The model as plain transformers loads it; eager attention is its own reference."""
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, dtype=torch.float32).eval()


def row_of(plan: Plan, index: int) -> torch.Tensor:
    return torch.from_numpy(plan.train.example(index)[0].astype(np.int64)).unsqueeze(0)


def our_logits(learner: TextLearner, plan: Plan, index: int) -> torch.Tensor:
    """Through training's own attention."""
    ids = row_of(plan, index)
    with torch.no_grad():
        return learner.model(input_ids=ids, segments=(ids.shape[1],), use_cache=False).logits.float()


def same(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_an_adapter_is_the_same_in_peft_and_merged(base: Path, plan: Plan, tmp_path: Path) -> None:
    learner = trained(base, plan, "lora", tmp_path)
    learner.save(tmp_path / "adapter", base, str(base))
    tuned = PeftModel.from_pretrained(plain(base), tmp_path / "adapter")
    adapter = LoraAdapter.read(tmp_path / "adapter")
    model = weights.load_model(base, torch.float32)
    merge(model, adapter)
    weights.save_model(model, tmp_path / "merged", base, torch.float32)
    merged, untouched = plain(tmp_path / "merged"), plain(base)
    by_peft = tuned.merge_and_unload()
    apart = {"_name_or_path": None, "dtype": None}
    assert merged.config.to_dict() | apart == untouched.config.to_dict() | apart
    # Tied embeddings stay one tensor: an adapter never touches them.
    assert torch.equal(merged.get_input_embeddings().weight, untouched.get_input_embeddings().weight)
    for index in range(len(plan.train)):
        ids, own = row_of(plan, index), our_logits(learner, plan, index)
        with torch.no_grad():
            same(own, merged(ids).logits)
            same(own, by_peft(ids).logits)
            assert (own - untouched(ids).logits).abs().max() > 0.02
    assert (tmp_path / "merged" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"] == [1, 300]


def test_an_adapter_acts_in_peft_as_in_ours_unmerged(base: Path, plan: Plan, tmp_path: Path) -> None:
    learner = load_learner(base, plan, method="lora", rank=4, alpha=8.0, seed=3, device="cpu", dtype="float32")
    assert learner.adapter is not None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for factors in learner.adapter.factors.values():
            factors.b.normal_(0, 0.05, generator=generator)
    learner.save(tmp_path / "adapter", base, str(base))
    tuned = PeftModel.from_pretrained(plain(base), tmp_path / "adapter").eval()
    served = weights.load_model(base, torch.float32)
    adapters = Adapters(served)
    adapters.attach("a", LoraAdapter.read(tmp_path / "adapter"))
    with torch.no_grad(), adapters.active("a"):
        for index in (3, 7):
            ids, own = row_of(plan, index), our_logits(learner, plan, index)
            same(own, tuned(ids).logits)
            same(own, served(ids).logits)


def test_a_whole_model_is_the_same_in_plain_transformers(base: Path, plan: Plan, tmp_path: Path) -> None:
    learner = trained(base, plan, "full", tmp_path)
    learner.save(tmp_path / "model", base, str(base))
    again, untouched = plain(tmp_path / "model"), plain(base)
    tied = untouched.config.tie_word_embeddings
    assert (again.get_input_embeddings().weight is again.get_output_embeddings().weight) == tied
    assert weights.stored_dtype(tmp_path / "model") == weights.stored_dtype(base)
    with torch.no_grad():
        for index in range(len(plan.train)):
            ids, own = row_of(plan, index), our_logits(learner, plan, index)
            same(own, again(ids).logits)
            assert (own - untouched(ids).logits).abs().max() > 0.02


def test_packed_equals_alone_in_eager_attention(base: Path, plan: Plan) -> None:
    assert plan.train.lengths().max() > 12, "no example is longer than the windows"
    learner = load_learner(base, plan, method="full", rank=0, alpha=0.0, seed=3, device="cpu")
    reference = plain(base)
    order = [3, 0, 7, 7, 1, 11, 5]
    packed = per_label(learner, pack(plan.train, order, CPU))
    alone = []
    for index in order:
        ids, marks = row_of(plan, index), torch.from_numpy(plan.train.example(index)[1].astype(bool))
        nll = cross_entropy(reference(ids, use_cache=False).logits[0, :-1], ids[0, 1:], reduction="none")
        alone.append(nll[marks[1:]])
    same(packed, torch.cat(alone))
    torch.autograd.backward(packed.sum())
    torch.autograd.backward(torch.cat(alone).sum())
    gradients = dict(reference.named_parameters())
    for name, parameter in learner.model.named_parameters():
        assert parameter.grad is not None
        scale = float(gradients[name].grad.abs().max())
        torch.testing.assert_close(parameter.grad, gradients[name].grad, atol=2e-5 * max(scale, 1.0), rtol=1e-3)


@pytest.mark.parametrize("words", [1, 9])
def test_the_engine_answers_as_generate_does(base: Path, words: int) -> None:
    # Prompts are read in pieces that are shorter than the prompt and than the windows, and end inside them.
    encoder = Encoder.read(base)
    engine = TextEngine(weights.load_model(base, torch.float32), encoder, name="base", step_tokens=4)
    prompt = "the order is late where is 配送 " * words
    outputs: list[Output] = []
    engine.submit("base", Prompt(prompt, max_tokens=24, temperature=0), outputs.append)
    while not outputs or outputs[-1].finish is None:
        engine.step()
    assert outputs[-1].failure is None
    ids = torch.tensor(encoder.prompts([prompt]))
    assert ids.shape[1] > 6
    made = plain(base).generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    expected = [token for token in made[0, ids.shape[1] :].tolist() if token not in (1, 300)]
    # A character that the last token leaves half written is never told.
    said, written = "".join(output.text for output in outputs), encoder.tokenizer.decode(expected)
    assert len(said) > 10
    assert said.rstrip("\N{REPLACEMENT CHARACTER}") == written.rstrip("\N{REPLACEMENT CHARACTER}")
    assert outputs[-1].prompt_tokens == ids.shape[1]
