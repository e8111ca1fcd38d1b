"""The diet of the base: which makers it learns from, in which shares, as one endless seeded stream."""

from collections.abc import Iterator
from random import Random

from foundry import copying, language, service
from foundry.pairs import Maker, Pair

SHARES: tuple[tuple[Maker, int], ...] = (
    (copying.echo, 8),
    (copying.recurrence, 8),
    (copying.lookup, 8),
    (copying.dictionary, 8),
    (copying.template, 14),
    (copying.pattern, 14),
    (copying.styled, 8),
    (service.reply, 12),
    (service.matter, 4),
    (service.extract, 8),
    (language.translation, 6),
    (language.sentiment, 3),
    (language.question, 4),
    (language.summary, 3),
    (language.story, 2),
)
"""Each maker and its weight among the drawn pairs."""


def pairs(seed: int) -> Iterator[Pair]:
    """Yield pairs for ever; the same seed yields the same pairs."""
    rng = Random(seed)
    makers, weights = [maker for maker, _ in SHARES], [weight for _, weight in SHARES]
    while True:
        yield rng.choices(makers, weights)[0](rng)
