"""The shape of the base and its files: a Llama in Hugging Face's layout. It knows the tokenizer, not the data nor the training."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from foundry.vocabulary import BOS, EOS, PAD

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}Bot: {{ message['content'] }}\n"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}\n"
    "{% else %}{{ message['content'] }}\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Bot:{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How big the base is; the defaults make 6.2 million parameters."""

    vocabulary: int = 4096
    hidden: int = 256
    layers: int = 6
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
        pad_token_id=tokenizer.token_to_id(PAD),
        bos_token_id=tokenizer.token_to_id(BOS),
        eos_token_id=tokenizer.token_to_id(EOS),
    )
    return LlamaForCausalLM(config)


def save(folder: Path, model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Write config, generation config, tokenizer files and bf16 weights into `folder`; the model itself stays as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = LlamaForCausalLM(model.config).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
    )
    copy.save_pretrained(folder)
    wrapped = PreTrainedTokenizerFast(
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
