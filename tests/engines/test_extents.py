"""Stretches of an axis, against a plain list of who holds which place."""

import random

import pytest

from outcrop.engines.extents import Extents


def test_first_fit_takes_the_lowest_hole_that_is_long_enough() -> None:
    extents = Extents(100)
    places = [extents.take(length) for length in (10, 20, 30)]
    assert places == [0, 10, 30]
    extents.give(0, 10)
    extents.give(30, 30)
    assert (extents.take(15), extents.take(10)) == (30, 0)
    assert extents.take(60) is None
    assert extents.free == 55


def test_neighbours_become_one_hole_again() -> None:
    extents = Extents(30)
    for _ in range(3):
        extents.take(10)
    for start in (20, 0, 10):
        extents.give(start, 10)
    assert extents.take(30) == 0


def test_growing_needs_the_place_right_behind() -> None:
    extents = Extents(30)
    extents.take(10)
    second = extents.take(10)
    assert second == 10
    assert not extents.extend(10, 1), "the second stands there"
    assert not extents.extend(20, 11)
    assert extents.extend(20, 10)
    assert extents.free == 0


@pytest.mark.parametrize("seed", range(5))
def test_no_place_is_held_twice_or_lost(seed: int) -> None:
    draw = random.Random(seed)
    extents, held = Extents(200), dict[int, int]()
    for _ in range(2000):
        if held and draw.random() < 0.4:
            start = draw.choice(sorted(held))
            extents.give(start, held.pop(start))
        elif held and draw.random() < 0.3:
            start, more = draw.choice(sorted(held)), draw.randint(1, 9)
            end = start + held[start]
            taken = {place for other, length in held.items() for place in range(other, other + length)}
            free = end + more <= 200 and not taken & set(range(end, end + more))
            assert extents.extend(end, more) == free
            held[start] += more if free else 0
        else:
            length = draw.randint(1, 20)
            taken = {place for other, size in held.items() for place in range(other, other + size)}
            fits = [place for place in range(201 - length) if not taken & set(range(place, place + length))]
            found = extents.take(length)
            assert found == (fits[0] if fits else None)
            if found is not None:
                held[found] = length
        assert extents.free == 200 - sum(held.values())
