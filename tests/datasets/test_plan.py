"""Token shards and the order: what an example becomes, what does not fit, and that nothing is decided twice."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from outcrop.datasets.formats import Fault
from outcrop.datasets.plan import Plan, order, plan_document
from outcrop.datasets.shards import Shard, write_shard
from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.records import Limits

Pairs = list[tuple[str, str]]


@pytest.fixture
def base(tmp_path: Path) -> Callable[..., Path]:
    """Writes the files that decide about tokens; template: where the tokenizer itself puts control tokens."""

    def write(template: str = "<s> $A", context: int | None = 32, **settings: object) -> Path:
        folder = tmp_path / "base"
        folder.mkdir(exist_ok=True)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=290, special_tokens=["<s>", "</s>"], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )  # fmt: skip
        tokenizer.train_from_iterator(["the answer", "a question, please", "ab ab ab"], trainer)
        if template:
            special = [("<s>", 0), ("</s>", 1)]
            tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
        tokenizer.enable_truncation(4)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"} | settings))
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context} if context else {}))
        return folder

    return write


def shard_of(folder: Path, pairs: Pairs, target: Path, **options: object) -> tuple[int, list[Fault]]:
    source = target.with_suffix(".jsonl")
    lines = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in pairs]
    source.write_text("\n".join(lines) + "\n")
    faults: list[Fault] = []
    count = write_shard(source, "prompt-completion", Encoder.read(folder), target, faults.append, **options)  # type: ignore[arg-type]
    return count, faults


def test_an_example_is_start_prompt_completion_end(base: Callable[..., Path], tmp_path: Path) -> None:
    encoder = Encoder.read(base())
    pairs = [("the question", "ab"), ("a", "the answer, please")]
    assert shard_of(base(), pairs, tmp_path / "shard") == (0, [])
    shard = Shard.open(tmp_path / "shard")
    assert len(shard) == 2
    for index, (prompt, completion) in enumerate(pairs):
        ids, scored = shard.example(index)
        text = encoder.tokenizer.encode(completion, add_special_tokens=False).ids
        asked = encoder.tokenizer.encode(prompt, add_special_tokens=False).ids
        assert ids.tolist() == [0, *asked, *text, 1]
        assert scored.tolist() == [0] * (1 + len(asked)) + [1] * (len(text) + 1), "the end token is a label"
    assert shard.scored_tokens() == sum(shard.example(index)[1].sum() for index in range(2))
    assert shard.lengths().tolist() == [len(shard.example(index)[0]) for index in range(2)]
    assert isinstance(shard.tokens, np.memmap)


def test_the_boundary_between_prompt_and_completion_is_a_token_boundary(
    base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base()
    tokenizer = Encoder.read(folder).tokenizer
    whole = tokenizer.encode("ab", add_special_tokens=False).ids
    parts = [tokenizer.encode(letter, add_special_tokens=False).ids for letter in "ab"]
    assert len(whole) == 1, "the tokenizer would merge across the boundary"
    shard_of(folder, [("a", "b")], tmp_path / "shard")
    assert Shard.open(tmp_path / "shard").example(0)[0].tolist() == [0, *parts[0], *parts[1], 1]


@pytest.mark.parametrize(("template", "start"), [("", []), ("$A", []), ("<s> $A", [0]), ("<s> $A </s>", [0])])
def test_start_tokens_are_those_of_the_tokenizer_itself(
    template: str, start: list[int], base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base(template)
    shard_of(folder, [("a", "b")], tmp_path / "shard")
    ids, scored = Shard.open(tmp_path / "shard").example(0)
    assert ids.tolist()[: len(start)] == start
    assert ids.tolist().count(1) == 1
    assert scored.sum() == 2
    assert not scored[0]


def test_control_tokens_in_data_are_text_where_the_tokenizer_says_so(base: Callable[..., Path]) -> None:
    assert 1 in Encoder.read(base()).completions(["x</s>"])[0]
    careful = Encoder.read(base(split_special_tokens=True))
    assert 1 not in careful.completions(["x</s>"])[0]
    assert careful.fingerprint != Encoder.read(base()).fingerprint


def test_a_tokenizer_without_an_end_is_refused(base: Callable[..., Path]) -> None:
    with pytest.raises(OutcropError, match="name no end-of-text token"):
        Encoder.read(base(eos_token=None))
    folder = base(eos_token={"content": "</s>"})
    assert Encoder.read(folder).end == 1
    folder = base(eos_token=None)
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 0]}')
    assert Encoder.read(folder).end == 1


def test_what_is_too_long_is_a_fault_with_its_lengths_and_nothing_is_cut(
    base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base(context=8)
    pairs = [("a", "b"), ("xxx", "yyy"), ("xxxx", "yyy"), ("a", "b")]
    count, faults = shard_of(folder, pairs, tmp_path / "shard")
    assert count == 1
    assert [(fault.line, fault.kind) for fault in faults] == [(3, "context")]
    assert "9 tokens (prompt 5 with its start token, completion 4 with its end token)" in faults[0].reason
    assert not (tmp_path / "shard").exists()
    assert not list(tmp_path.glob("*.draft"))
    assert shard_of(folder, pairs[:2], tmp_path / "shard")[0] == 0
    assert shard_of(folder, pairs[:2], tmp_path / "shard", longest=7)[0] == 1
    assert shard_of(base(context=None), pairs, tmp_path / "free")[0] == 0


def test_what_the_check_refuses_is_left_out(base: Callable[..., Path], tmp_path: Path) -> None:
    pairs = [("a", "b"), ("x" * 13, "b"), ("", "b")]
    shard_of(base(), pairs, tmp_path / "shard", limits=Limits(max_input_tokens=2))
    assert len(Shard.open(tmp_path / "shard")) == 1


def test_the_order_is_a_function_of_seed_and_epoch_for_ever() -> None:
    # Written down once: a change of this list would change every run that is resumed by a newer version.
    expected = [8, 4, 1, 6, 3, 2, 7, 5, 9, 0]
    assert order(7, 0, 10).tolist() == expected
    assert order(7, 1, 10).tolist() != expected
    assert order(8, 0, 10).tolist() != expected
    assert sorted(order(-1, 3, 1000)) == list(range(1000))


def test_every_epoch_takes_every_example_once_and_keeps_the_short_last_step(
    base: Callable[..., Path], tmp_path: Path
) -> None:
    shard_of(base(), [("a", "b" * (1 + index)) for index in range(10)], tmp_path / "shard")
    shard = Shard.open(tmp_path / "shard")
    plan = Plan(shard, (shard,), epochs=3, batch_size=4, seed=7)
    assert (plan.steps_per_epoch, plan.steps) == (3, 9)
    for epoch in range(3):
        taken = [plan.examples(epoch * 3 + place).tolist() for place in range(3)]
        assert [len(examples) for examples in taken] == [4, 4, 2]
        assert sorted(index for examples in taken for index in examples) == list(range(10))
    assert plan.examples(0).tolist() != plan.examples(3).tolist()
    assert plan_document(plan) == {
        "records": 10, "examples": 10, "validation_examples": 10, "held_out": 0, "splits": 0,
        "tokens": int(shard.offsets[-1]) * 3,
        "scored_tokens": shard.scored_tokens() * 3, "steps": 9, "steps_per_epoch": 3, "epochs": 3, "batch_size": 4,
    }  # fmt: skip


def test_a_broken_tokenizer_file_is_named(base: Callable[..., Path]) -> None:
    folder = base()
    (folder / "config.json").write_text("{")
    with pytest.raises(OutcropError, match=r"config\.json is not JSON"):
        Encoder.read(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(OutcropError, match="have no tokenizer"):
        Encoder.read(folder)
