"""How many cores a step gets.

A step that reads prompts has work for all of them. Where a model is small a step of answers has not: what is read in it
comes through one core nearly as fast, and whoever carries the answers to their callers needs a core, too. Knows torch's
number of threads; nothing of models.
"""

from dataclasses import dataclass
from typing import Final

import torch

MANY: Final = 32
"""Rows of a step from which it has work for all cores."""


@dataclass(frozen=True, slots=True)
class Threads:
    """Of an engine's steps."""

    prompts: int
    """For steps of many rows."""
    answers: int
    """For those of few."""

    def begin(self, rows: int) -> None:
        """A step of so many rows runs from here on, on this thread."""
        wanted = self.prompts if rows >= MANY else self.answers
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
