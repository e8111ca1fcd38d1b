"""How segments go through an architecture: end to end where it keeps them apart, which is tried, else one by one.

Many architectures hand on what our attention needs; some ignore it, some mix neighbours outside attention (by
convolutions, recurrences), some ask for more than it carries out. Those are trained with transformers' own attention, a
segment at a time: slower, and the same loss. Knows models; nothing of plans or losses.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import torch
from torch import Tensor, nn

from outcrop.errors import OutcropError
from outcrop.train import attention, block
from outcrop.train.likelihood import head_likelihood, negative_log_likelihood
from outcrop.weights import steady_length

TRIED: Final = 6
"""Tokens of each of the two segments that are tried."""

LEAK: Final = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest change of a segment's logits, relative to their size, when only its neighbour changes: rounding, where a
mixture of experts gathers tokens in another order. A true leak changes them by a good part of their size."""

APART: Final = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 3e-2}
"""Largest difference, likewise, between a segment beside another and the same segment alone."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The way of segments through one model."""

    model: Any
    alone: str | None
    """Why segments go one by one; None: they go together."""
    keeps: bool
    """Whether the model can be told which places' logits are wanted."""
    head: nn.Linear | None = None
    """What alone makes logits of the last hidden states, where that was tried."""
    blocks: bool = False
    """Whether the layers were replaced by blocks, which leave out what is not wanted at the end."""
    shares: bool = False
    """Whether what all segments of a row begin with can lie in front of them once."""
    steady: int | None = None
    """Segments that are longer go one by one all the same; see weights.steady_length."""
    doubt: str | None = None
    """Why blocks, which this architecture could have, were taken out again."""

    @property
    def slower(self) -> str | None:
        """What these weights lose of the speed that others have, and why."""
        if self.alone is not None:
            return f"its examples are trained one by one, which is slower than packed: {self.alone}"
        if self.steady is not None:
            return (
                f"examples of more than {self.steady:,} tokens are trained one by one, which is slower than packed: "
                f"{type(self.model).__name__} takes its rotary frequencies from the longest one"
            )
        if self.doubt is not None:
            return f"its layers are trained as transformers has them, which is slower than in blocks: {self.doubt}"
        return attention.slower(self.model)

    @property
    def told(self) -> str | None:
        """How the examples of a row are attended to, where that depends on the machine: on a GPU."""
        return None if self.alone is not None else attention.told(self.model)

    @classmethod
    def of(cls, model: Any) -> "Layout":
        """Try a model, and leave it with the attention that its segments need: ours, or its usual one."""
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        attention.register()
        usual = _attention_of(model)
        # Not at loading: an architecture that cannot have another attention would fail there, or lose its mask.
        model.set_attn_implementation(attention.NAME)
        if _attention_of(model) != attention.NAME:
            return cls(model, f"{type(model).__name__} has an attention of its own", keeps)
        reason = _mixes(model)
        if reason is not None:
            model.set_attn_implementation(usual)
            return cls(model, reason, keeps)
        head, steady = _head(model), steady_length(model.config)
        tried = head is not None and block.installable(model)
        doubt = _in_blocks(model) if tried else None
        shares = steady is None and _shares(model)
        return cls(model, None, keeps, head, tried and doubt is None, shares, steady, doubt)

    def logits(self, ids: Tensor, positions: Tensor, segments: Sequence[int], rows: Tensor, shared: int = 0) -> Tensor:
        """Logits (rows, vocabulary) at these ascending places of (1, T) ids, each segment seeing itself only.

        shared: tokens at the front of the row with which all segments, told without them, begin; see `shares`.
        """
        if self._together(segments):
            given = {"segments": tuple(segments), **({"shared": shared} if shared else {})}
            return self._pass(rows, input_ids=ids, position_ids=positions, **given)
        pieces = []
        for end, length in zip(accumulate(segments), segments, strict=True):
            start = end - length
            inside = rows[(rows >= start) & (rows < end)] - start
            if len(inside):
                pieces.append(self._single(inside, ids[:, start:end]))
        return torch.cat(pieces) if pieces else self._single(rows, ids[:, : segments[0]])

    def likelihood(  # noqa: PLR0917
        self,
        ids: Tensor,
        positions: Tensor,
        segments: Sequence[int],
        rows: Tensor,
        targets: Tensor,
        share: float,
        shared: int = 0,
    ) -> Tensor:
        """The negative log-likelihood of `targets` at those places of logits(), summed, times `share`; float32."""
        if self.head is None or not self._together(segments):
            return negative_log_likelihood(self.logits(ids, positions, segments, rows, shared), targets, share)
        more: dict[str, Any] = {"shared": shared} if shared else {}
        if self.blocks:
            hidden = _hidden(self.model, ids, positions, segments, wanted=rows, **more)[0]
        else:
            hidden = _hidden(self.model, ids, positions, segments, **more)[0, rows]
        return head_likelihood(hidden, self.head.weight, self.head.bias, targets, share)

    def _together(self, segments: Sequence[int]) -> bool:
        return self.alone is None and (self.steady is None or max(segments) <= self.steady)

    def _single(self, rows: Tensor, ids: Tensor) -> Tensor:
        """One segment in a pass of its own."""
        if self.alone is not None:
            return self._pass(rows, input_ids=ids)
        places = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        return self._pass(rows, input_ids=ids, position_ids=places, segments=(ids.shape[1],))

    def _pass(self, rows: Tensor, **given: Any) -> Tensor:
        # Only these rows go through the head; transformers takes places as well as a count.
        kept = {"logits_to_keep": rows} if self.keeps else {}
        # Not [0]: its way back would fill a tensor of that size with zeros first.
        logits: Tensor = self.model(use_cache=False, **given, **kept).logits.squeeze(0)
        return logits if self.keeps else logits[rows]


