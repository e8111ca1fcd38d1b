"""A file's bytes as blocks of whole lines, in memory that does not grow with it. Knows nothing of what lines hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from outcrop.datasets.match import PAD

MAX_LINE_BYTES: Final = 16 * 2**20
"""A longer line is refused unread: ten times what the largest quota allows, and the bound on memory."""

BLOCK: Final = 2**20
"""Bytes read at once: so many that numpy's calls cost little, so few that their results stay in the cache."""

HEAD: Final = 400
"""Bytes that are kept of a line that is too long, for people to know it by."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a file, or one that is too long."""

    data: bytes
    """Whole lines, each with a line feed, and PAD. Empty: the line was too long."""
    head: bytes = b""
    """How a line that was too long starts."""

    def lines(self) -> list[bytes]:
        """The lines without their line feeds; none of one that was too long."""
        return self.data[: -len(PAD) - 1].split(b"\n") if self.data else []


def blocks(
    file: BinaryIO, longest: int = MAX_LINE_BYTES, seen: Callable[[bytes], object] | None = None
) -> Iterator[Block]:
    """The file's lines; one of more than `longest` bytes is read past and is a block of its own, without data.

    `longest` is not below BLOCK. `seen` gets every byte of the file.
    """
    rest, skipping = b"", False
    while chunk := file.read(BLOCK):
        if seen is not None:
            seen(chunk)
        if skipping:
            cut = chunk.find(b"\n") + 1
            chunk, skipping = (chunk[cut:], False) if cut else (b"", True)
        cut = chunk.rfind(b"\n") + 1
        if cut:
            end, start = chunk.find(b"\n"), 0
            if len(rest) + end > longest:
                yield Block(b"", (rest + chunk[:end])[:HEAD])
                rest, start = b"", end + 1
            if start < cut:
                yield Block(b"".join((rest, memoryview(chunk)[start:cut], PAD)))
            rest = chunk[cut:]
        else:
            rest += chunk  # joined again for every block of a long line, at most longest / BLOCK times
            if len(rest) > longest:
                yield Block(b"", rest[:HEAD])
                rest, skipping = b"", True
    if rest:
        yield Block(rest + b"\n" + PAD)
