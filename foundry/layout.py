"""The shape of the base and its files: a Llama in Hugging Face's layout. It knows the tokenizer and no data."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from foundry.vocabulary import BOS, EOS, PAD, id_of

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if not loop.first %}{{ '\\n' }}{% endif %}"
    "{% if message['role'] == 'assistant' %}Bot: {{ message['content'] }}{{ eos_token }}"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}"
    "{% else %}{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '\\n' }}Bot:{% endif %}"
)
"""Turns as Titan's guide writes them; an answer ends with the end token, or a tuned model would never learn to stop."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How big the base is; the defaults make 5.3 million parameters."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 5
    heads: int = 4
    inner: int = 768
    positions: int = 2048


def new_model(shape: Shape, tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """Build a randomly initialised base in fp32, the same for the same seed."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        pad_token_id=id_of(tokenizer, PAD),
        bos_token_id=id_of(tokenizer, BOS),
        eos_token_id=id_of(tokenizer, EOS),
    )
    return LlamaForCausalLM(config)


def save(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Write config, generation config, tokenizer files and bf16 weights into `folder`; the model stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = deepcopy(model).bfloat16()
    copy.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    copy.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=model.config.max_position_embeddings,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
        padding_side="left",
        chat_template=CHAT_TEMPLATE,
    )
    wrapped.save_pretrained(folder)
    # The class's name before transformers 5, which 5 reads too: older readers know no other.
    settings = folder / "tokenizer_config.json"
    settings.write_text(settings.read_text().replace(type(wrapped).__name__, "PreTrainedTokenizerFast"))
    (folder / "model.safetensors").chmod(0o644)
