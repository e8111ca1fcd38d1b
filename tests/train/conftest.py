"""Small real bases (random weights, a BPE of their own), small real datasets, and where children train on them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from tests.train.nursery import Nursery
from tests.train.shelf import Shelf
from tests.train.work import Start

WORDS = [
    "the order",
    "a parcel",
    "is late",
    "was lost",
    "where is",
    "thank you",
    "配送",
    "返金",
    "please wait",
    "of course",
]


SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip


def write_tokenizer(folder: Path, *, begin: bool) -> int:
    """A byte-level BPE of some 300 tokens; returns how many."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(WORDS, trainer)
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"} | (
        {"bos_token": "<s>"} if begin else {}
    )
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return int(tokenizer.get_vocab_size())


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with grouped heads, a start token and untied embeddings, context 64."""
    folder = tmp_path_factory.mktemp("llama")
    size = write_tokenizer(folder, begin=True)
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=size,
        **SHAPE,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of two layers with biases, tied embeddings and no start token, context 64."""
    folder = tmp_path_factory.mktemp("qwen")
    size = write_tokenizer(folder, begin=False)
    torch.manual_seed(12)
    config = Qwen2Config(
        vocab_size=size,
        **SHAPE,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=True,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    """The object store of a test."""
    found = Shelf()
    yield found
    found.end()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where children are born quickly; its imports are paid once."""
    found = Nursery()
    yield found
    found.close()


@pytest.fixture
def start(tmp_path: Path, shelf: Shelf, nursery: Nursery) -> Start:
    """Makes job directories."""
    return Start(tmp_path, shelf, nursery)


@pytest.fixture
def write_pairs(tmp_path: Path) -> Callable[..., Path]:
    """Writes a prompt/completion file of so many examples of many lengths."""

    def write(count: int, name: str = "train.jsonl", start: int = 0) -> Path:
        lines = []
        for index in range(start, start + count):
            prompt = " ".join(WORDS[(index * 7 + word) % len(WORDS)] for word in range(1 + index % 4)) + f" {index}?"
            completion = " ".join(WORDS[(index * 3 + word) % len(WORDS)] for word in range(1 + index % 3))
            lines.append(json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False))
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
