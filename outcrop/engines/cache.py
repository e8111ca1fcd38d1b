"""The key-value cache: one arena of tokens for all sequences, what lies where in it, and what may be read again.

Every sequence holds one stretch of the arena, so attention reads its keys where they lie, without gathering pages. What
a finished sequence leaves is remembered until its room is needed: a prompt that begins the same, for the same adapter,
starts from a copy. Knows tensors and token ids; nothing of models, requests or text.
"""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from outcrop.engines.extents import Extents
from outcrop.errors import OutcropError
from outcrop.sources.memory import gigabytes, here

GRAIN: Final = 64
"""Tokens by which a stretch grows at least, and to whose multiples rooms are rounded."""

WORTH: Final = 16
"""Shared tokens under which reading them again costs less than looking after them."""


FREE_SHARE: Final = 0.25
"""Of a machine's free memory, what keys and values may grow to: other engines and training run beside."""

FREE_SHARE_GPU: Final = 0.8
"""Of a GPU's, which an engine has for itself; the rest is for the tensors of a step."""


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer keeps of a token."""

    heads: int
    key: int
    """Numbers of a head's key."""
    value: int

    @property
    def numbers(self) -> int:
        """Of one token."""
        return self.heads * (self.key + self.value)


@dataclass(slots=True, eq=False)
class Holding:
    """One sequence's stretch of the arena. The first len(ids) places of it are filled."""

    owner: int
    """Whose keys these are: the adapter's number, 0 for the base. Others never read them."""
    place: int
    room: int
    ids: "array[int]" = field(default_factory=lambda: array("i"))
    """The tokens whose keys and values lie there."""


@dataclass(slots=True)
class Figures:
    """What the cache has done since it was made."""

    prefix_hits: int = 0
    prefix_tokens: int = 0
    """Prompt tokens that were not read again."""
    evicted: int = 0


