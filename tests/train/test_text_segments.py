"""Conversations and packed documents cost what each of their stretches costs alone, in plain transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from outcrop.datasets.plan import Plan
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.train.text import TextLearner, load_learner
from tests.train.labels import per_label

REWRITING = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ 'A: ' + message['content'] }}"
    "{% if loop.last %}{{ eos_token }}{% endif %}{{ '\n' }}{% else %}{{ 'Q: ' + message['content'] + '\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
)
WORDS = ["the order", "a parcel", "is late", "was lost", "where is", "thank you", "配送", "返金", "please wait"]


def said(index: int, count: int) -> str:
    return " ".join(WORDS[(index * 5 + word * 7) % len(WORDS)] for word in range(count))


@pytest.fixture(params=["llama", "qwen"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """A small base, with a chat template where one is given."""
    source: Path = request.getfixturevalue(request.param)

    def copy(template: str | None) -> Path:
        folder = tmp_path / "base"
        shutil.copytree(source, folder)
        if template is not None:
            (folder / "chat_template.jinja").write_text(template)
        return folder

    return copy


def conversations(count: int) -> list[object]:
    found: list[object] = []
    for index in range(count):
        turns = [
            {"role": ("user", "assistant")[place % 2], "content": said(index + place, 1 + (index + place) % 2)}
            for place in range(2 + 2 * (index % 2))
        ]
        found.append({"messages": turns} | ({"system": said(index, 1)} if index % 2 else {}))
    return found


def documents(count: int) -> list[object]:
    return [{"input": said(index, 1 + (index * 3) % 11)} for index in range(count)]


def plan_of(base: Path, lines: list[object], format: str, folder: Path, longest: int | None = None) -> Plan:
    source = folder / "data.jsonl"
    source.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    assert write_shard(source, format, Encoder.read(base), folder / "shard", print, longest=longest) == 0
    return Plan(Shard.open(folder / "shard"), (), epochs=1, batch_size=1000, seed=2)


def alone(model: torch.nn.Module, shard: Shard, examples: list[int]) -> torch.Tensor:
    """The sum of the labels' NLL, every segment a sequence of its own that knows of no other, as exact as the model."""
    found = []
    for index in examples:
        ids, scored = shard.example(index)
        cuts = np.cumsum(shard.segments(index))[:-1]
        for tokens, marks in zip(np.split(ids, cuts), np.split(scored, cuts), strict=True):
            row = torch.from_numpy(tokens.astype(np.int64)).unsqueeze(0)
            logits = model(input_ids=row, use_cache=False).logits[0, :-1]
            nll = cross_entropy(logits, row[0, 1:], reduction="none")
            found.append(nll[torch.from_numpy(marks[1:].astype(bool))].sum())
    return torch.stack(found).sum()


CASES = {
    "conversations, the house's template": ("messages", None, conversations(9), None),
    "conversations, each answer behind its own prompt": ("messages", REWRITING, conversations(9), None),
    "documents": ("text", None, documents(30), 24),
}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradients_are_those_of_every_segment_alone(
    case: str, base: Callable[..., Path], tmp_path: Path
) -> None:
    form, template, lines, longest = CASES[case]
    folder = base(template)
    plan = plan_of(folder, lines, form, tmp_path, longest)
    shard = plan.train
    several = [index for index in range(len(shard)) if len(shard.segments(index)) > 1]
    assert bool(several) == (case != "conversations, the house's template")
    learner = load_learner(folder, plan, method="full", rank=0, alpha=0.0, seed=1, device="cpu", dtype="float32")
    tally = learner.learn(0)
    packed = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
    # In float32 its own rounding would be several times that of what is tested.
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).train(False)
    total = alone(plain, shard, plan.examples(0).tolist())
    torch.autograd.backward(total / tally.scored)
    assert tally.scored == shard.scored_tokens()
    assert tally.nll == pytest.approx(float(total.detach()), rel=1e-6)
    for name, parameter in plain.named_parameters():
        own = packed[name]
        assert parameter.grad is not None
        assert own is not None
        torch.testing.assert_close(own.double(), parameter.grad, atol=2e-6, rtol=1e-4)
    narrow = TextLearner(learner.layout, plan, None, token_budget=30)
    learner.model.zero_grad()
    assert narrow.learn(0).nll == pytest.approx(tally.nll, rel=1e-6)


def test_a_document_does_not_see_the_one_before_it(base: Callable[..., Path], tmp_path: Path) -> None:
    folder = base(None)
    losses = []
    for first in ("thank you", "was lost"):
        (tmp_path / first).mkdir()
        plan = plan_of(folder, [{"input": first}, {"input": "where is a parcel"}], "text", tmp_path / first)
        assert len(plan.train) == 1
        learner = load_learner(folder, plan, method="full", rank=0, alpha=0.0, seed=1, device="cpu", dtype="float32")
        batch = next(learner._batches(plan.train, np.array([0])))
        assert len(batch.segments) == 2
        nll = per_label(learner, batch).detach()
        losses.append(nll[-(batch.segments[1] - 1) :])
    assert torch.equal(*losses)
