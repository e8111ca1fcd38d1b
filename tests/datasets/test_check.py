"""A whole file: every fault, the counts, the quotas in AWS's words."""

import hashlib
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from outcrop.datasets import repeats
from outcrop.datasets.check import check_file, read_records
from outcrop.datasets.formats import Fault
from outcrop.datasets.lines import MAX_LINE_BYTES
from outcrop.datasets.quotas import sum_faults
from outcrop.datasets.report import KEPT_FAULTS, aws_text, failure_message
from outcrop.records import Limits

FORMAT = "prompt-completion"
FREE = Limits()


def line(prompt: str = "a", completion: str = "b") -> str:
    return json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=False)


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_bytes(("\n".join(lines) + end).encode("utf-8"))
    return path


def test_a_good_file_passes_with_its_figures(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", line("ab", "c"), line("abcd", "ccc"), line("ab", "c"), line("ab", "d"))
    report = check_file(path, FORMAT, FREE, "train")
    assert report.passed
    assert (report.records, report.accepted, report.fault_count) == (4, 4, 0)
    assert (report.duplicates, report.contradictions) == (1, 1)
    assert report.given is not None
    assert (report.given.total, report.given.minimum, report.given.maximum) == (10, 2, 4)
    content = path.read_bytes()
    assert (report.bytes, report.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert json.loads(json.dumps(report.document()))["passed"] is True


def test_the_last_line_needs_no_line_feed_but_may_not_be_blank(tmp_path: Path) -> None:
    assert check_file(write(tmp_path / "a", line(), end=""), FORMAT, FREE, "train").records == 1
    report = check_file(write(tmp_path / "b", line(), end="\n\n"), FORMAT, FREE, "train")
    assert [(fault.line, fault.kind) for fault in report.faults] == [(2, "jsonl")]


def test_every_fault_is_told_and_the_first_ones_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", line(), *["{}"] * (KEPT_FAULTS + 50), line(), "x")
    told: list[Fault] = []
    report = check_file(path, FORMAT, FREE, "train", told.append)
    assert [fault.line for fault in told] == [*range(2, KEPT_FAULTS + 52), KEPT_FAULTS + 53]
    assert report.fault_count == len(told) == KEPT_FAULTS + 51
    assert len(report.faults) == KEPT_FAULTS
    assert (report.records, report.accepted) == (KEPT_FAULTS + 53, 2)


def test_the_message_is_aws_sentence_for_the_first_fault_and_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", line(), '{"prompt": "a"}', "x")
    message = failure_message(check_file(path, FORMAT, FREE, "train"), "s3://bucket/data/train.jsonl", FREE)
    expected = (
        'Input data at data/train.jsonl must follow \'{"prompt": "<input text>", "completion": "<output text>"}\' '
    )
    assert message.startswith(expected + "format (line 2, column 1: the member completion is missing; faults in this")
    path = write(tmp_path / "train.jsonl", "{", "{}")
    message = failure_message(check_file(path, FORMAT, FREE, "train"), "s3://bucket/data/train.jsonl", FREE)
    sentence = "Unable to parse Amazon S3 file: train.jsonl. Data files must conform to JSONL format."
    assert message.startswith(f"{sentence} (line 1, column 2: ")
    assert message.endswith("faults in this file: 2)")


@pytest.mark.parametrize(
    ("limits", "prompt", "completion", "sentence"),
    [
        (Limits(max_input_tokens=10), 61, 1, "Maximum input token count 11 exceeds limit of 10 for train data"),
        (Limits(max_output_tokens=10), 1, 66, "Maximum output token count 11 exceeds limit of 10 for train data"),
        (
            Limits(max_total_tokens=10), 30, 31,
            "Max sum of input and output token length 11 exceeds total limit of 10 for train data",
        ),
    ],
)  # fmt: skip
def test_lengths_are_aws_tokens_of_six_characters(
    limits: Limits, prompt: int, completion: int, sentence: str, tmp_path: Path
) -> None:
    fits = line("あ" * max(1, prompt - 6), "b" * max(1, completion - 6))
    path = write(tmp_path / "train.jsonl", fits, line("あ" * prompt, "b" * completion))
    report = check_file(path, FORMAT, limits, "train")
    assert [fault.line for fault in report.faults] == [2]
    assert aws_text(report.faults[0], report, "s3://b/k", limits) == sentence
    assert [number for number, _ in read_records(path, FORMAT, limits)] == [1]


def test_the_maximum_is_that_of_the_whole_file(tmp_path: Path) -> None:
    limits = Limits(max_input_tokens=2)
    path = write(tmp_path / "validation.jsonl", line("a" * 13), line("a" * 60), line("a" * 20))
    report = check_file(path, FORMAT, limits, "validation")
    text = aws_text(report.faults[0], report, "s3://b/k", limits)
    assert text == "Maximum input token count 10 exceeds limit of 2 for validation data"


def test_quotas_of_the_file_as_a_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", line(), line())
    size = path.stat().st_size
    limits = Limits(min_records=3, max_training_bytes=size - 1, max_validation_bytes=size)
    training = check_file(path, FORMAT, limits, "train")
    assert [fault.kind for fault in training.faults] == ["file", "file"]
    assert f"{size} bytes" in training.faults[0].reason
    assert "at least 3" in training.faults[1].reason
    assert check_file(path, FORMAT, limits, "validation").passed
    assert not check_file(write(tmp_path / "empty", end=""), FORMAT, FREE, "validation").passed


def test_training_and_validation_share_the_quota_on_records(tmp_path: Path) -> None:
    report = check_file(write(tmp_path / "f.jsonl", line(), line()), FORMAT, FREE, "train")
    assert not list(sum_faults([report, report], replace(FREE, max_sum_records=4)))
    [fault] = sum_faults([report, report], replace(FREE, max_sum_records=3))
    assert "4 records together; at most 3" in fault.reason


def test_an_endless_line_is_refused_unread_and_the_count_goes_on(tmp_path: Path) -> None:
    long, longest = line("x" * (MAX_LINE_BYTES - 40)), line("x" * MAX_LINE_BYTES)
    path = write(tmp_path / "f.jsonl", line(), longest, line(), long, longest, longest, "x", line("z"), end="")
    report = check_file(path, FORMAT, FREE, "train")
    assert [(fault.line, fault.kind) for fault in report.faults] == [
        (2, "line"),
        (5, "line"),
        (6, "line"),
        (7, "jsonl"),
    ]
    assert report.faults[0].snippet.startswith('{"prompt": "xxx')
    assert report.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report.bytes == path.stat().st_size
    assert report.records == 8
    assert [number for number, _ in read_records(path, FORMAT, FREE)] == [1, 3, 4, 8]


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "HELD", 1000)
    monkeypatch.setattr(repeats, "PART", 1000)
    peaks = []
    for records in (20_000, 80_000):
        path = tmp_path / f"{records}.jsonl"
        path.write_text("".join(line(f"question {number}", "c" * 200) + "\n" for number in range(records)))
        tracemalloc.start()
        report = check_file(path, FORMAT, FREE, "train")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.accepted, report.duplicates) == (records, 0)
    assert peaks[1] < 1.1 * peaks[0] < 25_000_000


def test_the_pulse_can_end_a_check(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", *[line()] * 5000)

    def stop(_: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        check_file(path, FORMAT, FREE, "train", pulse=stop)
