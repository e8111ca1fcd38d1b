"""InvokeModel and InvokeModelWithResponseStream: one request of a model's own JSON, and its answer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from outcrop.api.call import Call


def invoke_model(call: "Call", params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The whole answer at once."""
    raise NotImplementedError


def invoke_model_with_response_stream(call: "Call", params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as a stream of chunks."""
    raise NotImplementedError
