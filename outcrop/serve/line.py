"""The client end of an engine: prompt to pieces over HTTP; closing the iterator cancels the engine's work."""

from collections.abc import AsyncIterator

from outcrop.records import Piece, Prompt


class Line:
    """The way to one engine process."""

    def __init__(self, url: str, key: str = "", timeout: float = 600.0) -> None:
        raise NotImplementedError

    def complete(self, model: str, prompt: Prompt) -> tuple[str, Piece]:
        """The whole answer, and its last piece with the counts."""
        raise NotImplementedError

    def stream(self, model: str, prompt: Prompt) -> AsyncIterator[Piece]:
        """The answer as it comes."""
        raise NotImplementedError
