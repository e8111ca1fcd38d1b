"""Any decoder of transformers, run over packed rows: through its registered attention function and its linear layers.

The model itself computes no mask and keeps no cache: rows of all sequences are one row of its batch, and our attention
function reads and writes the cache. Knows transformers' models, batches and the cache; nothing of requests.
"""

import sys
from typing import Any, Final

import torch
from torch import Tensor

from outcrop.engines.attention import attend, keep
from outcrop.engines.batch import Batch
from outcrop.engines.cache import Cache, LayerShape
from outcrop.engines.linears import Linears
from outcrop.errors import OutcropError
from outcrop.kernels.rule import Rule
from outcrop.weights import context_length, steady_length, window_of

NAME: Final = "outcrop_rows"

_UNCARRIED: Final = ("s_aux", "position_bias", "attention_sinks")
"""What some architectures ask of their attention beyond causality, a window and a cap; refused, never ignored."""


class NotPacked(OutcropError):
    """An architecture whose rows cannot be packed: each sequence needs a cache of its own."""


class PackedModel:
    """A transformers decoder over packed rows."""

    together = True
    way, why = "packed", ""

    def __init__(self, model: Any, linears: Linears) -> None:
        """Take over a model and its linear layers; raises NotPacked where its architecture does not let us."""
        if not model._supports_attention_backend or model._is_stateful:
            raise NotPacked(f"{type(model).__name__} does not take its attention from outside")
        steady = steady_length(model.config)
        if steady is not None and steady < (context_length(model.config) or sys.maxsize):
            # Nor in chunks: what a prompt's beginning is would hang on how much of it is read at once.
            raise NotPacked(f"{type(model).__name__} takes its rotary frequencies from the longest text of a pass")
        from transformers import AttentionInterface

        AttentionInterface.register(NAME, _attention)
        self._model = model
        self._before = model.config._attn_implementation
        self.take()
        table = model.get_input_embeddings().weight
        self.device, self.dtype = table.device, table.dtype
        try:
            self.shapes = self._measured()
        except NotPacked:
            self.give_back()
            raise
        self.gains = linears.gains

    def take(self) -> None:
        """Let the model attend through us."""
        self._model.set_attn_implementation(NAME)

    def give_back(self) -> None:
        """Let it attend as it came."""
        self._model.set_attn_implementation(self._before)

    def run(self, batch: Batch, cache: Cache) -> Tensor:
        """Logits (wanted, vocabulary) of a step; the rows' keys and values are in the cache after it."""
        self.gains.begin(batch.groups, batch.rows)
        out = self._model(
            input_ids=batch.ids[None],
            position_ids=batch.positions[None],
            use_cache=False,
            logits_to_keep=batch.wanted,
            rows=(batch, cache.layers),
        )
        logits: Tensor = out.logits[0]
        return logits

    def _measured(self) -> list[LayerShape]:
        """What each layer keeps of a token: seen in one short pass."""
        seen: dict[int, LayerShape] = {}
        ids = torch.zeros(1, 2, dtype=torch.long, device=self.device)
        place = torch.arange(2, device=self.device)[None]
        try:
            with torch.inference_mode():
                self._model(input_ids=ids, position_ids=place, use_cache=False, rows=seen)
        except (TypeError, ValueError, RuntimeError, AttributeError) as fault:
            raise NotPacked(f"{type(self._model).__name__} does not run on packed rows: {fault}") from fault
        layers = self._model.config.get_text_config().num_hidden_layers
        if sorted(seen) != list(range(layers)):
            raise NotPacked(f"{type(self._model).__name__} has layers without attention of their own")
        return [seen[layer] for layer in range(layers)]


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    rows: Any = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: query is (1, heads, rows, d), key and value (1, kv heads, rows, d)."""
    name = type(module).__name__
    if rows is None:
        raise NotPacked(f"{name} does not hand on what it is told")
    if attention_mask is not None or not getattr(module, "is_causal", True):
        raise NotPacked(f"{name} is not plainly causal")
    for asked in _UNCARRIED:
        if rest.get(asked) is not None:
            raise NotPacked(f"{name} asks for {asked} in its attention")
    layer: int = module.layer_idx
    if isinstance(rows, dict):
        if layer in rows:
            raise NotPacked(f"{name} attends more than once a layer")
        if sliding_window is None and window_of(module.config, layer) is not None:
            raise NotPacked(f"{name} leaves a window to its mask")
        rows[layer] = LayerShape(key.shape[1], key.shape[3], value.shape[3])
        return query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3]), None
    batch, layers = rows
    rule = Rule(query.shape[3] ** -0.5 if scaling is None else scaling, sliding_window, softcap)
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    keep(batch, layers[layer], key, value)
    return attend(batch, layers[layer], rule, query).unsqueeze(0), None
