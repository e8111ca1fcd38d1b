"""The engine's end of a trunk: all streams that one server asks for, over one connection, a line of JSON a step.

A request costs no connection and a token no message of its own; see outcrop/trunk.py for what is said. When the
connection ends, so do all its sequences. Knows the engine's public verbs; nothing of models or tensors.
"""

import asyncio
import hmac
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from outcrop.engines.post import Mail, Post
from outcrop.engines.refusals import fault, refusal
from outcrop.engines.requests import GenerateRequest
from outcrop.engines.sequence import Output, Sequence
from outcrop.engines.text import TextEngine
from outcrop.errors import OutcropError
from outcrop.trunk import ASKED, ENCODER, END, HELLO, PIECE, TAKEN, Ask, Asked, Drop, Lines

CHATS: Final[dict[str, bool]] = {"/v1/completions": False, "/v1/chat/completions": True}
"""Verbs to whether they take messages."""

SHORT: Final = 4096
"""Bytes of a question that is made into tokens at once, which takes less than to hand it to a thread; a long one takes
milliseconds, in which other streams go on."""

STRANGER_BYTES: Final = 4096
"""More than any first line has."""

Row = tuple[Any, ...]
"""A `Told`, without members at its end that say nothing."""


@dataclass(slots=True)
class _Call:
    """One request."""

    sequence: Sequence | None = None
    """None while its prompt is made into tokens."""
    held: list[Output] | None = None
    """What its reader is not ready for; None: it is."""
    over: bool = False
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    """Kept while it runs, as the event loop does not."""


class Trunk(asyncio.Protocol):
    """One connection. key: what its first line must show."""

    def __init__(self, engine: TextEngine, post: Post, key: str) -> None:
        self._engine, self._post, self._key = engine, post, key
        self._known = False
        self._lines = Lines()
        self._calls: dict[int, _Call] = {}
        self._rows: list[Row] = []
        self._paused = False
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there; the first line tells whether it is the server."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads any more."""
        for number in list(self._calls):
            self._drop(number)

    def pause_writing(self) -> None:
        """The server reads nothing at all: what is made is kept as it is, to be told in one line."""
        self._paused = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._paused = False
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take lines; what is none ends the connection, and with it its requests."""
        try:
            for line in self._lines.feed(data):
                if self._known:
                    self._heed(ASKED.decode(line))
                else:
                    self._known = hmac.compare_digest(HELLO.decode(line).key.encode(), self._key.encode())
                    if not self._known:
                        raise ValueError("a wrong key")
            if not self._known and self._lines.held > STRANGER_BYTES:
                raise ValueError("no key")
        except ValueError as error:  # a DecodeError too
            print(f"a connection for streams is closed: {error}", file=sys.stderr)
            self._transport.abort()
            return
        self._flush()

    # ------------------------------------------------------------------------------------------------ what is asked

    def _heed(self, asked: Asked) -> None:
        if isinstance(asked, Ask):
            self._ask(asked.id, asked.verb, bytes(asked.body))
        elif isinstance(asked, Drop):
            self._drop(asked.id)
        elif (call := self._calls.get(asked.id)) is not None:
            held, call.held = call.held or [], [] if asked.held else None
            self._deliver([(asked.id, output) for output in held])

    def _ask(self, number: int, verb: str, body: bytes) -> None:
        if number in self._calls:
            raise ValueError(f"request {number} is asked twice")
        call = self._calls[number] = _Call()
        if len(body) <= SHORT:
            self._begin(number, call, lambda: self._queue(number, verb, body))
        else:
            call.tasks.append(asyncio.create_task(self._ask_long(number, call, verb, body)))

    async def _ask_long(self, number: int, call: _Call, verb: str, body: bytes) -> None:
        asking = asyncio.ensure_future(asyncio.to_thread(self._queue, number, verb, body))
        await asyncio.wait((asking,))
        self._begin(number, call, asking.result)
        self._flush()

    def _begin(self, number: int, call: _Call, queued: Any) -> None:
        """Note what was queued, or tell why it was not."""
        try:
            call.sequence = queued()
        except (OutcropError, msgspec.DecodeError) as error:
            self._refuse(number, *refusal(error))
        except Exception:  # border: the reason goes to the log, once
            traceback.print_exc()
            self._refuse(number, *fault(500, "the engine failed; its log says why"))
        else:
            if call.over:
                call.sequence.cancel()
            elif number in self._calls:
                self._rows.append((number, TAKEN))

    def _queue(self, number: int, verb: str, body: bytes) -> Sequence:
        if verb not in CHATS:
            raise OutcropError(f"no such verb: {verb}")
        # A stream, whatever it says.
        asked = msgspec.structs.replace(msgspec.json.decode(body, type=GenerateRequest), stream=True)
        prompt = asked.to_prompt(self._engine.context, chat=CHATS[verb])
        return self._engine.submit(asked.model, prompt, self._post.slot(self._deliver, number))

    def _refuse(self, number: int, status: int, document: dict[str, Any]) -> None:
        if self._calls.pop(number, None) is not None:
            self._rows.append((number, status, ENCODER.encode(document).decode()))

    def _drop(self, number: int) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            call.over = True
            if call.sequence is not None:
                call.sequence.cancel()

    # ------------------------------------------------------------------------------------------------- what is told

    def _deliver(self, mails: Iterable[Mail]) -> None:
        for number, output in mails:
            call = self._calls.get(number)
            if call is None:
                continue
            if call.held is not None:
                call.held.append(output)
                continue
            self._rows.append(_row(number, output))
            if output.finish is not None:
                del self._calls[number]
        self._flush()

    def _flush(self) -> None:
        if self._rows and not self._paused and not self._transport.is_closing():
            rows, self._rows = self._rows, []
            self._transport.write(ENCODER.encode(rows) + END)


def _row(number: int, output: Output) -> Row:
    begun = (number, PIECE, output.failure or output.text, output.prompt_tokens, output.completion_tokens)
    return begun if output.finish is None else (*begun, output.finish, output.stop_reason)
