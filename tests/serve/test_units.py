"""Admission by model units."""

import threading

import pytest

from outcrop.errors import ThrottlingException
from outcrop.serve.units import Bucket


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minute_s_worth_is_admitted_and_then_no_more(clock: Clock) -> None:
    bucket = Bucket(600, clock)
    assert [bucket.take(200) for _ in range(3)] == [200, 200, 200]
    with pytest.raises(ThrottlingException, match=r"^Too many tokens, please wait before trying again\.$"):
        bucket.take(1)


def test_it_fills_at_the_promised_rate_and_never_beyond_a_minute(clock: Clock) -> None:
    bucket = Bucket(600, clock)
    bucket.take(600)
    clock.now += 1
    assert bucket.take(10) == 10
    with pytest.raises(ThrottlingException):
        bucket.take(1)
    clock.now += 3600
    assert bucket.take(600) == 600
    with pytest.raises(ThrottlingException):
        bucket.take(1)


def test_what_was_not_used_comes_back_and_what_was_used_beyond_is_owed(clock: Clock) -> None:
    bucket = Bucket(600, clock)
    bucket.settle(bucket.take(600), 100)
    assert bucket.take(500) == 500
    bucket.settle(500, 800)
    clock.now += 30
    with pytest.raises(ThrottlingException):
        bucket.take(1)
    clock.now += 1
    assert bucket.take(10) == 10


def test_one_request_may_ask_for_more_than_a_minute_holds(clock: Clock) -> None:
    bucket = Bucket(600, clock)
    assert bucket.take(8192) == 600


def test_another_rate_holds_from_now_on(clock: Clock) -> None:
    bucket = Bucket(600, clock)
    bucket.take(600)
    bucket.resize(6000)
    with pytest.raises(ThrottlingException):
        bucket.take(1)
    clock.now += 1
    assert bucket.take(100) == 100
    bucket.resize(60)
    clock.now += 60
    with pytest.raises(ThrottlingException):
        [bucket.take(60), bucket.take(1)]


def test_many_threads_never_take_more_than_there_is(clock: Clock) -> None:
    bucket, taken = Bucket(1000, clock), []

    def take() -> None:
        for _ in range(100):
            try:
                taken.append(bucket.take(3))
            except ThrottlingException:
                return

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 999
