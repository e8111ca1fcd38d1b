"""What the serving benchmark serves and asks: weights, adapters and prompts, made here from fixed seeds.

No side may end an answer early, and not every side can be told to ignore the end token: so the end token's row of the
tied embedding is zero, and greedy choice never falls on it. Knows files; nothing of who serves them.
"""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import Qwen2Config, Qwen2ForCausalLM

from outcrop.catalog.catalog import Catalog
from outcrop.datasets.tokens import Encoder

MODELS: Final = ("40m", "base")
"""40m: Qwen2's layout with random weights, as in the training benchmark; base: the bundled one."""

SHORTEST: Final = 16
LONGEST: Final = 600
"""Tokens of prompts."""

SPECIALS: Final = ("<|pad|>", "<|begin|>", "<|end|>", "<|unknown|>")
END: Final = 2
VOCABULARY: Final = 32_001
LAYERS: Final = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                 "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
RANK: Final = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: as a text, and as the ids that it is to every tokenizer."""

    text: str
    ids: list[int]


def make_model(name: str, folder: Path) -> Path:
    """Write a model of MODELS in Hugging Face layout."""
    folder.mkdir(parents=True)
    if name == "base":
        for path in Catalog.load().weights_folder("bundled:text").iterdir():
            shutil.copyfile(path, folder / path.name)
        weights = load_file(folder / "model.safetensors")
        weights["model.embed_tokens.weight"][END] = 0
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        return folder
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=512, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, intermediate_size=1536,
        vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=END, pad_token_id=0, max_position_embeddings=4096,
        tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = Qwen2ForCausalLM(config)
    model.to(torch.bfloat16)
    with torch.no_grad():
        model.model.embed_tokens.weight[END] = 0
    model.save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    """A word a token: every id has a text of its own, so that a stream has as many pieces as tokens."""
    words = [*SPECIALS, *(f"w{number}" for number in range(VOCABULARY - len(SPECIALS)))]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token=SPECIALS[3]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_special_tokens(list(SPECIALS[:3]))
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIALS[1], "eos_token": SPECIALS[END],
        "pad_token": SPECIALS[0], "unk_token": SPECIALS[3], "model_max_length": 4096,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def make_adapters(model: Path, folder: Path, count: int) -> list[Path]:
    """Write random LoRA adapters of every linear layer in PEFT's layout."""
    weights = load_file(model / "model.safetensors")
    shapes = {name.removesuffix(".weight"): tensor.shape for name, tensor in weights.items()
              if name.removesuffix(".weight").endswith(LAYERS)}  # fmt: skip
    config = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": 0.0,
        "bias": "none", "target_modules": sorted({name.rpartition(".")[2] for name in shapes}),
        "base_model_name_or_path": str(model),
    }  # fmt: skip
    made = []
    for number in range(count):
        draw = torch.Generator().manual_seed(number)
        tensors = {}
        for name, (out, inner) in shapes.items():
            for part, size in (("A", (RANK, inner)), ("B", (out, RANK))):
                tensors[f"base_model.model.{name}.lora_{part}.weight"] = torch.randn(size, generator=draw) * 0.02
        place = folder / f"adapter-{number}"
        place.mkdir(parents=True)
        save_file(tensors, place / "adapter_model.safetensors")
        (place / "adapter_config.json").write_text(json.dumps(config))
        made.append(place)
    return made


def make_prompts(model: Path, count: int, seed: int = 0) -> list[Asked]:
    """Texts of SHORTEST to LONGEST tokens, every order of magnitude alike often: most are short, some are long."""
    encoder, draw = Encoder.read(model), random.Random(seed)
    spelled = (encoder.spell(number) for number in range(len(SPECIALS), encoder.tokenizer.get_vocab_size()))
    words = [word for word in spelled if word.isascii() and word.isalnum() and len(word) > 1]
    found = []
    for _ in range(count):
        length = round(SHORTEST * (LONGEST / SHORTEST) ** draw.random())
        text = " ".join(draw.choice(words) for _ in range(length))
        while len(ids := encoder.prompts([text])[0]) > length:
            text = text.rpartition(" ")[0]
        found.append(Asked(text, ids))
    return found


def describe(prompts: list[Asked]) -> dict[str, Any]:
    """Their lengths in tokens."""
    lengths = sorted(len(prompt.ids) for prompt in prompts)
    return {"count": len(lengths), "shortest": lengths[0], "median": lengths[len(lengths) // 2],
            "longest": lengths[-1], "mean": round(sum(lengths) / len(lengths), 1)}  # fmt: skip
