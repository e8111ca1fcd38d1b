"""A big dataset made small: whole lines from places spread evenly over the file, for what need not be exact.

Knows files of lines; nothing of what stands in them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

BLOCKS: Final = 64
"""Places of the file that lines are taken from."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Lines of a file, in a file of their own."""

    path: Path
    lines: int
    """Lines in the sample."""
    whole: bool
    """Whether it is the file itself."""


def thinned(path: Path, lines: int, budget: int, draft: Path) -> Sample:
    """The file itself if it has at most `budget` bytes, else about that many bytes of its lines, written to `draft`.

    lines: how many the whole file has. Every line that starts in one of the blocks is taken, so that long and short
    ones are met as often as they stand there. A byte order mark or a line end more or less changes nothing here.
    """
    size = path.stat().st_size
    if size <= budget:
        return Sample(path, lines, whole=True)
    # At least a byte, so that the first line is always taken.
    length = max(1, budget // BLOCKS)
    taken = 0
    with path.open("rb") as source, draft.open("wb") as target:
        end = 0
        for block in range(BLOCKS):
            start = max(size * block // BLOCKS, end)
            if start > 0:
                # From the byte before: a line that starts exactly here is one of this block's.
                source.seek(start - 1)
                source.readline()
            while source.tell() < size * block // BLOCKS + length and (line := source.readline()):
                target.write(line if line.endswith(b"\n") else line + b"\n")
                taken += 1
            end = source.tell()
    return Sample(draft, taken, whole=False)
