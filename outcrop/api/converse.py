"""Converse and ConverseStream: one conversation for every model, answered whole or as it comes.

What a request may say is `conversation`'s; here it is answered. Knows nothing of frames or HTTP.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import count
from typing import Any

from outcrop.api.call import Call
from outcrop.api.conversation import PASSED_ON, understood
from outcrop.api.invocation import Invoked, resolve, terms
from outcrop.api.runtime import too_long
from outcrop.api.streaming import Event, Script, Streamed, Tally, estimate, milliseconds
from outcrop.errors import ServiceError, ValidationException
from outcrop.records import Piece
from outcrop.serve.dialects.families import family
from outcrop.serve.dialects.family import TURN_REASONS, Answer, Asked, Document, Metrics
from outcrop.serve.manner import PromptTooLong


def converse(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The whole answer at once."""
    start = time.perf_counter()
    invoked = resolve(call, params["modelId"], converse=True)
    asked = understood(invoked, params, terms(call, invoked))
    paths = _paths(params)
    with call.rooms.fleet.lease(invoked.target, call.region, estimate(asked.prompt)) as lease:
        try:
            text, last = lease.line.complete(lease.model, asked.prompt)
        except PromptTooLong as fault:
            raise _refused(invoked, fault) from fault
        lease.charge(last.prompt_tokens, last.completion_tokens)
    native = family(invoked.row.body).answer(asked, [Answer(text, last)])
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": text}] if text else []}},
        "stopReason": TURN_REASONS[last.finish or "stop"],
        "usage": _usage(last.prompt_tokens, last.completion_tokens),
        "metrics": {"latencyMs": milliseconds(start)},
        **_additional([native], paths),
    }


def converse_stream(call: Call, params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer as events: messageStart, contentBlockDelta…, contentBlockStop, messageStop, metadata."""
    start = time.perf_counter()
    invoked = resolve(call, params["modelId"], converse=True)
    asked = understood(invoked, params, terms(call, invoked), stream=True)
    told = script(invoked, asked, _paths(params))
    tokens, held = estimate(asked.prompt), ExitStack()
    lease = held.enter_context(call.rooms.fleet.lease(invoked.target, call.region, tokens, patient=call.patient))
    return {"stream": Streamed(lease, held, asked.prompt, told, start)}


def script(invoked: Invoked, asked: Asked, paths: Sequence[Sequence[str]]) -> Script:
    """Converse's events for the pieces of one answer."""
    numbers = count()
    speak = family(invoked.row.body).speak(asked)

    def events(piece: Piece) -> list[Event]:
        # The family's own chunks are what additionalModelResponseFieldPaths point into.
        native = speak(piece)
        found: list[Event] = [{"messageStart": {"role": "assistant"}}] if next(numbers) == 0 else []
        if piece.text:
            found.append({"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": piece.text}}})
        if piece.finish is not None:
            found.append({"contentBlockStop": {"contentBlockIndex": 0}})
            reason = {"stopReason": TURN_REASONS[piece.finish], **_additional(native, paths)}
            found.append({"messageStop": reason})
        return found

    def ending(found: Sequence[Event], used: Tally, metrics: Metrics) -> list[Event]:
        usage = _usage(used.prompt_tokens, used.completion_tokens)
        return [*found, {"metadata": {"usage": usage, "metrics": {"latencyMs": metrics.latency}}}]

    return Script(events=events, ending=ending, refuse=lambda fault: _refused(invoked, fault))


def _refused(invoked: Invoked, fault: PromptTooLong) -> ServiceError:
    return ValidationException(PASSED_ON + too_long(invoked, fault).message)


def _usage(read: int, made: int) -> Document:
    return {"inputTokens": read, "outputTokens": made, "totalTokens": read + made}


def _paths(params: Mapping[str, Any]) -> list[list[str]]:
    """additionalModelResponseFieldPaths as their parts; raises ValidationException for what is no JSON pointer."""
    found = []
    for pointer in params.get("additionalModelResponseFieldPaths") or ():
        if not pointer.startswith("/"):
            raise ValidationException(
                f"The additionalModelResponseFieldPaths value {pointer!r} is not a valid JSON pointer. Start it with /."
            )
        found.append([part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")])
    return found


def _additional(documents: Sequence[Mapping[str, Any]], paths: Sequence[Sequence[str]]) -> Document:
    """additionalModelResponseFields: what the paths find in the model's own answer, where it stood there."""
    found: Document = {}
    for path in paths:
        for document in documents:
            _copy(document, path, found)
    return {"additionalModelResponseFields": found} if found else {}


def _copy(source: Mapping[str, Any], path: Sequence[str], target: Document) -> None:
    """Copy the member at a path, with the members that lead there; what is not there is passed over, as AWS does."""
    value: Any = source
    for part in path:
        if not isinstance(value, Mapping) or part not in value:
            return
        value = value[part]
    for part in path[:-1]:
        target = target.setdefault(part, {})
    target[path[-1]] = value
