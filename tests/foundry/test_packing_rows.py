"""Rows of the foundry: whole documents from begin to end, scored where they should be, none lost."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from tokenizers import Tokenizer

from foundry.mix import pairs
from foundry.packing import Document, diet, documents, drills, rows
from foundry.vocabulary import BOS, EOS, PAD, id_of, learn


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return learn((pair.prompt + pair.completion for pair in islice(pairs(1), 2000)), 2400)


def split(ids: list[int], begin: int, pad: int) -> list[tuple[int, ...]]:
    """Cut a row into its documents."""
    used = [token for token in ids if token != pad]
    starts = [at for at, token in enumerate(used) if token == begin]
    return [tuple(used[a:b]) for a, b in zip(starts, [*starts[1:], len(used)], strict=True)]


def test_a_document_is_begin_prompt_completion_end(small: Tokenizer) -> None:
    pair = next(pairs(3))
    document = next(documents(iter([pair]), small, seed=3, prompt_share=0.0))
    assert (document.ids[0], document.ids[-1]) == (id_of(small, BOS), id_of(small, EOS))
    assert small.decode(list(document.ids)) == pair.prompt + pair.completion
    scored = [token for token, wanted in zip(document.ids, document.scored, strict=True) if wanted]
    assert small.decode(scored) == pair.completion
    assert scored[-1] == id_of(small, EOS)


def test_the_asked_share_of_prompt_tokens_is_scored(small: Tokenizer) -> None:
    bare = list(documents(islice(pairs(3), 400), small, seed=3, prompt_share=0.0))
    some = list(documents(islice(pairs(3), 400), small, seed=3, prompt_share=0.25))
    prompts = sum(len(document.ids) - 1 - sum(document.scored) for document in bare)
    extra = sum(sum(document.scored) for document in some) - sum(sum(document.scored) for document in bare)
    assert 0.22 < extra / prompts < 0.28


def test_drills_come_twice_and_meet_every_token(small: Tokenizer) -> None:
    begin, end, size = id_of(small, BOS), id_of(small, EOS), small.get_vocab_size()
    met: Counter[int] = Counter()
    for document in islice(drills(size, begin, end, seed=2), 2000):
        inner = document.ids[1:-1]
        half = len(inner) // 2
        assert inner[:half] == inner[half:]
        assert document.scored == (False, *[False] * half, *[True] * half, True)
        met.update(inner[:half])
    assert set(met) == set(range(3, size))


def test_one_document_in_ten_is_a_drill(small: Tokenizer) -> None:
    texts = {document.ids for document in documents(islice(pairs(6), 4000), small, seed=6)}
    drawn = list(islice(diet(pairs(6), small, seed=6), 2000))
    assert 0.07 < sum(document.ids not in texts for document in drawn) / len(drawn) < 0.13


def test_rows_hold_whole_documents_each_once(small: Tokenizer) -> None:
    made = list(documents(islice(pairs(4), 3000), small, seed=4))
    begin, pad = id_of(small, BOS), id_of(small, PAD)
    seen: list[tuple[int, ...]] = []
    filled = []
    for batch in islice(rows(iter(made), count=4, length=192, pad=pad), 50):
        filled.append(float(np.mean(batch.ids != pad)))
        assert not batch.scored[batch.ids == pad].any()
        for row in batch.ids.tolist():
            assert row[0] == begin
            seen += split(row, begin, pad)
    known = [document.ids for document in made if len(document.ids) <= 192]
    assert not Counter(seen) - Counter(known)
    assert np.mean(filled) > 0.97


def test_scores_stay_with_their_tokens(small: Tokenizer) -> None:
    pad = id_of(small, PAD)
    endless = (Document((1, n, n + 1), (False, False, True)) for n in range(100, 100_000, 2))
    for batch in islice(rows(endless, count=2, length=8, pad=pad), 20):
        scored = batch.ids[batch.scored]
        assert (scored % 2 == 1).all()
        assert len(scored) == 4
