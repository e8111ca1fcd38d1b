"""What is wrong with a line or a file, and the text around its place. Knows nothing of formats, JSON or quotas."""

from dataclasses import dataclass, field
from typing import Final

SNIPPET: Final = 80
"""Characters of the line that a fault shows around its place."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a line, or the file as a whole, is refused."""

    line: int
    """From 1; 0: the file as a whole."""
    column: int
    """In characters, from 1; 0: the line as a whole."""
    reason: str
    snippet: str
    """The text around the place, at most SNIPPET characters."""
    kind: str = "shape"
    """jsonl (no JSON text), shape (not the format's members), reserved (a word that the model keeps for itself), input,
    output, total (an AWS quota), context (longer than the weights take), template (refused by the weights' chat
    template), line (too many bytes to read), file (size and number of records) or advice (what the guide only advises,
    where a setting makes it a rule)."""
    measure: int = 0
    """For input, output and total: the token count as AWS counts it."""
    mark: int = field(default=0, compare=False)
    """Where `column` stands in the snippet, from 1; 0: the snippet is not of that place."""


class RefusalError(Exception):
    """A line cannot be taken: where its text goes wrong (characters, from 0), why, and Fault's kind."""

    def __init__(self, at: int, reason: str, kind: str = "shape") -> None:
        super().__init__(reason)
        self.at, self.reason, self.kind = at, reason, kind

    def fault(self, text: str, number: int) -> Fault:
        """The fault of this line, which is number `number` of its file."""
        column = self.at + 1
        return Fault(number, column, self.reason, snippet(text, column), self.kind, mark=mark(text, column))


def snippet(text: str, column: int = 1) -> str:
    """At most SNIPPET characters of a line around a column (from 1), with … where something is left out."""
    start = _start(text, column)
    end = start + SNIPPET
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def mark(text: str, column: int) -> int:
    """Where a column of a line stands in its snippet; both count from 1."""
    start = _start(text, column)
    return column - start + (1 if start else 0)


def _start(text: str, column: int) -> int:
    return max(0, min(column - 1 - SNIPPET // 4, len(text) - SNIPPET))
