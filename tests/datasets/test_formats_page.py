"""docs/reference/formats.md says what is so: its examples are good, and its faults are told in these words."""

import re
from pathlib import Path

import pytest

from outcrop.datasets.formats import FORMATS, Fault, parse

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```json ([\w-]+)\n(.*)\n```$", PAGE, re.MULTILINE)


def faults() -> list[tuple[str, str, int, str]]:
    """Every row of the page's tables of faults, with the format of its section."""
    found = []
    section = FORMATS[0]
    for line in PAGE.splitlines():
        heading = re.match(r"## ([\w-]+)$", line)
        section = heading.group(1) if heading else section
        row = re.match(r"\| `(.*)` \| (\d+) \| (.*) \|$", line)
        if row:
            found.append((section, row.group(1), int(row.group(2)), row.group(3)))
    return found


def test_the_page_has_every_format() -> None:
    assert {name for name, _ in EXAMPLES} == set(FORMATS) == {name for name, *_ in faults()}


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_examples_are_good(name: str, line: str) -> None:
    assert not isinstance(parse(name, line.encode(), 1), Fault)


@pytest.mark.parametrize(("name", "line", "column", "reason"), faults())
def test_faults_are_told_so(name: str, line: str, column: int, reason: str) -> None:
    found = parse(name, line.encode(), 1)
    assert isinstance(found, Fault)
    assert (found.column, found.reason) == (column, reason)
