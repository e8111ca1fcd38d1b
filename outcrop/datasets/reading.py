"""From a prompt to the ids that a model reads, with room left for an answer.

Knows the tokenizer and how much the model can take; nothing of sequences or tensors.
"""

from dataclasses import replace
from typing import Final

from outcrop.datasets.tokens import Encoder
from outcrop.errors import OutcropError
from outcrop.records import Prompt

PIECE: Final = 1 << 18
"""Characters that are tokenised at a time where only a number is wanted: that takes a hundred times their memory."""


class EmptyPrompt(OutcropError):
    """There is nothing to go on from."""


class PromptTooLong(OutcropError):
    """The prompt leaves no room for one token of an answer."""

    def __init__(self, tokens: int, limit: int, *, about: bool = False) -> None:
        """about: whether the tokens were not counted exactly."""
        told = f"about {tokens}" if about else tokens
        super().__init__(f"Too many input tokens. Max input tokens: {limit}, request input token count: {told}")
        self.tokens, self.limit, self.about = tokens, limit, about


class Reader:
    """context: most tokens of a prompt and its answer."""

    def __init__(self, encoder: Encoder, context: int) -> None:
        self._encoder, self._context = encoder, context
        self._longest = max(map(len, encoder.tokenizer.get_vocab()))

    def whole(self, prompt: Prompt) -> list[int]:
        """All of it, however long; raises OutcropError where the weights' chat template refuses the conversation."""
        if prompt.turns:
            return self._encoder.dialogue(prompt.turns, prompt.system)
        return self._encoder.prompts([prompt.text])[0]

    def bounded(self, prompt: Prompt) -> list[int]:
        """All of it, unless it is far more than the context holds: then PromptTooLong; and what whole() raises."""
        return self.whole(self._within(replace(prompt, truncate=None)))

    def fit(self, prompt: Prompt) -> list[int]:
        """What a model goes on from; raises EmptyPrompt, PromptTooLong, and what whole() raises."""
        tokens = self.whole(self._within(prompt))
        if not tokens:
            raise EmptyPrompt("the prompt has no tokens, and this model no token that begins a text")
        return tokens if len(tokens) < self._context else self._cut(tokens, prompt)

    def _within(self, prompt: Prompt) -> Prompt:
        """A prompt of more characters than the context's tokens can ever hold is not tokenised whole, which would take
        seconds and gigabytes: it is cut where its caller gives an end up, else refused. To be told exactly how long it
        is it may have a PIECE; beyond that its pieces are counted, and what a template writes between them is not."""
        texts = [turn.text for turn in prompt.turns] or [prompt.text]
        if prompt.system is not None:
            texts.append(prompt.system)
        size, most = sum(map(len, texts)), self._context * self._longest
        if size <= most:
            return prompt
        if prompt.truncate is None or prompt.turns:
            if size <= PIECE:
                return prompt
            tokens = len(self._encoder.start) + sum(map(self._count, texts))
            raise PromptTooLong(tokens, self._context - 1, about=True)
        return replace(prompt, text=prompt.text[:most] if prompt.truncate == "END" else prompt.text[-most:])

    def _count(self, text: str) -> int:
        """Tokens of a text; a seam between pieces may split one."""
        pieces = (text[start : start + PIECE] for start in range(0, len(text), PIECE))
        return sum(len(self._encoder.completions([piece])[0]) for piece in pieces)

    def _cut(self, tokens: list[int], prompt: Prompt) -> list[int]:
        """A too long prompt without the end that its caller gives up, so that the answer has its room."""
        if prompt.truncate is None:
            raise PromptTooLong(len(tokens), self._context - 1)
        room = max(self._context - prompt.max_tokens, len(self._encoder.start) + 1)
        if prompt.truncate == "END":
            return tokens[:room]
        # What the tokenizer puts before every text stays there.
        start = tokens[: len(self._encoder.start)]
        return [*start, *tokens[len(tokens) - room + len(start) :]]
