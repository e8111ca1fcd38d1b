"""Which beginnings the cache knows, whose they are, and what makes way when it is full."""

import random

import pytest
import torch

from outcrop.engines.cache import GRAIN, Cache, Holding, LayerShape, size_for
from outcrop.errors import OutcropError

CPU = torch.device("cpu")
SHAPES = [LayerShape(2, 4, 3)] * 2


def cache_of(size: int) -> Cache:
    return Cache(size, SHAPES, torch.float32, CPU)


def fill(cache: Cache, holding: Holding, tokens: list[int]) -> None:
    """As a step does: each token's numbers are its own id."""
    start = holding.place + len(holding.ids)
    for keys, values in cache.layers:
        for kept in (keys, values):
            kept[:, start : start + len(tokens)] = torch.tensor(tokens, dtype=torch.float32)[None, :, None]
    holding.ids.extend(tokens)


def told(cache: Cache, holding: Holding) -> list[int]:
    """What the numbers in a stretch say that its tokens are."""
    keys, values = cache.layers[1]
    stretch = slice(holding.place, holding.place + len(holding.ids))
    assert torch.equal(keys[0, stretch, 0], values[1, stretch, 2])
    return [int(number) for number in keys[1, stretch, 3]]


def read(cache: Cache, owner: int, tokens: list[int]) -> Holding:
    holding = cache.open(owner, tokens)
    assert holding is not None
    fill(cache, holding, tokens[len(holding.ids) :])
    return holding


def test_a_known_beginning_is_copied_and_stays_with_its_owner() -> None:
    cache = cache_of(1024)
    common = list(range(100, 150))
    first = read(cache, 0, [*common, 1, 2, 3])
    second = cache.open(0, [*common, 7, 8, 9])
    assert second is not None
    assert second is not first
    assert list(second.ids) == common
    assert told(cache, second) == common
    fill(cache, second, [7, 8, 9])
    assert told(cache, first) == [*common, 1, 2, 3]
    stranger = cache.open(5, [*common, 7, 8, 9])
    assert stranger is not None
    assert not stranger.ids
    assert (cache.figures.prefix_hits, cache.figures.prefix_tokens) == (1, 50)


def test_what_goes_on_where_it_ended_moves_nothing() -> None:
    cache = cache_of(1024)
    talk = list(range(40))
    first = read(cache, 3, talk)
    place = first.place
    cache.close(first)
    again = cache.open(3, [*talk, 77, 78])
    assert again is first
    assert again.place == place
    assert list(again.ids) == talk
    assert cache.held == again.room


def test_the_last_token_is_always_read_again() -> None:
    cache = cache_of(1024)
    talk = list(range(40))
    cache.close(read(cache, 0, talk))
    again = cache.open(0, talk)
    assert again is not None
    assert len(again.ids) == 39


def test_nothing_is_shared_where_it_is_not_wanted_or_not_worth_it() -> None:
    cache = cache_of(1024)
    cache.close(read(cache, 0, list(range(40))))
    alone = cache.open(0, list(range(40)), share=False)
    assert alone is not None
    assert not alone.ids
    short = cache.open(0, [*range(8), *range(500, 540)])
    assert short is not None
    assert not short.ids


def test_what_is_remembered_makes_way_the_longest_unused_first() -> None:
    cache = cache_of(6 * GRAIN)
    talks = [[number * 1000 + place for place in range(GRAIN)] for number in range(3)]
    for talk in talks:
        cache.close(read(cache, 0, talk))
    cache.close(read(cache, 0, [*talks[0], 5]))
    wide = read(cache, 0, [9000 + place for place in range(2 * GRAIN - 1)])
    assert cache.figures.evicted >= 1
    kept = cache.open(0, [*talks[0], 5, 6])
    assert kept is not None
    assert len(kept.ids) == GRAIN + 1, "it was used last"
    assert told(cache, wide) == [9000 + place for place in range(2 * GRAIN - 1)]


