"""Tokens to text as they come: no character is ever split, and a stop string may straddle any number of tokens.

Knows how to call a decoder; nothing of models or requests.
"""

from collections.abc import Callable, Sequence
from typing import Final

from outcrop.datasets.lead import Lead

REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"

LONGEST_WAIT: Final = 8
"""Tokens held back for a character that is not whole yet. UTF-8 needs at most 4 bytes, a token each; a model that goes
on writing bytes which are no character is not waited for for ever."""


class TextStream:
    """The text of one answer, token by token.

    decode: token ids to text, special tokens left out. The text is what it gives for the answer alone, without the
    prompt: completions are tokenised alone in training too. lead: white space that the model writes before the first
    word of a chat's answer, where the template has it so; it is not part of the text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: Sequence[str] = (), lead: str = "") -> None:
        self._decode, self._stop, self._lead = decode, tuple(stop), Lead(lead)
        self.tokens: list[int] = []
        """All that was pushed."""
        self._start = self._shown = 0
        self._text_before = ""
        self._held = ""
        self.stopped_by: str | None = None
        """The stop string that ended the text; it is not part of the text."""

    def push(self, token: int) -> str:
        """Take a token; return the text that is certain now and was not returned before."""
        self.tokens.append(token)
        text = self._decode(self.tokens[self._start :])
        if text.endswith(REPLACEMENT) and len(self.tokens) - self._shown < LONGEST_WAIT:
            return ""
        return self._show(text)

    def finish(self) -> str:
        """Return the rest. A last character that never became whole is left out."""
        rest = "" if self.stopped_by else self._show(self._decode(self.tokens[self._start :]).rstrip(REPLACEMENT))
        rest, self._held = rest + self._lead.rest() + self._held, ""
        return rest

    def _show(self, text: str) -> str:
        """Let go of the text up to here; tokens since the last such point are decoded together with the new ones."""
        fresh = text[len(self._text_before) :]
        self._start, self._shown = self._shown, len(self.tokens)
        self._text_before = self._decode(self.tokens[self._start :])
        return self._cut(self._held + self._lead.off(fresh))

    def _cut(self, text: str) -> str:
        """Split off what may be shown: up to a stop string, or up to what may become one."""
        if not self._stop:
            return text
        found = [(text.find(stop), len(stop), stop) for stop in self._stop if stop in text]
        if found:
            place, _, self.stopped_by = min(found)
            self._held = ""
            return text[:place]
        keep = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of the text that begins the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)
