"""A file's bytes as blocks of whole lines, in memory that does not grow with it. Knows nothing of what lines hold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

MAX_LINE_BYTES: Final = 16 * 2**20
"""A longer line is refused unread: ten times what the largest quota allows, and the bound on memory."""

BLOCK: Final = 2**20
"""Bytes read at once: so many that numpy's calls cost nothing, so few that their results stay in the cache."""

HEAD: Final = 400
"""Bytes that are kept of a line that is too long, for people to know it by."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some lines of a file."""

    first: int
    """Number of the first line, from 1."""
    data: bytes
    """Whole lines with their line feeds; only the file's last line may lack its own. Empty: the line was too long."""
    head: bytes = b""
    """How a line that was too long starts."""

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """The lines with their numbers, without their line feeds."""
        if self.data:
            yield from enumerate(self.data.removesuffix(b"\n").split(b"\n"), self.first)


def blocks(
    file: BinaryIO, longest: int = MAX_LINE_BYTES, seen: Callable[[bytes], object] | None = None
) -> Iterator[Block]:
    """The file's lines; one of more than `longest` bytes is read past and is a block of its own, without data.

    `longest` is not below BLOCK. `seen` gets every byte of the file.
    """
    number, rest, skipping = 1, b"", False
    while chunk := file.read(BLOCK):
        if seen is not None:
            seen(chunk)
        if skipping:
            cut = chunk.find(b"\n") + 1
            chunk, skipping = (chunk[cut:], False) if cut else (b"", True)
        cut = chunk.rfind(b"\n") + 1
        if cut:
            end = chunk.find(b"\n")
            data = rest + chunk[:cut]
            if len(rest) + end > longest:
                yield Block(number, b"", (rest + chunk[:end])[:HEAD])
                number, data = number + 1, chunk[end + 1 : cut]
            if data:
                yield Block(number, data)
                number += data.count(b"\n")
            rest = chunk[cut:]
        else:
            rest += chunk  # joined again for every block of a long line, at most longest / BLOCK times
            if len(rest) > longest:
                yield Block(number, b"", rest[:HEAD])
                number, rest, skipping = number + 1, b"", True
    if rest:
        yield Block(number, rest)