def _attention_of(model: Any) -> str:
    return str(model.config.get_text_config()._attn_implementation)


def _hidden(model: Any, ids: Tensor, positions: Tensor, segments: Sequence[int], **more: Any) -> Tensor:
    """(1, T, width): what the head is given."""
    found: Tensor = model.base_model(
        input_ids=ids, position_ids=positions, segments=tuple(segments), use_cache=False, **more
    ).last_hidden_state
    return found


def _head(model: Any) -> nn.Linear | None:
    """The head, where logits are its product and nothing else: some models scale or bend them afterwards."""
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Linear) or model.base_model is model:
        return None
    places = torch.arange(TRIED, device=head.weight.device).unsqueeze(0)
    with torch.no_grad():
        logits = model(input_ids=places, position_ids=places, segments=(TRIED,), use_cache=False).logits
        made = head(_hidden(model, places, places, (TRIED,)))
    # To the last bit: what bends large logits leaves those of fresh weights nearly as they are.
    return head if torch.equal(made, logits) else None


def _in_blocks(model: Any) -> str | None:
    """Replace the layers by blocks, or leave them and tell why: the model must say then what it said before."""
    with torch.no_grad():
        before, _, _ = _tried(model)
        block.install(model)
        after, _, _ = _tried(model)
    apart = float((after - before).abs().max() / before.abs().max().clamp_min(1e-6))
    if apart <= APART[next(model.parameters()).dtype]:
        return None
    block.remove(model)
    return f"with blocks {type(model).__name__}'s logits are off by {apart:.2g} of their size"


def _mixes(model: Any) -> str | None:
    """Why segments of this model may not lie end to end, or None; found by trying two of them."""
    taken = inspect.signature(model.forward).parameters
    name = type(model).__name__
    if "position_ids" not in taken or not any(one.kind is one.VAR_KEYWORD for one in taken.values()):
        return f"{name} takes no positions or hands nothing on to its attention"
    try:
        together, beside, alone = _tried(model)
    except OutcropError as fault:
        return str(fault)
    size = alone.abs().max().clamp_min(1e-6)
    dtype = next(model.parameters()).dtype
    if (together - beside).abs().max() > LEAK[dtype] * size or (together - alone).abs().max() > APART[dtype] * size:
        return f"{name} lets neighbours in a row see each other"
    return None


def _shares(model: Any) -> bool:
    """Whether two texts with one beginning have the logits beside each other that each has alone."""
    device = next(model.parameters()).device
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    begin, first, second = ((torch.arange(TRIED, device=device) * 5 + shift) % vocabulary for shift in (1, 2, 3))
    ids = torch.cat((begin, first, second)).unsqueeze(0)
    places = torch.arange(2 * TRIED, device=device)
    positions = torch.cat((places, places[TRIED:])).unsqueeze(0)
    with torch.no_grad():
        row = model(
            input_ids=ids, position_ids=positions, segments=(TRIED, TRIED), shared=TRIED, use_cache=False
        ).logits[0]
        whole = torch.cat((begin, second)).unsqueeze(0)
        alone = model(input_ids=whole, position_ids=places.unsqueeze(0), segments=(2 * TRIED,), use_cache=False).logits[
            0
        ]
    apart = (row[2 * TRIED :].float() - alone[TRIED:].float()).abs().max()
    return bool(apart <= APART[alone.dtype] * alone.abs().max().clamp_min(1e-6))


def _tried(model: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of one segment: after a neighbour, after another one, and alone."""
    device = next(model.parameters()).device
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    places = torch.arange(TRIED, device=device)
    segment, first, second = ((places * 3 + vocabulary // 2 + shift) % vocabulary for shift in (0, 1, 2))

    def logits(*row: Tensor) -> Tensor:
        ids, positions = torch.cat(row).unsqueeze(0), places.repeat(len(row)).unsqueeze(0)
        segments = (TRIED,) * len(row)
        found = model(input_ids=ids, position_ids=positions, segments=segments, use_cache=False).logits
        last: Tensor = found[0, -TRIED:].float()
        return last

    # Not inference_mode: what a model keeps for later (rotary tables) must be good for training.
    with torch.no_grad():
        return logits(first, segment), logits(second, segment), logits(segment)
