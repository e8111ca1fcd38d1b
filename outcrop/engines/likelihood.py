"""How likely the model itself found the tokens of one request: natural logarithms, before temperature and its kin.

Knows tensors and token ids; nothing of models or requests.
"""

from collections.abc import Sequence

from torch import Tensor, tensor


class Likelihoods:
    """Collects (token, log of its probability) of one request. of_prompt: the prompt's tokens are looked at too."""

    def __init__(self, *, of_prompt: bool) -> None:
        self.of_prompt = of_prompt
        self.prompt: list[tuple[int, float]] = []
        """From its second token on: nothing stands before the first to expect it from."""
        self.answer: list[tuple[int, float]] = []

    def read(self, logits: Tensor, following: Sequence[int]) -> None:
        """Take logits of shape (tokens, vocabulary) of a part of the prompt, and the tokens that follow each."""
        if following:
            rows = logits[: len(following)].float().log_softmax(-1)
            column = tensor(following, device=rows.device).unsqueeze(-1)
            self.prompt.extend(zip(following, rows.gather(-1, column).squeeze(-1).tolist(), strict=True))

    def add(self, logits: Tensor, token: int) -> None:
        """Take the logits of shape (vocabulary,) that a token of the answer was drawn from."""
        self.answer.append((token, float(logits.float().log_softmax(-1)[token])))
