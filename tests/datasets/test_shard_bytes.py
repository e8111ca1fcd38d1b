"""The same records always become the same shard, to the byte: however they are batched, and in every later version."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outcrop.datasets import shards
from outcrop.datasets.examples import Document
from outcrop.datasets.faults import Fault
from outcrop.datasets.shards import Shard, batched, write_shard
from outcrop.datasets.tokens import Encoder
from tests.datasets.templates import CHATML, LLAMA3, MISTRAL_LATE_SYSTEM, WORDS, Style, write

COUNT = 90
BARE = Style("", ("</s>",), end="</s>")


def text(number: int) -> str:
    """Texts of many lengths, some with what a control token is spelled like."""
    words = [WORDS[(number * 7 + place) % len(WORDS)] for place in range(1 + number % 9)]
    return " ".join([*words, "<|im_end|>" if number % 11 == 0 else str(number)])


def line(format: str, number: int) -> dict[str, Any]:
    if format == "prompt-completion":
        return {"prompt": text(number), "completion": text(number + 1)}
    if format == "text":
        return {"input": text(number) * (1 + number % 4)}
    turns = [("user", "assistant")[place % 2] for place in range(2 + 2 * (number % 3))]
    messages = [{"role": role, "content": text(number + place)} for place, role in enumerate(turns)]
    return {"messages": messages} if number % 2 else {"system": text(number), "messages": messages}


def roomy(style: Style, folder: Path) -> Encoder:
    """The style's encoder, of weights that take every line of ours."""
    write(style, folder)
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
    return Encoder.read(folder)


def digest(folder: Path) -> str:
    """Of everything that a run reads."""
    found = hashlib.sha256()
    for name in ("tokens", "scored", "offsets", "starts"):
        array = np.load(folder / f"{name}.npy")
        found.update(array.dtype.str.encode() + array.tobytes())
    return found.hexdigest()[:16]


CASES = [
    (BARE, "prompt-completion", "b9dbf11e2aac37d7"),
    (LLAMA3, "prompt-completion", "d0b5e9baad9cfe9c"),
    (BARE, "text", "61394e4c4bd7b85e"),
    (CHATML, "messages", "e5a601693d74cf2d"),
    (LLAMA3, "messages", "63ee6a86c1b2a636"),
    (MISTRAL_LATE_SYSTEM, "messages", "48af6f1a4bfbc46c"),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch", [shards.BATCH, 7, 1])
def test_shards_are_those_that_they_always_were(
    case: tuple[Style, str, str], batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    style, form, known = case
    monkeypatch.setattr(shards, "BATCH", batch)
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps(line(form, number)) + "\n" for number in range(COUNT)))
    encoder = roomy(style, tmp_path / "base")
    told: list[Fault] = []
    longest = 64 if form == "text" else None
    assert write_shard(source, form, encoder, tmp_path / "shard", told.append, longest=longest) == 0, told
    assert digest(tmp_path / "shard") == known


def test_batches_are_bounded_in_characters_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BATCH_CHARACTERS", 100)
    records = [(number, Document("x" * 40)) for number in range(1, 6)] + [(6, Document("y" * 1000))]
    assert [[number for number, _ in batch] for batch in batched(iter(records))] == [[1, 2, 3], [4, 5, 6]]


def test_a_document_in_many_sequences_has_one_size(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    source.write_text("".join(json.dumps({"input": "abc" * times}) + "\n" for times in (1, 40, 2)))
    encoder = roomy(BARE, tmp_path / "base")
    assert write_shard(source, "text", encoder, tmp_path / "shard", print, longest=16) == 0
    shard = Shard.open(tmp_path / "shard")
    assert shard.sizes.tolist() == [len(encoder.prompts(["abc" * times])[0]) + 1 for times in (1, 40, 2)]
    assert shard.records == 3
    assert shard.splits > 2
    assert int(shard.sizes.sum()) == shard.total() - shard.splits
