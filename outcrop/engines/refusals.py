"""What an engine answers a request that it does not carry out: OpenAI's and vLLM's error document, and its status.

Knows the faults of a request; nothing of how the answer travels.
"""

from typing import Any, Final

import msgspec

from outcrop.datasets.reading import PromptTooLong
from outcrop.engines.sequence import Overloaded, UnknownModel
from outcrop.errors import OutcropError

STATUS: Final[dict[type[OutcropError], int]] = {
    UnknownModel: 404,
    Overloaded: 429,
}
"""Of the engine's refusals; every other one is the request's own fault, 400."""

Refusal = tuple[int, dict[str, Any]]
"""Status and document."""


def fault(status: int, message: str, **figures: int) -> Refusal:
    """An error as vLLM and OpenAI spell it, with the figures behind its message."""
    error = {"message": message, "type": "invalid_request_error", "code": status, **figures}
    return status, {"error": error}


def refusal(error: msgspec.DecodeError | OutcropError) -> Refusal:
    """What a request is answered whose body cannot be read, or that the engine refuses."""
    if isinstance(error, msgspec.ValidationError):
        return fault(400, str(error))
    if isinstance(error, msgspec.DecodeError):
        return fault(400, f"the body is not JSON: {error}")
    if isinstance(error, PromptTooLong):
        counted = {"prompt_tokens": error.tokens, "prompt_tokens_about": error.about}
        return fault(400, str(error), **counted, max_prompt_tokens=error.limit)
    return fault(STATUS.get(type(error), 400), str(error))
