"""Small real models for the engine's tests: random weights, a byte-fallback tokenizer, and adapters that matter."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from outcrop.lora import LoraAdapter
from outcrop.weights import load_model

CONTEXT = 96
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_tokenizer(folder: Path, *, begin: bool) -> int:
    """A byte-level BPE in which most characters are several tokens; returns its size."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=280,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the order is late", "thank you"], trainer)
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "</s>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | ({"bos_token": "<s>"} if begin else {})))
    return int(tokenizer.get_vocab_size())


def write_llama(folder: Path, seed: int = 1) -> Path:
    """A Llama of two layers with grouped heads and a token that begins a text."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=write_tokenizer(folder, begin=True),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=0,
        eos_token_id=1,
        initializer_range=0.4,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_qwen(folder: Path, seed: int = 2) -> Path:
    """A Qwen2 of two layers with biases and no token that begins a text."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=write_tokenizer(folder, begin=False),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.4,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def write_adapter(base: Path, folder: Path, seed: int) -> Path:
    """A PEFT folder whose B is not zero: what it serves differs from the base."""
    model = load_model(base, "float32")
    adapter = LoraAdapter.new(model, rank=4, alpha=8.0, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for factors in adapter.factors.values():
            factors.b.normal_(0.0, 0.5, generator=generator)
    adapter.write(folder, str(base))
    return folder
