"""The server's end of a trunk: every stream of one engine over one connection, which is there while any is asked for.

See outcrop/trunk.py for what is said. What a slow reader leaves is kept by the engine, beyond a few pieces. Knows one
port and one event loop; nothing of prompts, leases or of what pieces become.
"""

import asyncio
from collections import deque
from typing import Final

import msgspec

from outcrop.serve.events import CONNECT_SECONDS, Broken, Refused, Silent, Unreachable
from outcrop.trunk import ENCODER, END, PIECE, TAKEN, TOLD, Ask, Asked, Drop, Hello, Hold, Lines, Told

MOST_WAITING: Final = 64
"""Pieces that wait for a slow reader here; what comes after them waits where it is made."""


class Trunk:
    """The way to one engine from one event loop. timeout: longest silence of a stream in seconds."""

    def __init__(self, host: str, port: int, key: str, timeout: float) -> None:
        self._host, self._port, self._key, self._timeout = host, port, key, timeout
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def ask(self, verb: str, body: bytes) -> "Stream":
        """Put a request, JSON for one of the HTTP verbs; raises Unreachable."""
        async with self._connecting:
            if self._connection is None or self._connection.over:
                self._connection = await self._connect()
            return self._connection.ask(verb, body, self._timeout)

    async def _connect(self) -> "_Connection":
        loop, hello = asyncio.get_running_loop(), ENCODER.encode(Hello(self._key)) + END
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(lambda: _Connection(hello), self._host, self._port)
        except OSError as fault:  # a TimeoutError too
            raise Unreachable(str(fault)) from fault
        return connection


class _Connection(asyncio.Protocol):
    """One connection, from its first stream to the end of its last."""

    def __init__(self, hello: bytes) -> None:
        self._hello, self._lines = hello, Lines()
        self._loop = asyncio.get_running_loop()
        self._streams: dict[int, Stream] = {}
        self._number = 0
        self._transport: asyncio.WriteTransport

    @property
    def over(self) -> bool:
        """Whether nothing can be asked over it any more."""
        return self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Show the key."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """Hand out what a step gave."""
        now = self._loop.time()
        try:
            for line in self._lines.feed(data):
                for told in TOLD.decode(line):
                    stream = self._streams.get(told.id)
                    if stream is not None:
                        stream.take(told, now)
        except msgspec.DecodeError as fault:
            self._lose(f"what it said cannot be read: {fault}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        self._lose(str(exc or "the connection ended before the answer was whole"))

    def _lose(self, why: str) -> None:
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.lose(why)

    def ask(self, verb: str, body: bytes, timeout: float) -> "Stream":
        """Put a request."""
        self._number += 1
        stream = self._streams[self._number] = Stream(self, self._number, timeout)
        self.say(Ask(self._number, verb, msgspec.Raw(body)))
        return stream

    def say(self, asked: Asked) -> None:
        """Send a line."""
        if not self.over:
            self._transport.write(ENCODER.encode(asked) + END)

    def leave(self, number: int, *, ended: bool) -> None:
        """Forget a stream, and have the engine drop it; with the last one the connection ends, which says as much."""
        if self._streams.pop(number, None) is None:
            return
        if not self._streams:
            self._transport.abort()
        elif not ended:
            self.say(Drop(number))


class Stream:
    """One answer as it comes."""

    def __init__(self, connection: _Connection, number: int, timeout: float) -> None:
        self._connection, self._number, self._timeout = connection, number, timeout
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Told] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._taken = self._held = self._ended = False
        self._fault: Exception | None = None
        self._heard = self._loop.time()
        self._watch = self._loop.call_later(timeout, self._look)

    async def told(self) -> Told:
        """The next piece; after the one with `finish` there is none. Raises Refused, Broken, Silent, Unreachable."""
        while not self._waiting:
            if self._fault is not None:
                raise self._fault
            self._waiter = self._loop.create_future()
            await self._waiter
        told = self._waiting.popleft()
        if self._held and not self._waiting:
            self._heard = self._loop.time()  # what was silent until now had been told to be
            self._hold(held=False)
        return told

    def close(self) -> None:
        """End it here and in the engine; may be called again, and after the end."""
        self._watch.cancel()
        self._connection.leave(self._number, ended=self._ended)

    def take(self, told: Told, now: float) -> None:
        """What the engine says. now: by the event loop's clock."""
        self._heard, self._taken = now, True
        if told.status == TAKEN:
            return
        self._ended = told.finish is not None or told.status != PIECE
        if told.status == PIECE:
            self._waiting.append(told)
            if len(self._waiting) > MOST_WAITING and not self._held:
                self._hold(held=True)
        else:
            self._fault = Refused(told.status, told.text.encode())
        self._wake()

    def lose(self, why: str) -> None:
        """The connection is gone. What the engine never took it did not die of: it may be asked again."""
        self._fail(Broken(why) if self._taken else Unreachable(why))

    def _look(self) -> None:
        """Whether it has been silent for too long."""
        left = self._heard + self._timeout - self._loop.time()
        # Where its reader is slow, it is not the engine that is silent.
        if left <= 0 and not self._waiting and not self._ended:
            self._fail(Silent())
        else:
            self._watch = self._loop.call_later(left if left > 0 else self._timeout, self._look)

    def _fail(self, fault: Exception) -> None:
        self._fault = self._fault or fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hold(self, *, held: bool) -> None:
        self._held = held
        self._connection.say(Hold(self._number, held))