class Cache:
    """Keys and values of `size` tokens for layers of these shapes; keys are (heads, size, key)."""

    def __init__(self, size: int, shapes: Sequence[LayerShape], dtype: torch.dtype, device: torch.device) -> None:
        self.size = size
        self.figures = Figures()
        # Not zeroed: on a CPU a place costs memory only once a token was written there.
        self.layers: list[tuple[Tensor, Tensor]] = [
            (
                torch.empty(shape.heads, size, shape.key, dtype=dtype, device=device),
                torch.empty(shape.heads, size, shape.value, dtype=dtype, device=device),
            )
            for shape in shapes
        ]
        self._extents = Extents(size)
        self._held: dict[Holding, None] = {}
        self._remembered: OrderedDict[Holding, None] = OrderedDict()
        # Numbers, because other threads ask for them while this one changes what they are the sums of.
        self.held = 0
        """Places that running sequences hold."""
        self.remembered = 0
        """Places that finished sequences left filled, to be read again or given away."""

    def open(self, owner: int, tokens: Sequence[int], share: bool = True) -> Holding | None:
        """Room for these tokens and one more, filled with what is known of their beginning; None where there is none.

        At least the last token is left to be read, since its logits are wanted. share: False to read all of them.
        """
        need = _rounded(len(tokens) + 1, self.size)
        source, shared = self._longest(owner, array("i", tokens[:-1])) if share else (None, 0)
        if source is not None and source in self._remembered and shared == len(source.ids):
            # All that it holds goes on here: the stretch itself changes hands.
            self._take_back(source)
            if self.reserve(source, need):
                self._count(shared)
                return source
            self.close(source)
            source = None
        place = self._take(need, keep=source)
        if place is None and source in self._remembered:
            # Only what would be copied stands in the way.
            source, place = None, self._take(need)
        if place is None:
            return None
        holding = Holding(owner, place, need)
        self._held[holding] = None
        self.held += need
        if source is not None:
            self._copy(source.place, place, shared)
            holding.ids.extend(source.ids[:shared])
            self._count(shared)
            if source in self._remembered:
                self._remembered.move_to_end(source)
        return holding

    def reserve(self, holding: Holding, length: int) -> bool:
        """See that a stretch holds so many tokens, in place or elsewhere; False where there is no room."""
        if length <= holding.room:
            return True
        room, elsewhere = _rounded(length, self.size), _rounded(length + length // 4, self.size)
        while not self._extents.extend(holding.place + holding.room, room - holding.room):
            place = self._extents.take(elsewhere)
            if place is not None:
                self._copy(holding.place, place, len(holding.ids))
                self._extents.give(holding.place, holding.room)
                holding.place, room = place, elsewhere
                break
            if not self._make_way():
                return False
        self.held += room - holding.room
        holding.room = room
        return True

    def close(self, holding: Holding) -> None:
        """A sequence is through: its room is free for others, and what is in it remembered until they need it."""
        del self._held[holding]
        self.held -= holding.room
        filled = len(holding.ids)
        self._extents.give(holding.place + filled, holding.room - filled)
        holding.room = filled
        if filled >= WORTH:
            self._remembered[holding] = None
            self.remembered += filled
        else:
            self._extents.give(holding.place, filled)

    def forget(self, owner: int) -> None:
        """Nobody will ask for this adapter's keys again."""
        for holding in [one for one in self._remembered if one.owner == owner]:
            self._evict(holding)

    def _longest(self, owner: int, tokens: "array[int]") -> tuple[Holding | None, int]:
        """Who shares the longest beginning with these tokens, and how long it is."""
        wanted = np.frombuffer(tokens, dtype=np.intc) if tokens else np.empty(0, np.intc)
        best, found = WORTH - 1, None
        for holding in (*self._remembered, *self._held):
            if holding.owner != owner or min(len(holding.ids), len(wanted)) <= best:
                continue
            there = np.frombuffer(holding.ids, dtype=np.intc)[: len(wanted)]
            apart = there != wanted[: len(there)]
            shared = int(apart.argmax()) if apart.any() else len(there)
            if shared > best:
                best, found = shared, holding
        return (found, best) if found is not None else (None, 0)

    def _take(self, room: int, keep: Holding | None = None) -> int | None:
        """A stretch; what is remembered makes way, the longest unused first and `keep` not at all."""
        place = self._extents.take(room)
        while place is None and self._make_way(keep):
            place = self._extents.take(room)
        return place

    def _make_way(self, keep: Holding | None = None) -> bool:
        """Give away what was unused the longest; False where nothing is left to give."""
        oldest = next((holding for holding in self._remembered if holding is not keep), None)
        if oldest is None:
            return False
        self._evict(oldest)
        self.figures.evicted += 1
        return True

    def _take_back(self, holding: Holding) -> None:
        """What was remembered runs again."""
        del self._remembered[holding]
        self._held[holding] = None
        self.remembered -= holding.room
        self.held += holding.room

    def _evict(self, holding: Holding) -> None:
        del self._remembered[holding]
        self.remembered -= holding.room
        self._extents.give(holding.place, holding.room)

    def _copy(self, source: int, target: int, length: int) -> None:
        with torch.inference_mode():
            for keys, values in self.layers:
                keys[:, target : target + length] = keys[:, source : source + length]
                values[:, target : target + length] = values[:, source : source + length]

    def _count(self, shared: int) -> None:
        self.figures.prefix_hits += 1
        self.figures.prefix_tokens += shared


def _rounded(length: int, most: int) -> int:
    return max(length, min(-(-length // GRAIN) * GRAIN, most))


def size_for(
    shapes: Sequence[LayerShape], dtype: torch.dtype, device: torch.device, most: int, budget: int | None
) -> int:
    """Tokens that a cache may hold: `most`, as far as `budget` bytes go; None: a share of the memory that is free.

    Raises OutcropError where that is no room at all.
    """
    number = sum(shape.numbers for shape in shapes) * dtype.itemsize
    if not number:
        return most
    if budget is None:
        free = here().free if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]
        budget = int(free * (FREE_SHARE if device.type == "cpu" else FREE_SHARE_GPU))
    size = min(most, budget // number)
    if size < min(GRAIN, most):
        raise OutcropError(
            f"{gigabytes(budget)} are too little for keys and values, of which one token takes {number / 1e6:.2g} MB"
        )
    return size
