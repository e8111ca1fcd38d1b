"""What one step reads: the rows of all sequences end to end, where each lies in the cache, whose adapter it wants.

Rows that read one token come first, those of one adapter beside each other; chunks of prompts follow. Knows tensors and
numbers; nothing of requests or models.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from outcrop.engines.loaded import Group, Loaded, groups


@dataclass(slots=True, eq=False)
class Past:
    """The cache of its own that a sequence has, where the architecture cannot share one."""

    cache: Any = None
    ids: list[int] = field(default_factory=list)
    """What lies in it, where it may have to be read again."""


@dataclass(slots=True, eq=False)
class Part:
    """One sequence's share of a step."""

    tokens: Sequence[int]
    start: int
    """How many tokens of it were read before."""
    place: int
    """Where its stretch of the cache begins."""
    adapter: Loaded | None = None
    wanted: int = 1
    """Of how many of its last rows the logits are wanted."""
    past: Past = field(default_factory=Past)

    @property
    def end(self) -> int:
        """How many of its tokens the cache holds after the step."""
        return self.start + len(self.tokens)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one sequence that read several tokens."""

    row: int
    length: int
    start: int
    place: int


@dataclass(eq=False)
class Batch:
    """The parts of one step, in the order of their rows, and the tensors that models read."""

    parts: list[Part]
    device: torch.device
    masks: dict[Any, Tensor] = field(default_factory=dict)
    """What attention keeps of one layer for the next."""
    _seen: dict[int | None, tuple[Tensor, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, parts: Sequence[Part], device: torch.device) -> "Batch":
        """Parts in any order."""
        alike: dict[Loaded | None, int] = {}
        for part in parts:
            if len(part.tokens) == 1:
                alike[part.adapter] = alike.get(part.adapter, 0) + 1

        def order(part: Part) -> tuple[int, int, int]:
            # Where many rows share an adapter they are one product; single rows are gathered into another one.
            number = 0 if part.adapter is None else part.adapter.number
            return len(part.tokens) > 1, -alike.get(part.adapter, 0) if number else -len(parts), number

        return cls(sorted(parts, key=order), device)

    @cached_property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(len(part.tokens) for part in self.parts)

    @cached_property
    def reaches(self) -> int:
        """The first place of the cache behind all that the rows read or write."""
        return max(part.place + part.end for part in self.parts)

    @cached_property
    def longest(self) -> int:
        """Tokens of the longest text, up to its last row."""
        return max(part.end for part in self.parts)

    @cached_property
    def single(self) -> int:
        """How many rows read one token: the first ones."""
        return sum(len(part.tokens) == 1 for part in self.parts)

    @cached_property
    def answered(self) -> int:
        """Of how many rows the logits are wanted."""
        return sum(part.wanted for part in self.parts)

    @cached_property
    def chunks(self) -> list[Chunk]:
        """The others."""
        found, row = [], self.single
        for part in self.parts[self.single :]:
            found.append(Chunk(row, len(part.tokens), part.start, part.place))
            row += len(part.tokens)
        return found

    def seen(self, window: int | None) -> tuple[Tensor, int]:
        """(single rows, 2): the place of the first key that each single row sees, and how many; and the most of them.

        They see all before them, or as many as the window has.
        """
        found = self._seen.get(window)
        if found is None:
            parts = self.parts[: self.single]
            counts = [part.end if window is None else min(part.end, window) for part in parts]
            firsts = [part.place + part.end - count for part, count in zip(parts, counts, strict=True)]
            found = torch.tensor([firsts, counts], device=self.device).t().contiguous(), max(counts, default=1)
            self._seen[window] = found
        return found

    @cached_property
    def ids(self) -> Tensor:
        """(rows,)."""
        return self._tensor([token for part in self.parts for token in part.tokens])

    @cached_property
    def positions(self) -> Tensor:
        """(rows,): each row's place in its own text."""
        return self._tensor([place for part in self.parts for place in range(part.start, part.end)])

    @cached_property
    def places(self) -> Tensor:
        """(rows,): each row's place in the cache."""
        return self._tensor(
            [place for part in self.parts for place in range(part.place + part.start, part.place + part.end)]
        )

    @cached_property
    def wanted(self) -> Tensor:
        """The rows whose logits are wanted, in the order of the parts."""
        found: list[int] = []
        row = 0
        for part in self.parts:
            row += len(part.tokens)
            found += range(row - part.wanted, row)
        return self._tensor(found)

    @cached_property
    def groups(self) -> list[Group]:
        """Which rows gain from which adapters; those of the base alone are in none."""
        return groups([(part.adapter, len(part.tokens)) for part in self.parts])

    def _tensor(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self.device)
