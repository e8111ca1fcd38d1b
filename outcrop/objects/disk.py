"""Blobs on disk: files of bytes under random names, written once and never changed.

Knows a directory and nothing of buckets, keys or the database: a row elsewhere makes a blob visible, and `sweep`
removes the files that no row names (a process died between rename and commit, or between commit and unlink).
Layout: <root>/<first two digits of the id>/<id>. A full disk is an OSError: nothing half-written stays behind.
"""

import hashlib
import io
import os
import re
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from outcrop.durable import sync
from outcrop.objects.checksums import Digest

BLOB_ID: Final = re.compile(r"[0-9a-f]{32}")
COPY_BYTES: Final = 1 << 20
"""Bytes held in memory while a blob is copied."""


class Index(Protocol):
    """Whoever can tell which blobs are in use."""

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of the ids that something still needs."""
        ...


class Extent(Protocol):
    """A blob as far as reading goes."""

    @property
    def id(self) -> str:
        """Name of the file."""
        ...

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a copy found out while it wrote."""

    id: str
    size: int
    md5: str
    """32 hexadecimal digits."""
    checksum: str
    """Base64, by the algorithm that was asked for."""


class Disk:
    """The blobs under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        # Files of multipart objects are opened as the reader comes to them; until then nobody may unlink them.
        self._guard = threading.Lock()
        self._readers: Counter[str] = Counter()
        self._doomed: set[str] = set()

    def adopt(self, path: Path) -> str:
        """Take a finished, fsynced file on the same file system as a new blob; returns its id."""
        blob, place = self._new()
        path.rename(place)
        sync(place.parent)
        return blob

    def link(self, blob: str) -> str:
        """A second blob of the same bytes, which costs no space."""
        twin, place = self._new()
        os.link(self._path(blob), place)
        sync(place.parent)
        return twin

    def copy(self, source: BinaryIO, length: int, algorithm: str) -> Written:
        """Write the next `length` bytes of a file as a new blob and digest them on the way."""
        blob, place = self._new()
        digest, md5 = Digest(algorithm), hashlib.md5(usedforsecurity=False)
        try:
            with place.open("xb") as target:
                for data in _read(source, length):
                    target.write(data)
                    digest.update(data)
                    md5.update(data)
                target.flush()
                os.fsync(target.fileno())
            sync(place.parent)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
        return Written(blob, length, md5.hexdigest(), digest.value())

    def digest(self, blob: str, size: int, algorithm: str) -> str:
        """Base64 of a checksum of a blob's bytes."""
        digest = Digest(algorithm)
        with self._path(blob).open("rb") as file:
            for data in _read(file, size):
                digest.update(data)
        return digest.value()

    def open(self, blobs: Sequence[Extent], offset: int = 0) -> BinaryIO:
        """Open blobs that follow each other as one file that stands at `offset`; the caller closes it.

        Raises FileNotFoundError when a blob is gone. What is removed afterwards stays readable until the close.
        """
        if len(blobs) == 1:
            file = self._path(blobs[0].id).open("rb")
            file.seek(offset)
            return file
        return io.BufferedReader(_Joined(self, blobs, offset), COPY_BYTES)

    def remove(self, blobs: Iterable[str]) -> None:
        """Unlink blobs that no row names any more; those under a reader go when it closes."""
        with self._guard:
            ids = set(blobs)
            waiting = ids & self._readers.keys()
            self._doomed |= waiting
        for blob in ids - waiting:
            self._path(blob).unlink(missing_ok=True)

    def sweep(self, index: Index) -> int:
        """Unlink every blob that the index does not know; at start, before anything is written. Returns how many."""
        removed = 0
        # Only what has a blob's name: a disk of its own for buckets/ brings lost+found along.
        for shard in self._root.glob("[0-9a-f][0-9a-f]"):
            names = [path.name for path in shard.iterdir() if BLOB_ID.fullmatch(path.name)]
            for name in set(names) - index.known(names):
                (shard / name).unlink()
                removed += 1
        return removed

    def hold(self, blobs: Sequence[Extent]) -> None:
        """Keep blobs from being unlinked until as many `release` calls; FileNotFoundError if one is gone already."""
        with self._guard:
            for blob in blobs:
                self._path(blob.id).stat()
            self._readers.update(blob.id for blob in blobs)

    def release(self, blobs: Sequence[Extent]) -> None:
        """End a hold; unlinks what was removed meanwhile."""
        free = []
        with self._guard:
            for blob in blobs:
                self._readers[blob.id] -= 1
                if not self._readers[blob.id]:
                    del self._readers[blob.id]
                    if blob.id in self._doomed:
                        self._doomed.discard(blob.id)
                        free.append(blob.id)
        for blob_id in free:
            self._path(blob_id).unlink(missing_ok=True)

    def file(self, blob: str) -> BinaryIO:
        """One blob, opened."""
        return self._path(blob).open("rb")

    def _new(self) -> tuple[str, Path]:
        """A fresh id and its path, in a directory that is there."""
        blob = secrets.token_hex(16)
        place = self._path(blob)
        if not place.parent.is_dir():
            place.parent.mkdir(parents=True, exist_ok=True)
            sync(self._root)
        return blob, place

    def _path(self, blob: str) -> Path:
        """Where a blob lies."""
        return self._root / blob[:2] / blob


class _Joined(io.RawIOBase):
    """Blobs that follow each other, read as one file; opens one of them at a time."""

    def __init__(self, disk: Disk, blobs: Sequence[Extent], offset: int) -> None:
        super().__init__()
        self._disk = disk
        self._held = blobs
        self._file: BinaryIO | None = None
        rest: list[tuple[Extent, int]] = []
        for blob in blobs:
            if offset < blob.size or (not rest and blob is blobs[-1]):
                rest.append((blob, max(offset, 0)))
            offset -= blob.size
        self._rest = iter(rest)
        disk.hold(blobs)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Fill the buffer from the blob at hand, or from the next one at its end; 0 behind the last."""
        while True:
            if self._file is None:
                following = next(self._rest, None)
                if following is None:
                    return 0
                self._file = self._disk.file(following[0].id)
                self._file.seek(following[1])
            count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
            if count or not len(buffer):
                return count
            self._file.close()
            self._file = None

    def close(self) -> None:
        """Close the blob at hand and let go of all of them."""
        if not self.closed:
            if self._file is not None:
                self._file.close()
            self._disk.release(self._held)
        super().close()


def _read(source: BinaryIO, length: int) -> Iterator[bytes]:
    """The next `length` bytes in pieces; raises EOFError when there are fewer."""
    while length:
        data = source.read(min(length, COPY_BYTES))
        if not data:
            raise EOFError(f"a blob is {length} bytes shorter than its row says")
        length -= len(data)
        yield data
