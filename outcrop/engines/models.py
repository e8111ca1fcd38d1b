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
from outcrop.engines.lean import KINDS, LeanModel, is_like
from outcrop.engines.linears import Linears
from outcrop.engines.packed import NotPacked, PackedModel
from outcrop.errors import OutcropError
from outcrop.weights import STEPS_APART, require_steps

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
    way: str
    """Which of WAYS this is."""
    why: str
    """Why it is no faster way, where one was tried."""

    def run(self, batch: Batch, cache: Cache) -> Tensor:
        """Logits (wanted, vocabulary) of a step, to be read before the next one."""


class NotLean(OutcropError):
    """The lean way gave other logits; the model's weights are taken apart by then, so it must be read again."""


def choose(model: Any, way: str = "auto") -> Running:
    """Take a transformers model over; raises NotLean, and OutcropError for a way that these weights cannot go."""
    if way not in WAYS:
        raise OutcropError(f"there is no way {way!r} to run a model; there are {', '.join(WAYS)}")
    if way == "lean" and not is_like(model):
        raise OutcropError(f"{type(model).__name__} is none of those that run lean: {', '.join(KINDS)}")
    if way in ("auto", "lean") and is_like(model):
        whole = _read(model)
        lean = LeanModel(model)
        says = _apart(lean, whole)
        if says is not None:
            raise NotLean(f"{type(model).__name__} does not run lean ({says})")
        return lean
    if way == "alone":
        return _alone(model, Linears(model), "")
    return _packed(model, Linears(model), way)


def _alone(model: Any, linears: Linears, why: str) -> Running:
    """Each sequence with a cache of its own; raises OutcropError where the model makes no use of it."""
    require_steps(model)
    return AloneModel(model, linears, why)


def _packed(model: Any, linears: Linears, way: str) -> Running:
    """Packed rows where they say the same as whole texts, else (where any way will do) each sequence alone."""
    try:
        whole = _read(model)
        packed = PackedModel(model, linears)
        says = _apart(packed, whole)
        if says is None:
            linears.lay_out()
            return packed
        packed.give_back()
        raise NotPacked(says)
    except NotPacked as why:
        if way != "auto":
            raise
        return _alone(model, linears, str(why))


def _texts(size: int) -> list[list[int]]:
    """Two short texts of a vocabulary."""
    return [[(place * step + size // 2) % size for place in range(length)] for step, length in ((3, 9), (5, 6))]


def _read(model: Any) -> list[Tensor]:
    """The logits (length, vocabulary) of the two texts, each read at once by transformers alone."""
    table = model.get_input_embeddings().weight
    with torch.inference_mode():
        texts = (torch.tensor([text], device=table.device) for text in _texts(table.shape[0]))
        return [model(input_ids=ids, use_cache=False).logits[0].float() for ids in texts]


def _apart(model: Running, whole: Sequence[Tensor]) -> str | None:
    """How the two texts in one batch, read in pieces, differ from `whole`; None where it is rounding only."""
    texts = _texts(whole[0].shape[1])
    cache = Cache(64, model.shapes, model.dtype, model.device)
    found: list[list[Tensor]] = [[], []]
    for cuts in (((0, 4), (0, 1)), ((4, 5), (1, 4)), ((5, 9), (4, 5)), (None, (5, 6))):
        parts = [
            Part(text[cut[0] : cut[1]], cut[0], 32 * number, None, cut[1] - cut[0])
            for number, (text, cut) in enumerate(zip(texts, cuts, strict=True))
            if cut is not None
        ]
        batch = Batch.of(parts, model.device)
        with torch.inference_mode():
            rows = list(model.run(batch, cache).clone())
        for part in batch.parts:
            found[part.place // 32] += rows[: part.wanted]
            del rows[: part.wanted]
    for rows, expected in zip(found, whole, strict=True):
        apart = float((torch.stack(rows).float() - expected).abs().max() / expected.abs().max().clamp_min(1e-6))
        if not apart <= STEPS_APART[model.dtype]:
            return f"packed rows say other things than whole texts: logits are {apart:.2g} of their size apart"
    return None
