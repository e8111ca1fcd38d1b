"""The model behind an engine: the fastest way to run these weights that was seen to say the same as transformers.

Knows transformers' models and our ways to run them; nothing of requests.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from outcrop.engines.adapters import Gains
from outcrop.engines.alone import AloneModel
from outcrop.engines.batch import Batch, Part
from outcrop.engines.cache import Cache, LayerShape
from outcrop.engines.packed import NotPacked, PackedModel
from outcrop.errors import OutcropError
from outcrop.weights import STEPS_APART

WAYS: Final = ("auto", "lean", "packed", "alone")


class Running(Protocol):
    """A model that runs steps."""

    device: torch.device
    dtype: torch.dtype
    shapes: list[LayerShape]
    """What each layer keeps of a token in the shared cache."""
    gains: Gains
    together: bool
    """False: a step is a pass for each part, and no part may be run twice."""

    def run(self, batch: Batch, cache: Cache) -> Tensor:
        """Logits (wanted, vocabulary) of a step."""


def choose(model: Any, way: str = "auto") -> Running:
    """Take a transformers model over; raises OutcropError for a way that these weights cannot go."""
    if way not in WAYS:
        raise OutcropError(f"there is no way {way!r} to run a model; there are {', '.join(WAYS)}")
    if way == "alone":
        return AloneModel(model)
    try:
        packed = PackedModel(model)
        says = _apart(packed, model)
        if says is None:
            packed.lay_out()
            return packed
        packed.give_back()
        raise NotPacked(says)
    except NotPacked as fault:
        if way != "auto":
            raise
        del fault
        return AloneModel(model)


def cache_type(model: Running) -> torch.dtype:
    """What keys and values are kept in: on a CPU one row's attention is far faster in float32."""
    return torch.float32 if model.device.type == "cpu" else model.dtype


def _apart(packed: PackedModel, model: Any) -> str | None:
    """How packed rows differ from whole texts read alone; None where it is rounding only."""
    size = model.get_input_embeddings().weight.shape[0]
    texts = [[(place * step + size // 2) % size for place in range(length)] for step, length in ((3, 9), (5, 6))]
    cache = Cache(64, packed.shapes, cache_type(packed), packed.device)
    found: list[list[Tensor]] = [[], []]
    with torch.inference_mode():
        for cuts in (((0, 4), (0, 1)), ((4, 5), (1, 4)), ((5, 9), (4, 5)), (None, (5, 6))):
            parts = [
                Part(text[cut[0] : cut[1]], cut[0], 32 * number, None, cut[1] - cut[0])
                for number, (text, cut) in enumerate(zip(texts, cuts, strict=True))
                if cut is not None
            ]
            batch = Batch.of(parts, packed.device)
            rows = list(packed.run(batch, cache))
            for part in batch.parts:
                found[part.place // 32] += rows[: part.wanted]
                del rows[: part.wanted]
        packed.give_back()
        whole = [_read(model, text) for text in texts]
        packed.take()
    return _differs(found, whole)


def _read(model: Any, text: Sequence[int]) -> Tensor:
    ids = torch.tensor([text], device=model.get_input_embeddings().weight.device)
    logits: Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits


def _differs(found: Sequence[Sequence[Tensor]], whole: Sequence[Tensor]) -> str | None:
    for rows, expected in zip(found, whole, strict=True):
        said = torch.stack(list(rows)).float()
        apart = float((said - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
        if not apart <= STEPS_APART[rows[0].dtype]:
            return f"packed rows say other things than whole texts: logits are {apart:.2g} of their size apart"
    return None
