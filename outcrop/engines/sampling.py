"""From one row of logits to one token: greedy, temperature, top-k, top-p, each request with its own random numbers.

Knows tensors; nothing of models, text or requests' dialects.
"""

import math
import secrets
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

FIRST_LOOK: Final = 512
"""Tokens sorted at first for top-p. Nearly always enough, and a whole vocabulary of 150,000 takes 10 ms to sort."""


class NoFiniteLogits(ArithmeticError):
    """The model gave NaN or infinity where it should give logits."""


class Sampler:
    """Draws one token after another for one request.

    temperature 0 is greedy; top_p in (0, 1]; top_k 0 means no limit. The same seed over the same logits draws the same
    tokens; without a seed every request draws its own. As in transformers, temperature acts first, then top-k, then
    top-p over what top-k left.
    """

    def __init__(
        self, temperature: float, top_p: float, top_k: int, seed: int | None, device: str | torch.device = "cpu"
    ) -> None:
        self._temperature, self._top_p, self._top_k = temperature, top_p, top_k
        self._generator = torch.Generator(device)
        self._generator.manual_seed(secrets.randbits(63) if seed is None else seed)

    @property
    def greedy(self) -> bool:
        """True where the likeliest token is taken and no random number drawn."""
        return self._temperature == 0

    def choose(self, logits: Tensor) -> int:
        """The next token for logits of shape (vocabulary,); raises NoFiniteLogits."""
        token = int(logits.argmax()) if self._temperature == 0 else self._draw(logits.float() / self._temperature)
        if not math.isfinite(float(logits[token])):
            raise NoFiniteLogits("the model gave no finite logits")
        return token

    def _draw(self, logits: Tensor) -> int:
        if self._top_k == 0 and self._top_p >= 1:
            return self._pick(logits.softmax(-1))
        weights, tokens = self._kept(logits)
        return int(tokens[self._pick(weights)])

    def _kept(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and ids of the tokens that may be drawn, most likely first."""
        size = logits.shape[-1]
        if self._top_k:
            values, tokens = logits.topk(min(self._top_k, size))
            return _nucleus(values.softmax(-1), self._top_p), tokens
        whole = logits.logsumexp(-1)
        values, tokens = logits.topk(min(FIRST_LOOK, size))
        probabilities = (values - whole).exp()
        if float(probabilities.sum()) < self._top_p and size > FIRST_LOOK:
            values, tokens = logits.sort(descending=True)
            probabilities = (values - whole).exp()
        return _nucleus(probabilities, self._top_p), tokens

    def _pick(self, weights: Tensor) -> int:
        """An index drawn in proportion to the weights, which need not sum to 1."""
        heights = weights.cumsum(-1)
        draw = torch.rand(1, generator=self._generator, device=weights.device) * heights[-1]
        # A draw that rounding puts on the very top would fall off the end.
        return min(int(torch.searchsorted(heights, draw, right=True)), weights.shape[-1] - 1)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The shortest head of falling probabilities that holds top_p; the first always stays."""
    before = probabilities.cumsum(-1) - probabilities
    return probabilities[: max(1, int((before < top_p).sum()))]


def choose_all(samplers: Sequence[Sampler], logits: Tensor) -> list[int | None]:
    """A token for each row of logits (rows, vocabulary), by its own sampler; None where they are no finite numbers."""
    heights, best = logits.max(-1)
    tops, tokens = heights.tolist(), best.tolist()
    return [
        None if not math.isfinite(top) else token if sampler.greedy else sampler.choose(row)
        for sampler, top, token, row in zip(samplers, tops, tokens, logits, strict=True)
    ]
