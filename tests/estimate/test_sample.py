"""A big file made small: whole lines, from everywhere, as often as they stand there."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from outcrop.estimate.sample import thinned

LINES: SearchStrategy[list[bytes]] = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")))


def test_a_small_file_is_its_own_sample(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"a\nb\n")
    sample = thinned(path, 2, 4, tmp_path / "draft")
    assert (sample.path, sample.lines, sample.whole) == (path, 2, True)
    assert not (tmp_path / "draft").exists()


@given(lines=LINES, budget=st.integers(0, 200), ended=st.booleans())
def test_a_sample_holds_whole_lines_each_once_and_in_order(lines: list[bytes], budget: int, ended: bool) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(b"\n".join(lines) + (b"\n" if ended and lines else b""))
        sample = thinned(path, len(lines), budget, Path(folder) / "draft")
        assert sample.whole == (path.stat().st_size <= budget)
        if sample.whole:
            return
        left = iter(lines)
        *taken, rest = sample.path.read_bytes().split(b"\n")
        assert rest == b""
        assert 1 <= len(taken) == sample.lines
        for line in taken:
            assert line in left  # an iterator: what stands before it was left out, and comes no more


def test_long_and_short_lines_are_met_as_often_as_they_stand_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for number in range(60_000):
            file.write((b"l" * 1000 if number % 10 == 0 else b"s" * 10) + b"\n")
    sample = thinned(path, 60_000, path.stat().st_size // 10, tmp_path / "draft")
    lines = sample.path.read_bytes().splitlines()
    assert 5_000 < sample.lines < 7_500
    share = sum(len(line) == 1000 for line in lines) / len(lines)
    assert 0.09 < share < 0.11


def test_one_line_longer_than_all_blocks_is_taken_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100_000 + b"\ny\n")
    sample = thinned(path, 2, 64, tmp_path / "draft")
    assert sample.lines == len(sample.path.read_bytes().splitlines()) <= 2
    assert sample.path.read_bytes().startswith(b"x" * 100_000 + b"\n")
