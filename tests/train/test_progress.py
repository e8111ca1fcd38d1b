"""How far the reading of a file is: told by the clock, and never beyond the end."""

from typing import Any

from outcrop.train.progress import EVERY, Progress


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_is_quick_is_not_spoken_of_and_what_takes_long_now_and_then() -> None:
    clock, told = Clock(), []

    def emit(**members: Any) -> None:
        told.append(members)

    progress = Progress(emit, clock)
    progress.begin("checking", "t.jsonl", 100, "bytes")
    for _ in range(5):
        progress.move(10)
    assert told == []
    clock.now += EVERY
    progress.move(20)
    progress.move(20)
    clock.now += EVERY
    progress.move(64)  # a block is padded: no more than all is ever done
    progress.begin("tokenising", "t.jsonl", 8, "records")
    progress.move(3)
    clock.now += EVERY
    progress.move(1)
    first = {"doing": "checking", "file": "t.jsonl", "total": 100, "unit": "bytes"}
    assert told == [
        {"done": 70, **first},
        {"done": 100, **first},
        {"done": 4, "doing": "tokenising", "file": "t.jsonl", "total": 8, "unit": "records"},
    ]
