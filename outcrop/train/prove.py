"""Whether weights run here, proven before anyone waits for a job: python -m outcrop.train.prove FOLDER [LIMIT].

A child process, because it needs torch: it prints one JSON object. Weights up to LIMIT bytes are loaded and take one
sequence through serving's attention and through training's, whose logits must agree; larger ones are built without
their numbers, which proves the architecture and the names and shapes of the tensors it needs. Knows folders only.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch

from outcrop import weights
from outcrop.errors import OutcropError
from outcrop.lora import linear_layers
from outcrop.train import attention

TOKENS: Final = 12
"""Of the sequence that is tried, in two segments; longer than nothing, short enough for any context."""

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest difference of logits, relative to their size, between the two attentions."""


def prove(folder: Path, limit: int) -> dict[str, Any]:
    """What was proven; raises OutcropError where these weights cannot be served.

    {"parameters", "dtype", "linear_layers", "loaded", "trainable": null or why they cannot be trained, "device",
    "device_memory": bytes of the GPU or null, "embedding": rows}.
    """
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = size <= limit
    dtype = weights.choose_dtype(weights.load_config(folder), "auto", device)
    model = weights.load_model(folder, dtype, device if loaded else "meta")
    return {
        "architecture": type(model).__name__,
        "parameters": weights.count_parameters(model),
        "dtype": str(dtype).removeprefix("torch."),
        "linear_layers": len(linear_layers(model)),
        "loaded": loaded,
        "trainable": _try(model, loaded=loaded),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "device_memory": torch.cuda.mem_get_info()[1] if device == "cuda" else None,
        "embedding": int(model.get_input_embeddings().weight.shape[0]),
    }


def _try(model: Any, *, loaded: bool) -> str | None:
    """Run one sequence both ways: why packed training is not carried out here, or None."""
    device = next(model.parameters()).device
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    ids = torch.arange(TOKENS, device=device).unsqueeze(0) % vocabulary
    half = TOKENS // 2
    with torch.inference_mode():
        served = model(input_ids=ids[:, half:], use_cache=False).logits.float() if loaded else None
        if served is not None and not torch.isfinite(served).all():
            raise OutcropError("the logits are not all finite numbers: the weights are damaged")
        attention.register()
        try:
            attention.require(model)
            model.set_attn_implementation(attention.NAME)
            positions = (torch.arange(TOKENS, device=device) % half).unsqueeze(0)
            packed = model(input_ids=ids, position_ids=positions, segments=(half, half), use_cache=False).logits.float()
        except OutcropError as fault:
            return str(fault)
    if served is not None and _distance(packed[:, half:], served) > TOLERANCE[model.dtype]:
        return "packed training gives other logits than serving does"
    return None


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp_min(1e-6))


def main(arguments: Sequence[str]) -> int:
    """Prove one folder. Exit status 0 with a JSON object on standard output, 1 with a sentence on standard error."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        found = prove(Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 1 << 62)
    except (OutcropError, RuntimeError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
