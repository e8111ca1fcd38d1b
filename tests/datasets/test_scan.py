"""Whole blocks are judged exactly as single lines are, and single lines as the strict reader judges them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outcrop.datasets.check import check_file, read_records
from outcrop.datasets.formats import FORMATS, Fault, Pair, Record, examine, parse, strictly
from outcrop.datasets.match import PAD
from outcrop.datasets.quotas import record_faults
from outcrop.datasets.scan import scan
from outcrop.datasets.texts import figures, gather
from outcrop.records import Limits
from tests.datasets.lines_of import any_lines, good_lines

LIMITS = Limits(max_input_tokens=20, max_output_tokens=90, max_total_tokens=100, reserved=("Human:", "\nfeed"))
FILES = st.sampled_from(FORMATS).flatmap(
    lambda form: st.tuples(st.just(form), st.lists(any_lines(form), min_size=1, max_size=8))
)


@given(FILES)
@settings(max_examples=300, deadline=None)
def test_a_quick_reader_answers_as_the_strict_one(file: tuple[str, list[bytes]]) -> None:
    form, lines = file
    for line in lines:
        if not line.endswith(b"\r"):
            assert examine(form, line, 2) == strictly(form, line, 2)


@given(FILES)
@example(("prompt-completion", [b'{"prompt": "a", "completion": "a"}'] * 3 + [b'{"completion": " ", "prompt": " "}']))
@settings(max_examples=300, deadline=None)
def test_a_block_is_judged_as_its_lines_are(file: tuple[str, list[bytes]]) -> None:
    form, lines = file
    seen = scan(b"".join(line + b"\n" for line in lines) + PAD, form)
    assert [bytes(line) for line in lines] == [
        b"".join(line + b"\n" for line in lines)[start:end] for start, end in zip(seen.starts, seen.ends, strict=True)
    ]
    alone: list[tuple[int, Record]] = []
    for line in np.flatnonzero(seen.good).tolist():
        found = strictly(form, lines[line], line + 1)
        assert not isinstance(found, Fault), lines[line]
        assert found[1] == ()
        alone.append((line, found[0]))
    together, single = figures(seen.texts), figures(gather(alone))
    for name in ("lines", "given", "learnt", "wholes", "questions", "blanks"):
        assert getattr(together, name).tolist() == getattr(single, name).tolist(), name


@given(FILES, st.booleans(), st.sampled_from([b"\n", b"\r\n"]))
@settings(max_examples=200, deadline=None)
def test_a_file_is_checked_as_its_lines_are(file: tuple[str, list[bytes]], ended: bool, feed: bytes) -> None:
    form, lines = file
    lines = [line.strip(b"\r") or b"x" for line in lines]
    faults: list[Fault] = []
    accepted: list[tuple[int, Record]] = []
    for number, line in enumerate(lines, start=1):
        found = examine(form, line, number)
        if isinstance(found, Fault):
            faults.append(found)
            continue
        broken = list(record_faults(found[0], number, line.decode(), form, LIMITS))
        faults += broken
        if not broken:
            accepted.append((number, found[0]))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "f.jsonl"
        path.write_bytes(feed.join(lines) + (feed if ended else b""))
        told: list[Fault] = []
        report = check_file(path, form, LIMITS, "train", told.append)
        assert told == faults
        assert (report.records, report.accepted) == (len(lines), len(accepted))
        assert list(read_records(path, form, LIMITS)) == accepted
    assert report.duplicates == len(accepted) - len({record for _, record in accepted})


@pytest.mark.parametrize("form", FORMATS)
def test_usual_spellings_of_good_lines_need_no_second_look(form: str) -> None:
    @given(good_lines(form))
    @settings(max_examples=100, deadline=None)
    def judge(line: bytes) -> None:
        rare = (b'" : ', b'" , ', b"} , ", rb"\u000", rb"\u001")  # spaces before marks; controls that have no name
        if not any(each in line for each in rare):
            assert scan(line + b"\n" + PAD, form).good.all(), line

    judge()


@given(st.sampled_from(FORMATS).flatmap(lambda form: st.tuples(st.just(form), any_lines(form))))
@settings(max_examples=300, deadline=None)
def test_what_is_accepted_the_standard_library_reads_the_same(given: tuple[str, bytes]) -> None:
    form, line = given
    found = parse(form, line, 2)
    if isinstance(found, Fault):
        assert found.line == 2
        assert 0 <= found.column <= len(line) + 1
        json.dumps(found.reason).encode("utf-8")
        return
    document: dict[str, Any] = json.loads(line)
    if isinstance(found, Pair):
        assert document == {"prompt": found.prompt, "completion": found.completion}
