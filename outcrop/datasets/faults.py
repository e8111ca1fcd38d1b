"""What is wrong with a line or a file, and the text around its place. Knows nothing of formats, JSON or quotas."""

from dataclasses import dataclass
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
    output, total (an AWS quota), context (longer than the weights take), line (too many bytes to read), file (size and
    number of records) or advice (what the guide only advises, where a setting makes it a rule)."""
    measure: int = 0
    """For input, output and total: the token count as AWS counts it."""


class RefusalError(Exception):
    """A line cannot be taken: where its text goes wrong (characters, from 0), why, and Fault's kind."""

    def __init__(self, at: int, reason: str, kind: str = "shape") -> None:
        super().__init__(reason)
        self.at, self.reason, self.kind = at, reason, kind

    def fault(self, text: str, number: int) -> Fault:
        """The fault of this line, which is number `number` of its file."""
        return Fault(number, self.at + 1, self.reason, snippet(text, self.at + 1), self.kind)


def snippet(text: str, column: int = 1) -> str:
    """At most SNIPPET characters of a line around a column (from 1), with … where something is left out."""
    start = max(0, min(column - 1 - SNIPPET // 4, len(text) - SNIPPET))
    end = start + SNIPPET
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