def test_a_full_cache_says_so_and_loses_nothing() -> None:
    cache = cache_of(4 * GRAIN)
    first = read(cache, 0, list(range(GRAIN)))
    second = read(cache, 0, list(range(1000, 1000 + GRAIN)))
    assert cache.open(0, list(range(2000, 2000 + GRAIN))) is None
    assert not cache.reserve(first, 3 * GRAIN)
    assert told(cache, first) == list(range(GRAIN))
    cache.close(second)
    assert cache.reserve(first, 3 * GRAIN)
    assert told(cache, first) == list(range(GRAIN))


def test_a_stretch_that_must_move_takes_its_numbers_along() -> None:
    cache = cache_of(8 * GRAIN)
    first = read(cache, 0, list(range(GRAIN - 1)))
    read(cache, 0, list(range(1000, 1010)))
    place = first.place
    assert cache.reserve(first, 2 * GRAIN)
    assert first.place != place
    assert told(cache, first) == list(range(GRAIN - 1))


def test_a_sole_beginning_does_not_stand_in_its_own_way() -> None:
    """What is remembered fills nearly all: a prompt that shares a part of it must still find room."""
    cache = cache_of(4 * GRAIN)
    cache.close(read(cache, 0, list(range(4 * GRAIN - 1))))
    other = cache.open(0, [*range(2 * GRAIN), *range(5000, 5000 + GRAIN)])
    assert other is not None
    whole = cache_of(4 * GRAIN)
    whole.close(read(whole, 0, [7] * 20))
    filler = read(whole, 0, list(range(300, 300 + GRAIN - 1)))
    whole.close(read(whole, 0, list(range(2 * GRAIN - 1))))
    whole.close(filler)
    assert whole.open(0, [*range(2 * GRAIN - 1), *range(900, 1020)]) is not None


def test_an_adapter_that_goes_leaves_nothing_behind() -> None:
    cache = cache_of(1024)
    cache.close(read(cache, 4, list(range(40))))
    assert cache.remembered == 40
    cache.forget(4)
    assert cache.remembered == 0
    assert cache.held == 0


def test_the_size_follows_the_budget() -> None:
    token = 2 * 2 * (4 + 3) * 4
    assert size_for(SHAPES, torch.float32, CPU, 10_000, 100 * token + 5) == 100
    assert size_for(SHAPES, torch.float32, CPU, 60, 100 * token) == 60
    assert 0 < size_for(SHAPES, torch.float32, CPU, 500, None) <= 500
    with pytest.raises(OutcropError, match="too little for keys and values"):
        size_for(SHAPES, torch.float32, CPU, 10_000, token)


def test_every_place_is_free_held_or_remembered_whatever_happened() -> None:
    draw = random.Random(3)
    cache = cache_of(8 * GRAIN)
    open_: list[Holding] = []
    for _ in range(2000):
        match draw.randrange(4):
            case 0:
                begin = [draw.randrange(3)] * draw.randrange(1, 3 * GRAIN)
                holding = cache.open(draw.randrange(2), [*begin, draw.randrange(9)], draw.random() < 0.9)
                if holding is not None:
                    holding.ids.extend([*begin, 0][len(holding.ids) :])
                    open_.append(holding)
            case 1 if open_:
                cache.reserve(draw.choice(open_), draw.randrange(1, 5 * GRAIN))
            case 2 if open_:
                cache.close(open_.pop(draw.randrange(len(open_))))
            case 3 if draw.random() < 0.05:
                cache.forget(draw.randrange(2))
        assert cache.held == sum(holding.room for holding in open_)
        assert cache.held + cache.remembered + cache._extents.free == cache.size
    for holding in open_:
        cache.close(holding)
    cache.forget(0)
    cache.forget(1)
    assert (cache.held, cache.remembered, cache._extents.free) == (0, 0, cache.size)
