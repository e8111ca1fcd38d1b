"""Texts of nothing but white space are told with their lines, and are no faults."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcrop.datasets.blanks import SHOWN, WIDE, Blank, blanks
from outcrop.datasets.check import check_file
from outcrop.datasets.match import PAD
from outcrop.datasets.report import Report
from outcrop.datasets.texts import spelled
from outcrop.records import Limits

NEAR = '\u200b\u180e\ufeff\u2007x\\"/nurt0bあ。「\u3001\b'
"""White space's neighbours: what looks like it, is written like it, or begins with the same bytes."""


def check(path: Path, format: str, *lines: str) -> Report:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    report = check_file(path, format, Limits(), "train")
    assert report.passed, report.faults
    return report


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)]


def blocks(*texts: str, system: str | None = None) -> dict[str, Any]:
    messages = [{"role": turn["role"], "content": [{"text": turn["content"]}]} for turn in turns(*texts)]
    head: dict[str, Any] = {"schemaVersion": "bedrock-conversation-2024"}
    return head | ({} if system is None else {"system": [{"text": system}]}) | {"messages": messages}


def test_white_space_is_what_python_calls_so() -> None:
    every = "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1))))
    assert [each for each in every if not each.isascii()] == list(WIDE)
    data = [spelled(each) for each in every]
    assert len(blanks(b"".join([*data, PAD]), *spans(data))) == len(every)


def spans(data: list[bytes]) -> tuple[Any, Any]:
    lengths = np.array([len(each) for each in data], np.int64)
    return np.cumsum(lengths) - lengths, lengths


@given(st.lists(st.text(alphabet=st.sampled_from(f" \n\t\r\f\v\x1c\x1f{WIDE}" * 3 + NEAR), min_size=1, max_size=6)))
def test_it_finds_what_python_finds(texts: list[str]) -> None:
    data = [spelled(text) for text in texts]
    found = blanks(b"".join([*data, PAD]), *spans(data))
    assert found.tolist() == [at for at, text in enumerate(texts) if text.isspace()]


@pytest.mark.parametrize(
    ("format", "good", "blank", "parts"),
    [
        (
            "prompt-completion",
            {"prompt": " a", "completion": "b "},
            [{"prompt": " ", "completion": "b"}, {"completion": "\n\u3000", "prompt": "a"}],
            ["prompt", "completion"],
        ),
        ("text", {"input": "\n\na"}, [{"input": " "}, {"input": "\t" * 5000}], ["input", "input"]),
        (
            "messages",
            {"system": "s", "messages": turns("a", "b")},
            [
                {"messages": turns("a", " ")},
                {"messages": turns("a", "b", "\u00a0", "d")},
                {"system": "\r\n", "messages": turns("a", "b")},
            ],
            ["messages[1].content", "messages[2].content", "system"],
        ),
        (
            "conversation",
            blocks("a", "b"),
            [blocks("a", " "), blocks(" ", "b"), blocks("a", "b", system="\u2028")],
            ["messages[1].content", "messages[0].content", "system"],
        ),
    ],
)
@pytest.mark.parametrize("spelling", [{}, {"ensure_ascii": False}, {"separators": (" , ", " : ")}])
def test_every_format_tells_them_with_line_and_part(
    format: str,
    good: dict[str, Any],
    blank: list[dict[str, Any]],
    parts: list[str],
    *,
    spelling: dict[str, Any],
    tmp_path: Path,
) -> None:
    lines = [json.dumps(record, **spelling) for each in blank for record in (good, each)]
    report = check(tmp_path / "f", format, *lines)
    assert report.blank == len(blank)
    assert report.blanks == tuple(Blank(2 * at, part) for at, part in enumerate(parts, start=1))
    said = ", ".join(f"line {each.line}: {each.part}" for each in report.blanks)
    verb = "record holds" if len(blank) == 1 else "records hold"
    assert f"{len(blank)} {verb} a text of nothing but white space ({said})" in report.remarks
    document = json.loads(json.dumps(report.document()))
    assert document["blanks"] == [{"line": each.line, "part": each.part} for each in report.blanks]


def test_the_first_are_told_and_all_are_counted(tmp_path: Path) -> None:
    pair = [{"prompt": f"a{at}", "completion": " "} for at in range(30)]
    both = [{"prompt": " " * at, "completion": "\n"} for at in range(1, 31)]
    # The second line is read by itself, as no block knows its spaces.
    lines = [json.dumps(record) for record in pair]
    lines[1] = json.dumps(pair[1], separators=(" , ", " : "))
    report = check(tmp_path / "f", "prompt-completion", *lines, *map(json.dumps, both))
    assert report.blank == 60, "records, not texts"
    assert report.blanks == tuple(Blank(line, "completion") for line in range(1, SHOWN + 1))
    assert any("(line 1: completion, line 2: completion, line 3: completion, …)" in each for each in report.remarks)


def test_lines_are_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    long = json.dumps({"prompt": "a" * 3000, "completion": "b"})
    report = check(tmp_path / "f", "prompt-completion", *[long] * 2000, '{"prompt": "a", "completion": " "}')
    assert report.blanks == (Blank(2001, "completion"),)


def test_a_record_that_is_refused_is_not_told_twice(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text('{"prompt": " ", "completion": "x"}\n{"prompt": " ", "completion": ""}\n')
    report = check_file(path, "prompt-completion", Limits(max_output_tokens=0), "train")
    assert (report.fault_count, report.blank) == (2, 0)
