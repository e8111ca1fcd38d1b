"""The operations of the service bedrock-runtime, by their names."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.api.converse import converse, converse_stream
from outcrop.api.count_tokens import count_tokens
from outcrop.api.runtime import invoke_model, invoke_model_with_response_stream

OPERATIONS: Final[Mapping[str, Callable[[Call, Mapping[str, Any]], Mapping[str, Any]]]] = {
    "InvokeModel": invoke_model,
    "InvokeModelWithResponseStream": invoke_model_with_response_stream,
    "Converse": converse,
    "ConverseStream": converse_stream,
    "CountTokens": count_tokens,
}

AT_ONCE: Final = frozenset({"InvokeModelWithResponseStream", "ConverseStream"})
"""What mostly waits for nothing before its answer begins."""
