"""Files and folders that outlive a power cut: written under another name, synced, renamed; and sums that show damage.

Knows the disk only; nothing of what is written.
"""

import errno
import os
import zlib
from pathlib import Path
from typing import Final

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers of a disk or a quota without room."""

PIECE: Final = 1 << 22
"""Bytes read at a time."""


def replace_file(path: Path, text: str, *, mode: int = 0o666) -> None:
    """Write a whole small file or leave the old one: temporary file, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
    sync(path.parent)


def settle(draft: Path, folder: Path) -> None:
    """Give a finished folder its name: it appears whole, and stays after a power cut."""
    sync_folder(draft)
    draft.rename(folder)
    sync(folder.parent)


def sync_folder(folder: Path) -> None:
    """Bring every file of a folder, and the folder itself, to the disk."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """fsync a file or a folder by its path."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checksum(path: Path) -> str:
    """CRC-32 of a file, in hex: it meets damage, not malice, and costs a third of what SHA-256 does."""
    value = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            value = zlib.crc32(piece, value)
    return f"{value:08x}"
