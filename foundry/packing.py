"""Pairs into rows of tokens: whole documents laid side by side, and which positions are scored. It knows no model.

A document is begin, prompt, completion, end; prompt and completion are tokenized apart, as the trainer of jobs does it.
"""

from bisect import bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foundry.pairs import Pair
from foundry.vocabulary import BOS, EOS, SPECIAL, id_of

PROMPT_SHARE = 0.15
"""Share of prompt tokens that are scored: enough to learn from, few enough that random names do not drown the rest."""

DRILL_SHARE = 0.1
"""Share of documents that are drills. Without them a fine-tune cannot say a token that the texts hardly ever hold: the
head is tied to the embedding and stays frozen under LoRA, and the embeddings of unmet tokens are all alike."""

_WINDOW = 256
"""Documents held ready while a row is filled, so that short ones fill the gaps."""


@dataclass(frozen=True, slots=True)
class Document:
    """Token ids and, for each, whether predicting it is scored."""

    ids: tuple[int, ...]
    scored: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A batch: `ids` and `scored` of shape (rows, length); `scored[i, j]` says that `ids[i, j]` is a target."""

    ids: NDArray[np.int64]
    scored: NDArray[np.bool_]


def documents(
    pairs: Iterator[Pair], tokenizer: Tokenizer, seed: int, prompt_share: float = PROMPT_SHARE
) -> Iterator[Document]:
    """Tokenize pairs; the share of prompt tokens that are scored is drawn with `seed`."""
    rng = Random(seed)
    begin, end = id_of(tokenizer, BOS), id_of(tokenizer, EOS)
    while block := list(islice(pairs, 2048)):
        prompts = tokenizer.encode_batch_fast([pair.prompt for pair in block], add_special_tokens=False)
        completions = tokenizer.encode_batch_fast([pair.completion for pair in block], add_special_tokens=False)
        for prompt, completion in zip(prompts, completions, strict=True):
            asked = [rng.random() < prompt_share for _ in prompt.ids]
            yield Document(
                (begin, *prompt.ids, *completion.ids, end),
                (False, *asked, *[True] * len(completion.ids), True),
            )


def drills(vocabulary: int, begin: int, end: int, seed: int) -> Iterator[Document]:
    """Yield runs of 8 to 48 tokens that come twice: each token but the specials is as likely as any other."""
    rng = Random(seed)
    while True:
        run = [rng.randrange(len(SPECIAL), vocabulary) for _ in range(rng.randint(8, 48))]
        yield Document((begin, *run, *run, end), (False, *[False] * len(run), *[True] * len(run), True))


def diet(pairs: Iterator[Pair], tokenizer: Tokenizer, seed: int) -> Iterator[Document]:
    """Yield what a base is trained on: documents of pairs with drills in between."""
    rng = Random(seed)
    texts = documents(pairs, tokenizer, seed)
    practice = drills(tokenizer.get_vocab_size(), id_of(tokenizer, BOS), id_of(tokenizer, EOS), seed)
    while True:
        yield next(practice) if rng.random() < DRILL_SHARE else next(texts)


def rows(source: Iterator[Document], count: int, length: int, pad: int) -> Iterator[Rows]:
    """Pack documents, longest fitting first, into batches of `count` rows; a document longer than a row is left out."""
    ready: list[tuple[int, int, Document]] = []
    serial = 0
    while True:
        ids = np.full((count, length), pad, dtype=np.int64)
        scored = np.zeros((count, length), dtype=np.bool_)
        for row in range(count):
            at = 0
            while True:
                while len(ready) < _WINDOW:
                    document = next(source)
                    if len(document.ids) <= length:
                        serial += 1
                        insort(ready, (len(document.ids), serial, document))
                # The first document of a row is the oldest, so that none waits for ever.
                place = (
                    min(range(_WINDOW), key=lambda i: ready[i][1])
                    if at == 0
                    else bisect_right(ready, length - at, key=_size) - 1
                )
                if place < 0:
                    break
                size, _, document = ready.pop(place)
                ids[row, at : at + size] = document.ids
                scored[row, at : at + size] = document.scored
                at += size
        yield Rows(ids, scored)


def _size(entry: tuple[int, int, Document]) -> int:
    return entry[0]
