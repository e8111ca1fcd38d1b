"""InvokeModel and InvokeModelWithResponseStream: a request in a model's own JSON, and its answer, whole or as it comes.

Finds what the caller named, turns the body into a prompt, leases an engine and turns pieces into the family's JSON.
Knows nothing of frames or HTTP.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.api.invocation import Invoked, check_options, resolve, terms
from outcrop.api.streaming import Event, Script, Streamed, Tally, estimate, milliseconds
from outcrop.errors import ServiceError, ValidationException
from outcrop.serve.dialects.families import family
from outcrop.serve.dialects.family import Answer, Asked, Metrics, encode, read
from outcrop.serve.manner import PromptTooLong

JSON: Final = "application/json"
METRICS: Final = "amazon-bedrock-invocationMetrics"


def invoke_model(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The whole answer at once, with the counts that become headers."""
    start = time.perf_counter()
    invoked, asked = understood(call, params)
    answers: list[Answer] = []
    used = Tally()
    with call.rooms.fleet.lease(invoked.target, call.region, estimate(asked.prompt, asked.generations)) as lease:
        try:
            while len(answers) < asked.generations:
                answers.append(Answer(*lease.line.complete(lease.model, asked.prompt)))
                used.add(answers[-1].last)
        except PromptTooLong as fault:
            raise too_long(invoked, fault) from fault
        finally:
            lease.charge(used.prompt_tokens, used.completion_tokens)
    return {
        "body": encode(family(invoked.row.body).answer(asked, answers)),
        "contentType": JSON,
        "inputTokenCount": used.prompt_tokens,
        "outputTokenCount": used.completion_tokens,
        "invocationLatency": milliseconds(start),
    }


def invoke_model_with_response_stream(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as chunks; the last one carries the counts and times of the whole."""
    start = time.perf_counter()
    invoked, asked = understood(call, params)
    if not invoked.row.streaming:
        raise ValidationException("The model is unsupported for streaming")
    tokens, told = estimate(asked.prompt, asked.generations), script(invoked, asked)
    held = ExitStack()
    lease = held.enter_context(call.rooms.fleet.lease(invoked.target, call.region, tokens, patient=call.patient))
    return {"body": Streamed(lease, held, asked.prompt, told, start), "contentType": JSON}


def understood(call: Call, params: Mapping[str, Any]) -> tuple[Invoked, Asked]:
    """What is invoked, and what its body asks for in the dialect of its family."""
    check_options(params)
    invoked = resolve(call, params["modelId"])
    return invoked, read(family(invoked.row.body), params.get("body", b""), terms(call, invoked))


def too_long(invoked: Invoked, fault: PromptTooLong) -> ServiceError:
    """The family's own words for a prompt beyond the context of the weights."""
    return ValidationException(family(invoked.row.body).too_long(fault.limit, fault.told))


def script(invoked: Invoked, asked: Asked) -> Script:
    """The family's chunks as InvokeModel's events."""
    speak = family(invoked.row.body).speak(asked)

    def ending(chunks: Sequence[Event], used: Tally, metrics: Metrics) -> Sequence[Event]:
        told = {METRICS: metrics.document(used.prompt_tokens, used.completion_tokens)}
        return [*chunks[:-1], {**chunks[-1], **told}]

    return Script(
        events=speak,
        ending=ending,
        refuse=lambda fault: too_long(invoked, fault),
        generations=asked.generations,
        frame=lambda chunk: {"chunk": {"bytes": encode(chunk)}},
    )
