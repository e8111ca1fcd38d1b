"""events.jsonl read as it grows: whole lines only, each once, and again when heeding it failed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outcrop.errors import OutcropError
from outcrop.jobs.events import Account, Event, Follower, append

AT = datetime(2024, 5, 1, 12, tzinfo=UTC)
LINE = '{"at": "2024-05-01T12:00:00.000Z", "kind": "checkpoint", "step": %d}\n'


def steps(follower: Follower) -> list[int]:
    return [event.members["step"] for event in follower.new()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_nothing_is_told_before_there_is_a_file(path: Path) -> None:
    assert list(Follower(path).new()) == []


def test_an_event_has_its_instant_kind_and_members(path: Path) -> None:
    write(path, LINE % 3)
    assert list(Follower(path).new()) == [Event(AT, "checkpoint", {"step": 3})]


def test_each_line_is_told_once(path: Path) -> None:
    follower = Follower(path)
    write(path, LINE % 1 + LINE % 2)
    assert steps(follower) == [1, 2]
    assert steps(follower) == []
    write(path, LINE % 3)
    assert steps(follower) == [3]


def test_half_a_line_waits_for_its_other_half(path: Path) -> None:
    follower, line = Follower(path), LINE % 1
    for cut in range(1, len(line)):
        path.write_text(line[:cut])
        assert steps(follower) == []
    path.write_text(line)
    assert steps(follower) == [1]


def test_an_event_whose_heeding_failed_comes_again(path: Path) -> None:
    follower = Follower(path)
    write(path, LINE % 1 + LINE % 2)
    told = follower.new()
    assert next(told).members["step"] == 1
    assert next(told).members["step"] == 2
    told.close()
    assert steps(follower) == [2]


@pytest.mark.parametrize(
    "line",
    [
        "{}\n",
        "[]\n",
        "\n",
        '{"at": "yesterday", "kind": "x"}\n',
        '{"at": "2024-05-01T12:00:00", "kind": "x"}\n',
        '{"at": "2024-05-01T12:00:00Z", "ki{"at": "2024-05-01T12:00:00Z", "kind": "x"}\n',
    ],
)
def test_a_broken_line_is_told_by_its_place(path: Path, line: str) -> None:
    follower = Follower(path)
    write(path, LINE % 1 + line)
    with pytest.raises(OutcropError, match=rf"events.jsonl has a broken line at byte {len(LINE % 1)}"):
        list(follower.new())


def test_a_file_that_vanished_or_shrank_is_a_fault(path: Path) -> None:
    follower = Follower(path)
    write(path, LINE % 1 + LINE % 2)
    assert steps(follower) == [1, 2]
    path.write_text(LINE % 1)
    with pytest.raises(OutcropError, match="shorter than it was"):
        list(follower.new())
    path.unlink()
    with pytest.raises(OutcropError, match="has vanished"):
        list(follower.new())


def test_our_own_events_follow_the_last_whole_line(path: Path) -> None:
    follower = Follower(path)
    write(path, LINE % 1 + (LINE % 2)[:20])
    assert steps(follower) == [1]
    append(path, Event(AT, "log", {"level": "warning", "message": "too fast"}))
    assert list(follower.new()) == [Event(AT, "log", {"level": "warning", "message": "too fast"})]
    assert path.read_text().startswith(LINE % 1)
    assert path.read_text().count("\n") == 2


def test_the_account_counts_a_repeated_step_once_and_keeps_the_last_word() -> None:
    account = Account()
    for kind, members in [
        ("step", {"step": 0, "tokens": 10}),
        ("step", {"step": 1, "tokens": 20}),
        ("checkpoint", {"step": 1}),
        ("step", {"step": 1, "tokens": 21}),
        ("failed", {"message": "no"}),
        ("log", {"message": "good night"}),
    ]:
        account.add(Event(AT, kind, members))
    assert (account.tokens, account.checkpoint) == ({0: 10, 1: 21}, 1)
    assert account.ending is not None
    assert account.ending.kind == "failed"
