"""A response onto the wire: bytes at once, files in pieces through a thread, events frame by frame as they come.

A caller that goes away is noticed while a stream runs, and the stream's iterator is closed then and there: the one way
of cancellation. Knows ASGI's messages and frames, not what is in them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Final

from outcrop.errors import ServiceError
from outcrop.wire.body import CallerGone, FileSlice, Receive
from outcrop.wire.events import event_frame, exception_frame
from outcrop.wire.route import Match
from outcrop.wire.serialize import Response

PIECE: Final = 256 * 1024
"""Bytes of a file that are read, and sent, at a time."""

Send = Callable[[dict[str, Any]], Awaitable[None]]
Tell = Callable[[BaseException], ServiceError]


class Sender:
    """The one response of one request. `started`: its status line is gone, past which no fault can be told as one."""

    def __init__(self, receive: Receive, send: Send, pool: Executor, *, head: bool) -> None:
        self.started = False
        self._receive, self._send, self._pool, self._head = receive, send, pool, head

    async def send(self, match: Match | None, response: Response, on_fault: Tell) -> None:
        """Send the response whole. Raises what a stream raises before its first event, so that it can be an error."""
        body = response.body
        if isinstance(body, bytes):
            await self._start(response, len(body))
            await self._piece(b"" if self._head else body, more=False)
        elif isinstance(body, FileSlice):
            await self._file(response, body)
        else:
            assert match is not None
            await self._events(match, response, body, on_fault)

    async def _start(self, response: Response, length: int | None) -> None:
        self.started = True
        headers = {name.lower(): value for name, value in response.headers.items()}
        # The content-length of a HEAD is that of the object, which the operation's output names.
        if (
            length is not None
            and response.status not in (204, 304)
            and not (self._head and "content-length" in headers)
        ):
            headers["content-length"] = str(length)
        raw = [(name.encode("latin-1"), _header_bytes(value)) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": response.status, "headers": raw})

    async def _piece(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _file(self, response: Response, body: FileSlice) -> None:
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(self._gone())
        try:
            await self._start(response, body.length)
            left = 0 if self._head else body.length
            while left:
                data = await loop.run_in_executor(self._pool, body.file.read, min(PIECE, left))
                if not data:
                    raise EOFError(f"{left} bytes are missing at the end of a file being sent")
                if gone.done():
                    raise CallerGone
                left -= len(data)
                await self._piece(data, more=left > 0)
            if self._head or not body.length:
                await self._piece(b"", more=False)
        finally:
            gone.cancel()
            body.file.close()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _events(
        self, match: Match, response: Response, events: AsyncIterator[Mapping[str, Any]], on_fault: Tell
    ) -> None:
        # One task a stream and not one an event: a task costs as much as all else that an event needs here.
        pump = asyncio.ensure_future(self._pump(match, response, events, on_fault))
        gone = asyncio.ensure_future(self._gone())
        try:
            await asyncio.wait((pump, gone), return_when=asyncio.FIRST_COMPLETED)
            if not pump.done():
                raise CallerGone
            pump.result()
        finally:
            gone.cancel()
            pump.cancel()
            await asyncio.wait((pump,))
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()

    async def _pump(
        self, match: Match, response: Response, events: AsyncIterator[Mapping[str, Any]], on_fault: Tell
    ) -> None:
        """Send a frame an event; raises what comes before the first one, and ends with an error's frame after it."""
        more = True
        while more:
            try:
                frame = event_frame(match, await anext(events))
            except StopAsyncIteration:
                frame, more = b"", False
            except Exception as fault:  # border: past the status line an error can only be a frame
                if not self.started:
                    raise
                frame, more = exception_frame(match, on_fault(fault)), False
            if not self.started:
                await self._start(response, None)
            await self._send({"type": "http.response.body", "body": frame, "more_body": more})


def _header_bytes(value: str) -> bytes:
    """UTF-8, which latin-1's lower half agrees with; a line break would forge a header."""
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError("a header's value holds a line break")
    return value.encode("utf-8")
