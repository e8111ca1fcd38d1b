"""A lasting fault of a loop is told, but not at every look."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from outcrop.serve.trouble import MOST_TEXTS, SETTLED_SECONDS, Trouble


class Loop:
    """A loop whose clock is moved by hand, a look every quarter of a second."""

    def __init__(self, entries: list[Any]) -> None:
        self.now = 1000.0
        self.entries = entries
        self.trouble = Trouble("the look", lambda: self.now)

    def looks(self, number: int, *texts: str) -> list[tuple[str, int]]:
        """What is said of so many looks, which meet these faults in turn, or none."""
        before = len(self.entries)
        for look in range(number):
            self.now += 0.25
            if not texts:
                self.trouble.fine()
                continue
            try:
                raise OSError(texts[look % len(texts)])
            except OSError as fault:
                self.trouble.met(fault)
        return [(entry["event"], entry.get("times", entry.get("failed"))) for entry in self.entries[before:]]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with structlog.testing.capture_logs() as entries:
        yield Loop(entries)


def test_a_lasting_fault_is_told_once_and_then_after_growing_pauses(loop: Loop) -> None:
    assert loop.looks(1, "the disk is gone") == [("the look failed", 1)]
    minute = 4 * 60
    assert loop.looks(minute - 1, "the disk is gone") == []
    assert loop.looks(7 * minute, "the disk is gone") == [
        ("the look failed", minute + 1),
        ("the look failed", 3 * minute + 1),
        ("the look failed", 7 * minute + 1),
    ]
    day = 24 * 60 * minute
    assert len(loop.looks(day, "the disk is gone")) <= 30


def test_another_fault_is_told_at_once_and_each_with_its_traceback(loop: Loop) -> None:
    assert loop.looks(8, "the disk is gone", "no such table") == [("the look failed", 1), ("the look failed", 2)]
    assert all(entry["exc_info"] and entry["log_level"] == "error" for entry in loop.entries)


def test_faults_that_never_say_the_same_twice_do_not_flood_the_log(loop: Loop) -> None:
    assert len(loop.looks(100, *(f"connection {number} is lost" for number in range(100)))) == MOST_TEXTS


def test_the_end_is_told_once_and_the_next_fault_is_a_new_one(loop: Loop) -> None:
    loop.looks(9, "the disk is gone")
    assert loop.looks(100) == [("the look works again", 9)]
    assert loop.looks(2, "the disk is gone") == [("the look failed", 1)]


def test_what_fails_at_every_other_look_is_one_lasting_fault(loop: Loop) -> None:
    assert loop.looks(1, "an errand failed")
    for _ in range(15):
        loop.now += SETTLED_SECONDS / 4
        assert loop.looks(1) + loop.looks(1, "an errand failed") == []
