"""Base weights on disk and in memory: load, choose a dtype, save in Hugging Face layout, fingerprint.

Shared by training and serving. Knows transformers' model classes; nothing of adapters (lora.py), datasets or jobs.
Weights are safetensors only: nothing here unpickles a file or runs code that lies beside weights.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from outcrop.errors import OutcropError

TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
"""What a Hugging Face folder may hold for its tokenizer; copied byte for byte beside weights that are saved."""

BFLOAT16_FROM_WIDTH: Final = 256
"""On a CPU with AVX512-BF16, models at least this wide run faster in bfloat16. Measured on one core of an EPYC (Zen 5),
22 November 2026: a LoRA step takes 1.6 times less at a width of 256 and 3 times less at 1,024, a decoding step 1.1 and
1.5 times less."""


STEPS_APART: Final = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 3e-2, torch.float64: 1e-6}
"""Largest difference of logits, relative to their size, between a text read at once and token by token: rounding."""


def load_model(folder: Path, dtype: str | torch.dtype = "auto", device: str = "cpu", *, attention: str = "sdpa") -> Any:
    """Load a causal language model from a Hugging Face folder, ready to run and frozen.

    `dtype` is auto, float32, bfloat16 or a torch dtype; `attention` is a name that transformers knows (or that was
    registered with it). On the device meta it has every tensor's name and shape and no numbers. Returns a
    PreTrainedModel in eval mode. Raises OutcropError for a folder that holds no such thing.
    """
    from transformers import AutoModelForCausalLM

    config = load_config(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=choose_dtype(config, dtype, device),
            attn_implementation=supported(config, attention),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
            device_map="meta" if device == "meta" else None,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise OutcropError(f"no causal language model in Hugging Face layout at {folder}: {error}") from error
    model, told = loaded
    # transformers fills what it misses with random numbers and goes on.
    missing = sorted(told["missing_keys"]) + sorted(str(key[0]) for key in told["mismatched_keys"])
    if missing:
        raise OutcropError(
            f"the weights at {folder} are not whole: {len(missing)} tensors are missing or of another shape, the "
            f"first is {missing[0]}"
        )
    module: nn.Module = model
    module.to(device).train(False)
    model.requires_grad_(False)
    return model


def load_config(folder: Path) -> Any:
    """config.json as transformers reads it; raises OutcropError for an architecture that is no causal LM known here."""
    import transformers
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        document = _config_document(folder) if (folder / "config.json").is_file() else {}
        if "auto_map" in document:
            raise OutcropError(
                f"the weights at {folder} need Python code that lies beside them ({document.get('model_type')}), and "
                "such code is never run here: take a model whose architecture is part of transformers"
            ) from error
        raise OutcropError(
            f"no causal language model in Hugging Face layout at {folder}: transformers {transformers.__version__} "
            f"here does not know its architecture {document.get('model_type')!r} ({str(error).splitlines()[0]})"
        ) from error
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        kinds = ", ".join(config.architectures or [config.model_type])
        raise OutcropError(f"no causal language model at {folder}: {kinds} does not generate text token by token")
    return config


def require_steps(model: Any) -> None:
    """Raise OutcropError unless a text read token by token gives the logits of the text read at once.

    Engines read with transformers' DynamicCache; what keeps its past elsewhere would see one token only.
    """
    from transformers import DynamicCache

    table: torch.Tensor = model.get_input_embeddings().weight
    ids = ((torch.arange(6, device=table.device) * 3 + table.shape[0] // 2) % table.shape[0]).unsqueeze(0)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits[0, -1].float()
        for piece in (ids[:, :3], ids[:, 3:4], ids[:, 4:5], ids[:, 5:]):
            stepped = model(input_ids=piece, past_key_values=cache, use_cache=True).logits[0, -1].float()
    if not torch.isfinite(whole).all():
        raise OutcropError("the logits are not all finite numbers: the weights are damaged")
    if (stepped - whole).abs().max() > STEPS_APART[table.dtype] * whole.abs().max().clamp_min(1e-6):
        raise OutcropError(f"{type(model).__name__} cannot be served here: token by token it says other things")


def supported(config: Any, asked: str) -> str:
    """The attention to load a model with: what was asked for, but eager where the architecture has no sdpa."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return "eager" if asked == "sdpa" and not kind._supports_sdpa else asked


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a Hugging Face folder; raises OutcropError where there is none."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise OutcropError(f"no tokenizer in Hugging Face layout at {folder}: {error}") from error


def _config_document(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutcropError(f"{folder / 'config.json'} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise OutcropError(f"{folder / 'config.json'} holds no JSON object")
    return found


def choose_dtype(config: Any, asked: str | torch.dtype, device: str) -> torch.dtype:
    """The dtype to compute in: what was asked for; for auto the faster of float32 and bfloat16 here."""
    if isinstance(asked, torch.dtype):
        return asked
    if asked != "auto":
        named = getattr(torch, asked, None)
        if not isinstance(named, torch.dtype) or not named.is_floating_point:
            raise OutcropError(f"{asked!r} is no floating point dtype; use auto, float32 or bfloat16")
        return named
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    width = int(getattr(config.get_text_config(), "hidden_size", 0))
    capable = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if capable and width >= BFLOAT16_FROM_WIDTH else torch.float32


def stored_dtype(folder: Path) -> torch.dtype:
    """The dtype that the weights have on disk, as config.json names it; float32 where it names none."""
    from transformers import AutoConfig

    named = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).dtype
    return named if isinstance(named, torch.dtype) else torch.float32


def context_length(config: Any) -> int | None:
    """How many tokens the architecture takes in one sequence; None where it names no limit."""
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def window_of(config: Any, layer: int) -> int | None:
    """Tokens that a row of this layer sees at most, by the mask that transformers makes; None: all before it.

    config: a decoder's own (of text). Whoever attends instead of transformers must be told of it, or lacks it.
    """
    kinds = getattr(config, "layer_types", None)
    kind = "sliding_attention" if kinds is None else kinds[layer]
    width = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}.get(kind)
    found = getattr(config, width, None) if width is not None else None
    return int(found) if found else None


def steady_length(config: Any) -> int | None:
    """Positions up to which a text's rotary frequencies are its own; None: however long.

    Beyond it `dynamic` and `longrope` embeddings take them from the longest text of the pass (transformers'
    dynamic_rope_update), so a long neighbour in a row changes what a short text is.
    """
    text = config.get_text_config()
    found = getattr(text, "rope_parameters", None) or {}
    # One kind for all layers, or one for each kind of layer.
    kinds = [found] if "rope_type" in found else [one for one in found.values() if isinstance(one, dict)]
    context = context_length(config) or 0
    return min(
        (
            int(one.get("original_max_position_embeddings") or context)
            for one in kinds
            if one.get("rope_type") == "longrope" or "dynamic" in one.get("rope_type", "default")
        ),
        default=None,
    )


def save_model(model: Any, folder: Path, base: Path, dtype: torch.dtype) -> None:
    """Write a whole model in Hugging Face layout, rounded once to `dtype`, with the base's own tokenizer files."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().to(dtype) for name, tensor in model.state_dict().items()}
    model.config.dtype = dtype
    model.save_pretrained(folder, state_dict=state)
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)


def count_parameters(model: nn.Module) -> int:
    """How many numbers the model holds; tied tensors count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def fingerprint(folder: Path, pattern: str = "*") -> str:
    """SHA-256 over the names and contents of a folder's files that match, in name order: who these weights are."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            with path.open("rb") as file:
                digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()
