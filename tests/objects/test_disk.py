"""Blobs on disk: whole or not there, readable to the last reader, swept when nobody names them."""

import hashlib
import io
import os
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from outcrop.objects.disk import Disk


@dataclass(frozen=True)
class Piece:
    id: str
    size: int


class Names:
    """An index that knows some ids."""

    def __init__(self, *ids: str) -> None:
        self.ids = set(ids)

    def known(self, ids: Sequence[str]) -> set[str]:
        return self.ids & set(ids)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "buckets")


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "buckets").glob("*/*"))


def blob(disk: Disk, content: bytes) -> Piece:
    return Piece(disk.copy(io.BytesIO(content), len(content), "CRC32").id, len(content))


def test_a_finished_file_becomes_a_blob(disk: Disk, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(b"content")
    name = disk.adopt(upload)
    assert not upload.exists()
    assert files(tmp_path) == [name]
    with disk.open([Piece(name, 7)]) as file:
        assert file.read() == b"content"


def test_a_copy_is_digested_on_its_way(disk: Disk) -> None:
    content = os.urandom(3_000_000)
    source = io.BytesIO(b"skipped" + content + b"left")
    source.seek(7)
    written = disk.copy(source, len(content), "SHA256")
    assert (written.size, written.md5) == (len(content), hashlib.md5(content).hexdigest())
    assert written.checksum == disk.digest(written.id, len(content), "SHA256")
    with disk.open([Piece(written.id, written.size)], 5) as file:
        assert file.read() == content[5:]


def test_a_copy_that_fails_leaves_nothing(disk: Disk, tmp_path: Path) -> None:
    with pytest.raises(EOFError):
        disk.copy(io.BytesIO(b"short"), 6, "CRC32")
    assert files(tmp_path) == []


def test_a_full_disk_leaves_nothing(disk: Disk, tmp_path: Path) -> None:
    """The kernel's limit of a file's size stands in for a full disk: the write fails in the middle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            disk.copy(io.BytesIO(bytes(200_000)), 200_000, "CRC32")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert files(tmp_path) == []


@pytest.mark.parametrize("offset", [0, 1, 2, 3, 4, 5, 9, 10])
def test_blobs_are_read_as_one_file_from_anywhere(disk: Disk, offset: int) -> None:
    pieces = [blob(disk, content) for content in (b"abc", b"", b"d", b"efghij")]
    with disk.open(pieces, offset) as file:
        assert file.read(2) + file.read() == b"abcdefghij"[offset:]


def test_nothing_but_empty_blobs(disk: Disk) -> None:
    with disk.open([blob(disk, b""), blob(disk, b"")]) as file:
        assert file.read() == b""


def test_a_link_outlives_its_source(disk: Disk, tmp_path: Path) -> None:
    first = blob(disk, b"shared")
    second = Piece(disk.link(first.id), first.size)
    disk.remove([first.id])
    assert files(tmp_path) == [second.id]
    with disk.open([second]) as file:
        assert file.read() == b"shared"


def test_a_reader_keeps_the_pieces_it_has_not_come_to(disk: Disk, tmp_path: Path) -> None:
    pieces = [blob(disk, b"first"), blob(disk, b"second")]
    one, other = disk.open(pieces), disk.open(pieces)
    disk.remove(piece.id for piece in pieces)
    assert one.read() == b"firstsecond"
    one.close()
    one.close()
    assert other.read() == b"firstsecond"
    assert len(files(tmp_path)) == 2
    other.close()
    assert files(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        disk.open(pieces)
    with pytest.raises(FileNotFoundError):
        disk.open(pieces[:1])


def test_a_hold_that_fails_holds_nothing(disk: Disk, tmp_path: Path) -> None:
    there = blob(disk, b"there")
    with pytest.raises(FileNotFoundError):
        disk.hold([there, Piece("f" * 32, 1)])
    disk.remove([there.id])
    assert files(tmp_path) == []


def test_removing_what_is_gone_is_fine(disk: Disk) -> None:
    disk.remove(["f" * 32])


def test_the_sweep_takes_what_nobody_names(disk: Disk, tmp_path: Path) -> None:
    assert disk.sweep(Names()) == 0
    pieces = [blob(disk, bytes([number])) for number in range(20)]
    kept = {piece.id for piece in pieces[:7]}
    assert disk.sweep(Names(*kept, "f" * 32)) == 13
    assert set(files(tmp_path)) == kept


def test_the_sweep_touches_nothing_but_blobs(disk: Disk, tmp_path: Path) -> None:
    others = [tmp_path / "buckets" / "lost+found" / ("a" * 32), tmp_path / "buckets" / "aa" / "notes.txt"]
    for other in others:
        other.parent.mkdir(parents=True)
        other.write_bytes(b"")
    (tmp_path / "buckets" / "README").write_bytes(b"")
    assert disk.sweep(Names()) == 0
    assert all(other.exists() for other in others)
