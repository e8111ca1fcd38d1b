"""Shards of the other formats: documents that fill sequences, conversations with their labels, and what is held out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcrop.datasets.faults import Fault
from outcrop.datasets.plan import Plan, hold_out, plan_document
from outcrop.datasets.shards import SEQUENCE, Packer, Shard, write_shard
from outcrop.datasets.tokens import Encoder, Example
from outcrop.errors import OutcropError
from tests.datasets.templates import CHATML, LLAMA3, MISTRAL_LATE_SYSTEM, Style, write

BARE = Style("", ("</s>",), end="</s>")


def shard_of(
    folder: Path, lines: Sequence[object], target: Path, format: str, longest: int | None = None
) -> tuple[Shard | None, list[Fault]]:
    source = target.with_suffix(".jsonl")
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    faults: list[Fault] = []
    count = write_shard(source, format, Encoder.read(folder), target, faults.append, longest=longest)
    assert count == len(faults)
    return (None if count else Shard.open(target)), faults


def documents(*texts: str) -> list[dict[str, str]]:
    return [{"input": text} for text in texts]


def pieces(shard: Shard) -> list[list[tuple[list[int], list[int]]]]:
    """Ids and marks of every segment of every sequence."""
    found = []
    for index in range(len(shard)):
        ids, scored = shard.example(index)
        cuts = np.cumsum(shard.segments(index))[:-1]
        assert sum(shard.segments(index)) == len(ids)
        found.append(
            [(a.tolist(), b.tolist()) for a, b in zip(np.split(ids, cuts), np.split(scored, cuts), strict=True)]
        )
    return found


@pytest.mark.parametrize("style", [LLAMA3, BARE], ids=["with a start token", "without"])
def test_documents_fill_sequences_and_every_token_is_learnt_once(style: Style, tmp_path: Path) -> None:
    folder = write(style, tmp_path / "base")
    encoder = Encoder.read(folder)
    texts = ["It is on its way.", "x", "Where is my parcel? " * 4, "返金", "Thank you very much"]
    shard, _ = shard_of(folder, documents(*texts), tmp_path / "shard", "text", longest=16)
    assert shard is not None
    whole = [[*encoder.prompts([text])[0], encoder.end] for text in texts]
    sequences = pieces(shard)
    assert [len(shard.example(index)[0]) for index in range(len(shard) - 1)] == [16] * (len(shard) - 1)
    learnt, repeats, document = [], 0, -1
    for sequence in sequences:
        for place, (ids, scored) in enumerate(sequence):
            assert scored == [0] + [1] * (len(ids) - 1), "all but the first of a segment"
            if place or document < 0 or learnt[-1:] == [encoder.end]:
                document += 1
                learnt += ids[:1]
            else:
                assert ids[0] == learnt[-1], "a document goes on behind its last token"
                repeats += 1
            learnt += ids[1:]
    assert learnt == [token for ids in whole for token in ids], "nothing is lost, nothing is added"
    assert repeats == shard.splits >= 2
    assert shard.scored_tokens() == sum(len(ids) - 1 for ids in whole)
    assert shard.records == 5


@settings(max_examples=200, deadline=None)
@given(lengths=st.lists(st.integers(2, 40), max_size=20), length=st.integers(2, 12))
def test_any_documents_pack_without_loss(lengths: list[int], length: int) -> None:
    packer = Packer(length)
    given_ids = iter(range(10**6))
    whole = [[next(given_ids) for _ in range(count)] for count in lengths]
    packed = [
        sequence
        for ids in whole
        for sequence in packer.add(Example(ids, b"\0" + b"\1" * (len(ids) - 1), (len(ids),)))
    ]  # fmt: skip
    rest = packer.rest()
    assert packer.rest() is None
    packed += [rest] if rest is not None else []
    labels = [token for one in packed for token, mark in zip(one.ids, one.scored, strict=True) if mark]
    assert labels == [token for ids in whole for token in ids[1:]]
    for one in packed[:-1]:
        assert length - 1 <= len(one.ids) <= length, "a last place alone could not hold anything to predict"
    for one in packed:
        assert sum(one.segments) == len(one.ids) == len(one.scored)
        assert min(one.segments) >= 2
        starts = np.cumsum([0, *one.segments[:-1]])
        assert not any(one.scored[start] for start in starts)
    assert sum(len(one.ids) for one in packed) == sum(lengths) + packer.splits


def test_a_sequence_is_as_long_as_asked_as_the_weights_take_or_2048(tmp_path: Path) -> None:
    folder = write(BARE, tmp_path / "base")
    texts = documents("abcdefg" * 1000)
    for context, longest, expected in [
        (256, None, 256),
        (256, 64, 64),
        (64, 256, 64),
        (None, None, SEQUENCE),
        (10**6, None, SEQUENCE),
    ]:
        (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context} if context else {}))
        shard, _ = shard_of(folder, texts, tmp_path / "shard", "text", longest=longest)
        assert shard is not None
        assert shard.lengths().max() == expected
    with pytest.raises(OutcropError, match="sequences of 1 tokens"):
        shard_of(folder, texts, tmp_path / "shard", "text", longest=1)


def conversation(*texts: str, system: str | None = None) -> dict[str, object]:
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]
    return ({"system": system} if system else {}) | {"messages": turns}


def test_conversations_of_either_form_become_the_same_shard(tmp_path: Path) -> None:
    folder = write(CHATML, tmp_path / "base")
    lines = [
        conversation("Where is my parcel?", "It is on its way."),
        conversation("a", "b", "c", "d", system="Be brief"),
    ]
    nova = [
        {
            "schemaVersion": "bedrock-conversation-2024",
            **({"system": [{"text": line["system"]}]} if "system" in line else {}),
            "messages": [{**turn, "content": [{"text": turn["content"]}]} for turn in line["messages"]],  # type: ignore[attr-defined]
        }
        for line in lines
    ]
    first, _ = shard_of(folder, lines, tmp_path / "a", "messages")
    second, _ = shard_of(folder, nova, tmp_path / "b", "conversation")
    assert first is not None
    assert second is not None
    assert first.tokens.tobytes() == second.tokens.tobytes()
    assert first.scored.tobytes() == second.scored.tobytes()
    assert len(first) == first.records == 2
    text = Encoder.read(folder).tokenizer.decode(
        first.example(1)[0][first.example(1)[1] == 1], skip_special_tokens=False
    )
    assert text == "b<|im_end|>d<|im_end|>"


def test_a_rewriting_template_makes_one_example_of_several_segments(tmp_path: Path) -> None:
    folder = write(MISTRAL_LATE_SYSTEM, tmp_path / "base")
    lines = [conversation("a", "b"), conversation("a", "b", "c", "d", system="S"), conversation("a", "b")]
    shard, _ = shard_of(folder, lines, tmp_path / "shard", "messages")
    assert shard is not None
    assert len(shard) == 3, "batchSize counts conversations"
    assert [len(shard.segments(index)) for index in range(3)] == [1, 2, 1]
    longest = max(shard.segments(1))
    assert len(shard.example(1)[0]) > longest
    assert shard_of(folder, lines, tmp_path / "shard", "messages", longest=longest)[0] is not None, "each is seen alone"
    _, faults = shard_of(folder, lines, tmp_path / "none", "messages", longest=longest - 1)
    assert [(fault.line, fault.kind, fault.snippet) for fault in faults] == [(2, "context", "a")]
    assert f"{longest} tokens (as the chat template writes the conversation)" in faults[0].reason
    assert not list(tmp_path.glob("none*/"))


def test_what_a_template_refuses_is_a_fault_of_its_line(tmp_path: Path) -> None:
    picky = (
        CHATML.template + "{% if 'not this' in messages[-1].content %}{{ raise_exception('no such thing') }}{% endif %}"
    )
    folder = write(replace(CHATML, template=picky), tmp_path / "base")
    lines = [
        conversation("a", "b"),
        conversation("not this", "b"),
        conversation("a", "b"),
        conversation("a", "not this"),
    ]
    shard, faults = shard_of(folder, lines, tmp_path / "shard", "messages")
    assert shard is None
    assert [(fault.line, fault.snippet) for fault in faults] == [(2, "not this"), (4, "a")]
    assert all("refuses the conversation: no such thing" in fault.reason for fault in faults)


def test_shards_of_another_version_are_not_read(tmp_path: Path) -> None:
    folder = write(CHATML, tmp_path / "base")
    shard_of(folder, [conversation("a", "b")], tmp_path / "shard", "messages")
    (tmp_path / "shard" / "shard.json").write_text('{"version": 1, "records": 1, "splits": 0}')
    with pytest.raises(OutcropError, match="another version of outcrop; start the job again"):
        Shard.open(tmp_path / "shard")


def test_an_interrupted_draft_leaves_nothing(tmp_path: Path) -> None:
    folder = write(CHATML, tmp_path / "base")
    source = tmp_path / "source.jsonl"
    source.write_text(json.dumps(conversation("a", "b")))

    def pulse(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(source, "messages", Encoder.read(folder), tmp_path / "shard", print, pulse=pulse)
    assert not list(tmp_path.glob("shard*"))


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (tmp_path / "plan").mkdir()
    found, _ = shard_of(
        write(BARE, tmp_path / "base"),
        [{"prompt": "p" * (1 + index % 3), "completion": "c" * (1 + index % 5)} for index in range(40)],
        tmp_path / "plan" / "train",
        "prompt-completion",
    )
    assert found is not None
    return found


def test_a_share_is_held_out_by_the_seed_alone(shard: Shard, tmp_path: Path) -> None:
    plan = Plan.open(tmp_path / "plan", validators=0, epochs=2, batch_size=8, seed=5, evaluation_share=0.2)
    held = plan.validation[0]
    assert (len(plan.train), len(held), plan.held_out, plan.steps) == (32, 8, 8, 8)
    assert held.chosen is not None
    assert plan.train.chosen is not None
    assert sorted([*held.chosen, *plan.train.chosen]) == list(range(40))
    assert held.chosen.tolist() == hold_out(shard, 0.2, 5)[1].chosen.tolist()  # type: ignore[union-attr]
    assert held.chosen.tolist() != hold_out(shard, 0.2, 6)[1].chosen.tolist()  # type: ignore[union-attr]
    for view in (held, plan.train):
        assert view.chosen is not None
        for index, place in enumerate(view.chosen):
            assert view.example(index)[0].tolist() == shard.example(int(place))[0].tolist()
            assert view.segments(index) == shard.segments(int(place))
        assert view.lengths().tolist() == [len(view.example(index)[0]) for index in range(len(view))]
        assert view.scored_tokens() == sum(int(view.example(index)[1].sum()) for index in range(len(view)))
    document = plan_document(plan)
    assert (document["examples"], document["validation_examples"], document["held_out"]) == (32, 8, 8)
    assert document["tokens"] == 2 * sum(len(plan.train.example(index)[0]) for index in range(32))
    assert {int(index) for step in range(4) for index in plan.examples(step)} == set(range(32))


def test_some_is_left_on_either_side(shard: Shard) -> None:
    assert [len(part) for part in hold_out(shard, 0.001, 0)] == [39, 1]
    assert [len(part) for part in hold_out(shard, 0.999, 0)] == [1, 39]
    with pytest.raises(OutcropError, match="a single example, so no share of it can be held out"):
        hold_out(shard.part(np.array([3])), 0.5, 0)


def test_validation_files_keep_the_training_file_whole(shard: Shard, tmp_path: Path) -> None:
    source = tmp_path / "plan" / "train"
    (tmp_path / "plan" / "validation-0").symlink_to(source)
    plan = Plan.open(tmp_path / "plan", validators=1, epochs=1, batch_size=8, seed=5, evaluation_share=0.2)
    assert (len(plan.train), len(plan.validation[0]), plan.held_out) == (40, 40, 0)
