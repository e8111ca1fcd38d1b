"""InvokeModel and InvokeModelWithResponseStream: a request in a model's own JSON, and its answer, whole or as it comes.

Finds what the caller named, turns the body into a prompt, leases an engine and turns pieces into the family's JSON.
Knows nothing of frames or HTTP.
"""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import ExitStack
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.api.invocation import Invoked, check_options, resolve
from outcrop.errors import ModelErrorException, ModelStreamErrorException
from outcrop.records import Piece, Prompt
from outcrop.serve.bodies import Metrics, encode, family, with_metrics
from outcrop.serve.fleet import Lease

JSON: Final = "application/json"

CHARACTERS_PER_TOKEN: Final = 4
"""For the estimate that a request is admitted by; what it really used is charged at its end."""


def invoke_model(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The whole answer at once, with the counts that become headers."""
    start = time.perf_counter()
    check_options(params)
    invoked = resolve(call, params["modelId"])
    prompt = read(call, invoked, params)
    with call.rooms.fleet.lease(invoked.target, call.region, estimate(prompt)) as lease:
        text, last = lease.line.complete(lease.model, prompt)
        lease.charge(last.prompt_tokens, last.completion_tokens)
    return {
        "body": encode(family(invoked.row.body).answer(text, last)),
        "contentType": JSON,
        "inputTokenCount": last.prompt_tokens,
        "outputTokenCount": last.completion_tokens,
        "invocationLatency": milliseconds(start),
    }


def invoke_model_with_response_stream(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as chunks; the last one carries the counts and times of the whole."""
    start = time.perf_counter()
    check_options(params)
    invoked = resolve(call, params["modelId"])
    prompt = read(call, invoked, params)
    held = ExitStack()
    lease = held.enter_context(call.rooms.fleet.lease(invoked.target, call.region, estimate(prompt)))
    return {"body": Chunks(lease, held, invoked, prompt, start), "contentType": JSON}


def read(call: Call, invoked: Invoked, params: Mapping[str, Any]) -> Prompt:
    """The prompt of a request's body, in the dialect of the model's family."""
    largest = invoked.row.inference.max_tokens
    return family(invoked.row.body).read(params.get("body", b""), largest, call.rooms.strict_stop_sequences)


def estimate(prompt: Prompt) -> int:
    """Tokens that a request may come to need, prompt and answer together."""
    return len(prompt.text) // CHARACTERS_PER_TOKEN + prompt.max_tokens


def milliseconds(start: float) -> int:
    """Whole milliseconds since an earlier reading of the clock."""
    return round((time.perf_counter() - start) * 1000)


class Chunks:
    """The events of one streamed answer.

    An iterator object and not a generator: a generator that was never started runs no `finally` when it is closed, and
    the lease must end then too.
    """

    def __init__(self, lease: Lease, held: ExitStack, invoked: Invoked, prompt: Prompt, start: float) -> None:
        self._lease, self._held, self._invoked, self._prompt, self._start = lease, held, invoked, prompt, start
        self._pieces: AsyncGenerator[Piece, None] = lease.line.stream(lease.model, prompt)
        self._first_byte: int | None = None
        self._seen = 0

    def __aiter__(self) -> "Chunks":
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next event, {"chunk": {"bytes": …}}."""
        try:
            piece = await anext(self._pieces)
        except ModelErrorException as fault:
            await self.aclose()
            if self._first_byte is None:
                raise
            raise ModelStreamErrorException(
                fault.message, originalStatusCode=fault.status, originalMessage=fault.message
            ) from fault
        except BaseException:
            # The end, another error, or the caller's task was cancelled: nobody will ask again.
            await self.aclose()
            raise
        return {"chunk": {"bytes": encode(self._document(piece))}}

    def _document(self, piece: Piece) -> dict[str, Any]:
        self._seen += 1
        if self._first_byte is None:
            self._first_byte = milliseconds(self._start)
        document = family(self._invoked.row.body).chunk(piece, self._seen)
        if piece.finish is None:
            return document
        self._lease.charge(piece.prompt_tokens, piece.completion_tokens)
        self._seen = 0
        return with_metrics(document, piece, Metrics(milliseconds(self._start), self._first_byte))

    async def aclose(self) -> None:
        """End the engine's work and the lease; may be called again."""
        try:
            await self._pieces.aclose()
        finally:
            if self._seen:
                # Counts come with the last piece only; a caller who left before it has used about a token a piece.
                self._lease.charge(len(self._prompt.text) // CHARACTERS_PER_TOKEN, self._seen)
                self._seen = 0
            self._held.close()
