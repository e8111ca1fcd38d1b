"""The one noun of the foundry: a prompt and the completion that follows it. It knows nothing of tokens or models."""

from dataclasses import dataclass
from random import Random
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pair:
    """What is asked and what is answered; the completion keeps its own leading space or newline."""

    prompt: str
    completion: str


class Maker(Protocol):
    """Draws one pair; everything that is random in it comes from the generator that it is given."""

    __name__: str

    def __call__(self, rng: Random, /) -> Pair: ...
