"""Decoders that keep their past in their own way, state-space models among them: a cache and a pass for each sequence.

Slower than packed rows and always right. Knows transformers' models and batches; nothing of requests.
"""

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from outcrop.engines.batch import Batch, Part
from outcrop.engines.cache import Cache, LayerShape
from outcrop.engines.linears import Linears
from outcrop.weights import steady_length


class AloneModel:
    """A transformers decoder with a DynamicCache a sequence."""

    together = False
    way = "alone"

    def __init__(self, model: Any, linears: Linears, why: str) -> None:
        """why: what keeps its rows from being packed; "" where nobody tried."""
        self._model, self.why = model, why
        table = model.get_input_embeddings().weight
        self.device, self.dtype = table.device, table.dtype
        self.shapes: list[LayerShape] = []
        """The shared cache keeps nothing: it counts tokens only."""
        self.gains = linears.gains
        self._steady = steady_length(model.config)
        # Logits of a whole prompt would be its length times the vocabulary: only the last row is ever read.
        self._takes_keep = "logits_to_keep" in inspect.signature(model.forward).parameters

    def run(self, batch: Batch, cache: Cache) -> Tensor:
        """Logits (wanted, vocabulary) of a step."""
        return torch.cat([self._part(part, batch.device) for part in batch.parts])

    def _part(self, part: Part, device: torch.device) -> Tensor:
        from transformers import DynamicCache

        past, part.past.cache = part.past.cache, None  # whoever fails in the middle has lost it
        if self._steady is not None and part.start <= self._steady:
            before = part.past.ids[: part.start]
            part.past.ids = [*before, *part.tokens]
            if part.start and part.end > self._steady:
                # From here on its rotary frequencies are others, of all that was read too: it is read again.
                part = replace(part, tokens=part.past.ids, start=0)
        alone = Batch([part], device)
        self.gains.begin(alone.groups, alone.rows)
        if part.start == 0:
            past = DynamicCache(config=self._model.config)
        elif past is None:
            raise RuntimeError("a step failed and took the sequence's cache along")
        keep = {"logits_to_keep": max(part.wanted, 1)} if self._takes_keep else {}
        out = self._model(input_ids=alone.ids[None], past_key_values=past, use_cache=True, **keep)
        part.past.cache = past
        logits: Tensor = out.logits[0]
        return logits[logits.shape[0] - part.wanted :]
