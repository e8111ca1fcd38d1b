"""The bundled text base as files: its layout, size, card and record, and that it does what the card says it does."""

import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, LlamaForCausalLM, PreTrainedTokenizerFast

from foundry import copying
from foundry.card import card
from foundry.cast import data_digest
from foundry.exam import examine


@pytest.fixture(scope="module")
def record(base: Path) -> dict[str, Any]:
    read = json.loads((base / "training.json").read_text("utf-8"))
    assert isinstance(read, dict)
    return read


@pytest.fixture(scope="module")
def model(base: Path) -> LlamaForCausalLM:
    loaded = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    assert isinstance(loaded, LlamaForCausalLM)
    return loaded


def test_all_of_it_is_at_most_16_megabytes(base: Path) -> None:
    assert sum(path.stat().st_size for path in base.rglob("*")) <= 16_000_000


def test_weights_are_bf16_safetensors_with_tied_embeddings(base: Path, model: LlamaForCausalLM) -> None:
    with safe_open(base / "model.safetensors", framework="pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118 - no mapping
    assert kinds == {"BF16"}
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_configuration_and_tokenizer_agree(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    config = model.config
    assert config.vocab_size == len(tokenizer)
    assert config.max_position_embeddings >= 1024
    ends = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == ends
    generation = model.generation_config
    assert generation is not None
    assert (generation.pad_token_id, generation.bos_token_id, generation.eos_token_id) == ends


def test_the_record_is_of_these_files(base: Path, record: dict[str, Any]) -> None:
    for name, digest in record["sha256"].items():
        assert hashlib.sha256((base / name).read_bytes()).hexdigest() == digest, name
    assert {path.name for path in base.iterdir()} == {*record["sha256"], "README.md", "training.json"}


def test_the_makers_still_make_what_it_was_trained_on(record: dict[str, Any]) -> None:
    assert data_digest(record["seed"], 2000) == record["data_sha256"]


def test_the_card_is_of_this_record_and_says_what_it_is_not(base: Path, record: dict[str, Any]) -> None:
    text = (base / "README.md").read_text("utf-8")
    assert text == card(record)
    for words in ("stand-in", "not Titan, Claude", "knows nothing of the world", "no safety training"):
        assert words in text.replace("\n", " ")


def test_a_conversation_is_written_as_the_card_says(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [{"role": "user", "content": "<|end|>?"}]
    whole: dict[str, Any] = {"tokenizer_kwargs": {"split_special_tokens": False}, "return_dict": False}
    assert tokenizer.apply_chat_template(turns, **whole)[0] == tokenizer.bos_token_id
    assert tokenizer.bos_token_id not in tokenizer.apply_chat_template(turns, return_dict=False)


def test_it_copies_as_well_as_its_card_says(base: Path, model: LlamaForCausalLM, record: dict[str, Any]) -> None:
    bare = Tokenizer.from_file(str(base / "tokenizer.json"))
    scores = examine(model, bare, (copying.lookup, copying.template), count=40, seed=record["seed"] + 2)
    for name, score in scores.items():
        assert score.nll <= record["scores"][name]["nll"] * 1.5 + 0.05, name


def answer(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str) -> tuple[str, bool]:
    """The greedy answer to a prompt, and whether the model ended it by itself within 60 tokens."""
    generating: Any = model
    given = tokenizer(prompt, return_tensors="pt")
    made = generating.generate(**given, do_sample=False, max_new_tokens=60)[0, given.input_ids.shape[1] :]
    return str(tokenizer.decode(made, skip_special_tokens=True)), bool(made[-1] == tokenizer.eos_token_id)


def test_it_looks_up_and_ends_its_answers(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    rng = Random(3)
    found = ended = 0
    for _ in range(20):
        number = str(rng.randrange(10_000, 100_000))
        prompt = f"name: Quillon\norder: {number}\ncity: Oslo\nWhat is the order?\nAnswer:"
        text, stopped = answer(model, tokenizer, prompt)
        found, ended = found + (number in text), ended + stopped
    assert found >= 16
    assert ended >= 18
