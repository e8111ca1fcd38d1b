"""What a report tells beside faults: lengths, repeats, leaks, quotas of files and of the whole dataset, advice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.datasets import lengths, repeats
from outcrop.datasets.check import check_file
from outcrop.datasets.lengths import Bar, Counts, lengths_of
from outcrop.datasets.overlap import overlap
from outcrop.datasets.repeats import Repeat, Trail, distinct, first_repeats, shared
from outcrop.datasets.report import Report, failure_message
from outcrop.records import Limits

PAIRS = "prompt-completion"
ASKED = '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "%s"}]}'


def write(path: Path, *pairs: tuple[str, str]) -> Path:
    lines = [json.dumps({"prompt": prompt, "completion": completion}) for prompt, completion in pairs]
    path.write_text("\n".join(lines) + "\n")
    return path


def check(path: Path, limits: Limits = Limits(), purpose: str = "train") -> Report:  # noqa: B008 - frozen
    return check_file(path, PAIRS, limits, purpose)


@given(st.lists(st.integers(0, 300), min_size=1))
def test_lengths_are_exact_in_short_and_in_long_counts(values: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lengths, "SHORT", 100)
        counts = Counts()
        counts.add(np.array(values[: len(values) // 2], np.int64))
        counts.add(np.array(values[len(values) // 2 :], np.int64))
        found = counts.lengths()
    assert found is not None
    ordered = sorted(values)
    assert (found.total, found.minimum, found.maximum) == (sum(values), ordered[0], ordered[-1])
    assert found.median == ordered[(len(values) + 1) // 2 - 1]
    assert found.percentile95 == ordered[-(-95 * len(values) // 100) - 1]
    for bar in found.histogram:
        assert bar.count == sum(bar.low <= value <= bar.high for value in values)
    assert sum(bar.count for bar in found.histogram) == len(values)
    assert found.histogram[0].count
    assert found.histogram[-1].count


def test_a_histogram_goes_in_powers_of_two() -> None:
    found = lengths_of(np.array([0, 1, 2, 3, 4, 9], np.int64))
    assert found is not None
    assert found.histogram == (Bar(0, 0, 1), Bar(1, 1, 1), Bar(2, 3, 2), Bar(4, 7, 1), Bar(8, 15, 1))
    assert lengths_of(np.empty(0, np.int64)) is None


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=9), max_size=6),
    st.lists(st.integers(0, 60), max_size=20),
    st.integers(1, 8),
    st.integers(1, 9),
)
def test_repeats_are_counted_right_in_memory_and_on_disk(
    chunks: list[list[int]], other: list[int], held: int, part: int
) -> None:
    def number(value: int) -> int:
        return value * 0x0123_4567_89AB_CDEF % 2**64  # 0 stays 0: no record

    first, second = Trail(), Trail()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeats, "HELD", held)
        patch.setattr(repeats, "PART", part)
        for chunk in chunks:
            first.add(np.array([number(value) for value in chunk], np.uint64))
        second.add(np.array([number(value) for value in other], np.uint64))
        values = [value for chunk in chunks for value in chunk]
        assert len(first) == len(values)
        assert distinct(first) == len(set(values) - {0})
        leaked = [place for place, value in enumerate(other, 1) if value and value in values]
        count, told = shared(first, second)
        assert count == len(leaked)
        assert told == tuple(Repeat(place, values.index(other[place - 1]) + 1) for place in leaked[: repeats.SHOWN])


def test_the_first_repeats_are_told_with_their_lines() -> None:
    trail = Trail()
    trail.add(np.array([5, 0, 7, 5, 0, 5, 7], np.uint64))
    assert first_repeats(trail) == (Repeat(4, 1), Repeat(6, 1), Repeat(7, 3))
    assert first_repeats(Trail()) == ()


def test_duplicates_and_contradictions_have_their_lines(tmp_path: Path) -> None:
    report = check(write(tmp_path / "f", ("a", "1"), ("b", "1"), ("a", "1"), ("a", "2"), ("a", "1")))
    assert (report.duplicates, report.contradictions) == (2, 1)
    assert report.repeated == (Repeat(3, 1), Repeat(5, 1))
    assert report.remarks == (
        "2 records repeat an earlier one exactly (line 3 is line 1, line 5 is line 1)",
        "1 record repeats an earlier one with another answer",
    )


def test_a_record_is_the_same_however_it_is_spelled(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text(
        '{"prompt": "é\\n", "completion": "b"}\n{"completion":"b","prompt":"\\u00e9\\u000a"}\n{ "prompt": "é\\n", '
        '"completion": "b"}\n',
        encoding="utf-8",
    )
    report = check(path)
    assert (report.accepted, report.duplicates) == (3, 2)
    assert report.given is not None
    assert report.given.total == 6


@pytest.mark.parametrize(
    ("format", "lines"),
    [
        ("text", ['{"input": "a"}', '{"input": "b"}', '{"input": "a"}']),
        ("messages", [ASKED % answer for answer in "aba"]),
    ],
)
def test_every_format_knows_its_repeats(format: str, lines: list[str], tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("\n".join(lines))
    report = check_file(path, format, Limits(), "train")
    assert report.duplicates == 1
    assert report.contradictions == (0 if format == "text" else 1)


def test_validation_records_that_are_trained_on_are_found(tmp_path: Path) -> None:
    training = check(write(tmp_path / "t", ("a", "1"), ("b", "2"), ("c", "3")))
    clean = check(write(tmp_path / "clean", ("a", "2")), purpose="validation")
    leaky = check(write(tmp_path / "leaky", ("x", "1"), ("c", "3"), ("b", "2"), ("c", "3")), purpose="validation")
    found = overlap([training, clean, leaky], Limits())
    assert found.faults == ()
    assert [(leak.name, leak.records) for leak in found.leaks] == [("leaky", 3)]
    assert found.leaks[0].first == (Repeat(2, 3), Repeat(3, 2), Repeat(4, 3))
    assert found.document()["leaks"][0]["first"][0] == {"line": 2, "of": 3}
    assert "3 records stand in the training file" in str(found.leaks[0])


def test_quotas_on_the_records_of_files(tmp_path: Path) -> None:
    path = write(tmp_path / "f", ("a", "1"), ("b", "2"))
    report = check(path, Limits(max_records=1))
    assert [fault.reason for fault in report.faults] == ["the file holds 2 records; at most 1 are allowed for training"]
    assert check(path, Limits(max_records=1, min_records=3), "validation").passed
    validation = check(path, purpose="validation")
    few, many, all_ = (
        overlap([report, validation, validation], limits).faults
        for limits in (Limits(min_validation_records=5), Limits(max_validation_records=3), Limits(max_sum_records=5))
    )
    assert "validation files hold 4 records; at least 5" in few[0].reason
    assert "validation files hold 4 records together; at most 3" in many[0].reason
    assert "hold 6 records together; at most 5" in all_[0].reason
    assert overlap([report], Limits(min_validation_records=5)).faults == ()


def test_advice_is_told_or_enforced_as_it_was_set(tmp_path: Path) -> None:
    path = write(tmp_path / "f", ("a" * 30, "b" * 30))
    limits = Limits(advised_records=2, advised_tokens=11)
    report = check(path, limits)
    assert report.passed
    assert report.advice == (
        "the file holds 1 record; AWS's guide advises 2 or more",
        "the file holds about 10 tokens as AWS counts them; AWS's guide advises 11",
    )
    strict = check(path, replace(limits, enforce_advice=True))
    assert [fault.kind for fault in strict.faults] == ["advice", "advice"]
    assert failure_message(strict, "s3://b/f", limits).startswith(
        "Input data f breaks a quota: the file holds 1 record"
    )
    assert check(path, replace(limits, enforce_advice=True), "validation").passed


def test_reserved_words_are_found_where_they_stand(tmp_path: Path) -> None:
    limits = Limits(reserved=("\nHuman:", "[EOS]"))
    path = write(tmp_path / "f", ("Human:", "fine"), ("a\nHuman: b", "c"), ("a", "the [EOS] token [EOS]"))
    report = check(path, limits)
    assert [(fault.line, fault.column, fault.kind) for fault in report.faults] == [
        (2, 14, "reserved"),
        (3, 36, "reserved"),
    ]
    assert "'[EOS]', which this model keeps for itself" in report.faults[1].reason
    message = failure_message(report, "s3://b/f", limits)
    assert message.startswith("Input data f holds a reserved word: ")
    assert report.kinds == {"reserved": 2}


def test_members_left_out_are_counted(tmp_path: Path) -> None:
    turns = (
        '"messages": [{"role": "user", "content": [{"text": "q"}]}, {"role": "assistant", "content": [{"text": "a"}]}]'
    )
    path = tmp_path / "f"
    path.write_text(f'{{"schemaVersion": "bedrock-conversation-2024", "id": 1, {turns}}}\n' * 2)
    report = check_file(path, "conversation", Limits(), "train")
    assert (report.passed, dict(report.ignored)) == (True, {"id": 2})
    assert "2 records hold a member id, which is not learnt" in report.remarks


def test_a_report_is_json(tmp_path: Path) -> None:
    report = check(write(tmp_path / "f", ("a", "1"), ("a", "1"), ("", "2")))
    document = json.loads(json.dumps(report.document()))
    assert document["passed"] is False
    assert document["faults"][0]["line"] == 3
    assert document["repeated"] == [{"line": 2, "of": 1}]
    assert document["given"]["histogram"] == [{"low": 1, "high": 1, "count": 2}]
    assert document["tokens"] is None
    assert "trail" not in document
