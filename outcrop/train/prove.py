"""Whether weights run here, proven before anyone waits for a job: python -m outcrop.train.prove FOLDER [LIMIT].

A child process, because it needs torch: it prints one JSON object. Weights up to LIMIT bytes are loaded and take one
sequence as it is served and as it is trained, whose logits must agree; larger ones are built without their numbers,
which proves the architecture and the names and shapes of the tensors that it needs. Knows folders only.
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
from outcrop.train.layout import APART, LEAK, Layout
from outcrop.train.leave import leave

TOKENS: Final = 12
"""Of the sequence that is tried, in two segments; short enough for any context."""


def prove(folder: Path, limit: int) -> dict[str, Any]:
    """What was proven; raises OutcropError where these weights cannot be served.

    {"architecture", "parameters", "dtype", "linear_layers", "loaded", "slower": null or what training loses of its
    speed and why, "device", "device_memory": bytes of the GPU or null, "embedding": rows}.
    """
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = size <= limit
    dtype = weights.choose_dtype(weights.load_config(folder), "auto", device)
    model = weights.load_model(folder, dtype, device if loaded else "meta")
    slower = None
    if loaded:
        with torch.no_grad():
            served = _served(model)
            weights.require_steps(model)
            layout = Layout.of(model)
            slower = layout.slower
            if _distance(_trained(layout), served) > APART[dtype]:
                raise OutcropError("training would see other logits than serving does")
    return {
        "architecture": type(model).__name__,
        "parameters": weights.count_parameters(model),
        "dtype": str(dtype).removeprefix("torch."),
        "linear_layers": len(linear_layers(model)),
        "loaded": loaded,
        "slower": slower,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "device_memory": torch.cuda.mem_get_info()[1] if device == "cuda" else None,
        "embedding": int(model.get_input_embeddings().weight.shape[0]),
    }


def _served(model: Any) -> torch.Tensor:
    """Logits of the second half of the sequence, as an engine would have them."""
    ids = _ids(model)[:, TOKENS // 2 :]
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    if not torch.isfinite(logits).all():
        raise OutcropError("the logits are not all finite numbers: the weights are damaged")
    other = ids.clone()
    other[0, -1] = ids[0, 0]
    changed = model(input_ids=other, use_cache=False).logits[0].float()
    if _distance(changed[:-1], logits[:-1]) > LEAK[model.dtype]:
        raise OutcropError(f"{type(model).__name__} sees the tokens behind a place, so it cannot go on from a text")
    return logits


def _trained(layout: Layout) -> torch.Tensor:
    """The same half's logits beside the first half, as training would have them."""
    ids, half = _ids(layout.model), TOKENS // 2
    places = torch.arange(TOKENS, device=ids.device)
    logits = layout.logits(ids, (places % half).unsqueeze(0), (half, half), places[half:])
    return logits.float()


def _ids(model: Any) -> torch.Tensor:
    table: torch.Tensor = model.get_input_embeddings().weight
    return (torch.arange(TOKENS, device=table.device) % table.shape[0]).unsqueeze(0)


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
    leave(main(sys.argv[1:]))
