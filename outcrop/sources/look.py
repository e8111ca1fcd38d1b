"""What a folder of weights says of itself before anything is loaded: its layout, its tensors, its sizes.

Reads config.json and the headers of safetensors files; no torch, and none of the weights. Whatever would make training
or serving fail later is told here, with the way out. Nothing here unpickles a file or runs code beside weights.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from outcrop.errors import OutcropError

INDEX: Final = "model.safetensors.index.json"
WHOLE: Final = "model.safetensors"
LONGEST_HEADER: Final = 100 << 20
"""As the safetensors library has it."""

DTYPES: Final = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Safetensors' names of floating point types; any other (I8, U8, F8_E4M3, …) is a quantised tensor."""
OTHER_FORMS: Final = {
    "pytorch_model*.bin": "pickle files, which can run code when they are read",
    "*.pth": "pickle files, which can run code when they are read",
    "*.gguf": "GGUF files, which are for inference only",
    "adapter_model.safetensors": "a PEFT adapter and not the model that it belongs to",
    "tf_model.h5": "TensorFlow weights",
    "flax_model.msgpack": "Flax weights",
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as a header names it."""

    shape: tuple[int, ...]
    dtype: str
    """safetensors' name: F32, BF16, …"""
    bytes: int


@dataclass(frozen=True, slots=True)
class Look:
    """A folder of weights, seen from outside."""

    folder: Path
    architecture: str
    """The class that wrote them: LlamaForCausalLM."""
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    """config.json; its text_config where the model has more than text."""

    @property
    def parameters(self) -> int:
        """How many numbers are stored."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def bytes(self) -> int:
        """Size of the weights on disk."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type that most bytes have: bfloat16."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.bytes
        most = max(sizes, key=lambda name: sizes[name])
        return DTYPES.get(most, most)

    @property
    def context(self) -> int | None:
        """Tokens that one sequence may have; None where config.json names no limit."""
        length = self.config.get("max_position_embeddings", self.config.get("n_positions"))
        return int(length) if length else None

    @property
    def width(self) -> int:
        """Size of a hidden state."""
        return int(self.config.get("hidden_size", self.config.get("n_embd", 0)))

    def lora_parameters(self, rank: int) -> int:
        """Numbers in a LoRA adapter of this rank on every linear layer; the embedding and the head have none."""
        matrices = [tensor.shape for name, tensor in self.tensors.items() if _adaptable(name, tensor)]
        return sum(rank * sum(shape) for shape in matrices)


def adapter_rank(folder: Path) -> int:
    """The rank of the adapter in a folder of PEFT's layout."""
    return int(_document(folder / "adapter_config.json", str(folder))["r"])


def look(folder: Path, name: str) -> Look:
    """Look at the weights in a folder that people call `name`.

    Raises OutcropError for what is no plain causal language model's folder in Hugging Face layout: a missing or broken
    config.json, weights of another form, quantised weights, a file that is cut short, a shard that is missing.
    """
    if not folder.is_dir():
        raise OutcropError(f"weights {name}: {folder} is {'a file, not a folder' if folder.is_file() else 'not there'}")
    config = _config(folder, name)
    tensors: dict[str, Tensor] = {}
    for part in parts(folder, name):
        tensors |= header(folder / part, name)
    _refuse_foreign(config, tensors, folder, name)
    _complete(folder, tensors, name)
    architectures = config.get("architectures") or [str(config.get("model_type", "?"))]
    inner = config.get("text_config")
    return Look(folder, str(architectures[0]), tensors, inner if isinstance(inner, dict) else config)


def parts(folder: Path, name: str) -> list[str]:
    """Names of the safetensors files that make up the model: one, or those that the index names."""
    if (folder / INDEX).is_file():
        named = sorted(set(_index(folder, name).values()))
        missing = [part for part in named if not (folder / part).is_file()]
        if missing:
            raise OutcropError(f"weights {name}: {len(missing)} of {len(named)} files are missing: {missing[0]} …")
        return named
    if (folder / WHOLE).is_file():
        return [WHOLE]
    for pattern, meaning in OTHER_FORMS.items():
        if any(folder.glob(pattern)):
            raise OutcropError(
                f"weights {name}: {folder} holds {meaning} ({pattern}), and no model.safetensors. "
                "What is needed is a whole model in safetensors, as transformers' save_pretrained writes it"
            )
    raise OutcropError(f"weights {name}: {folder} has neither {WHOLE} nor {INDEX} (Hugging Face layout)")


def header(path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of one safetensors file; raises OutcropError for a broken or truncated one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        content = file.read(length) if length <= min(LONGEST_HEADER, size) else b""
    try:
        document = json.loads(content)
        entries = {key: entry for key, entry in document.items() if key != "__metadata__"}
        tensors = {
            key: Tensor(
                tuple(entry["shape"]), str(entry["dtype"]), int(entry["data_offsets"][1] - entry["data_offsets"][0])
            )
            for key, entry in entries.items()
        }
        end = 8 + length + max((int(entry["data_offsets"][1]) for entry in entries.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        hint = ": it is a Git LFS pointer, run `git lfs pull`" if _is_pointer(path) else f" ({size} bytes)"
        raise OutcropError(f"weights {name}: {path} is no safetensors file{hint}") from error
    if size < end:
        raise OutcropError(f"weights {name}: {path} is cut short: {size:,} of {end:,} bytes; fetch it again")
    return tensors


def _config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        hints = {"adapter_config.json": "a PEFT adapter", "model_index.json": "a diffusers pipeline"}
        found = [f": it looks like {kind}" for file, kind in hints.items() if (folder / file).is_file()]
        inner = [f"; did you mean {place.parent}?" for place in sorted(folder.glob("*/config.json"))[:1]]
        raise OutcropError(
            f"weights {name}: {folder} has no config.json (Hugging Face layout){''.join(found or inner)}"
        )
    return _document(path, name)


def _index(folder: Path, name: str) -> dict[str, str]:
    found = _document(folder / INDEX, name).get("weight_map")
    if not isinstance(found, dict) or not found or any("/" in str(part) for part in found.values()):
        raise OutcropError(f"weights {name}: {folder / INDEX} has no weight_map of files beside it")
    return found


def _document(path: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutcropError(f"weights {name}: {path} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise OutcropError(f"weights {name}: {path} holds no JSON object")
    return found


def _complete(folder: Path, tensors: Mapping[str, Tensor], name: str) -> None:
    if (folder / INDEX).is_file():
        absent = sorted(_index(folder, name).keys() - tensors.keys())
        if absent:
            raise OutcropError(f"weights {name}: {len(absent)} tensors of {INDEX} are in no file: {absent[0]} …")


def _refuse_foreign(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path, name: str) -> None:
    """Weights that would load and then not train: quantised ones, and models with code of their own."""
    if not tensors:
        raise OutcropError(f"weights {name}: the safetensors files in {folder} hold no tensor")
    method = config.get("quantization_config")
    strange = [tensor.dtype for tensor in tensors.values() if tensor.dtype not in DTYPES and len(tensor.shape) > 1]
    if method or strange:
        how = method.get("quant_method", "?") if isinstance(method, dict) else strange[0]
        raise OutcropError(
            f"weights {name} are quantised ({how}); tuning needs plain ones (bfloat16, float16 or float32): take the "
            "model that they were made from"
        )
    if config.get("is_encoder_decoder"):
        raise OutcropError(f"weights {name}: {config.get('model_type')} is an encoder-decoder, not a causal LM")


def _adaptable(name: str, tensor: Tensor) -> bool:
    outer = ("embed", "lm_head", "wte", "wpe")
    return len(tensor.shape) == 2 and not any(part in name for part in outer)


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(40).startswith(b"version https://git-lfs")
