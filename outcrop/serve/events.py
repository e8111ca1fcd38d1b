"""One streamed request to an engine: a POST on a connection of its own, and the answer's server-sent events as bytes.

Knows as much HTTP/1.1 as an engine on this machine speaks, and nothing of what events say. A general client does the
same at several times the processor time, which here is spent for every token of every stream; see
docs/decisions/gateway.md.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

CONNECT_SECONDS: Final = 5.0
"""An engine on this machine that does not take a connection by then is dead or dying."""

READ_BYTES: Final = 65536
"""Taken at a time, and held for a caller who does not read: then the engine's own sending waits."""

HEAD_BYTES: Final = 65536
"""More than any status line with its headers."""

DATA: Final = b"data:"
DONE: Final = b"[DONE]"
"""OpenAI's last event."""


class Unreachable(Exception):
    """Nobody takes a connection there."""


class Broken(Exception):
    """The connection ended, or said something else than HTTP, before the answer was whole."""


class Silent(Exception):
    """Nothing came for longer than the caller waits."""


class Refused(Exception):
    """The engine answered with a status of 400 or more, and a body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status, self.body = status, body


async def events(
    url: str, path: str, body: bytes, key: str, timeout: float, *, socket: Path | None = None
) -> AsyncGenerator[bytes, None]:
    """The data of every event until [DONE] or the answer's end; closing it closes the connection, the engine's signal.

    url: http://host:port; body: JSON; key: bearer key, "" for none; timeout: longest silence in seconds; socket: where
    the engine answers, if not at its URL. Raises Unreachable, Silent, Refused and Broken.
    """
    place = urlsplit(url)
    host, port = place.hostname or "", place.port or 80
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            if socket is not None:
                reader, writer = await asyncio.open_unix_connection(socket, limit=READ_BYTES)
            else:
                reader, writer = await asyncio.open_connection(host, port, limit=READ_BYTES)
    except OSError as fault:  # a TimeoutError too
        raise Unreachable(str(fault)) from fault
    try:
        writer.write(_request(place.netloc, path, body, key))
        answer = _Answer(reader, timeout)
        status = await answer.head()
        if status >= 400:
            raise Refused(status, await answer.rest())
        async with aclosing(_datas(answer)) as found:
            async for data in found:
                yield data
    except (OSError, ValueError) as fault:
        raise Broken(str(fault) or type(fault).__name__) from fault
    finally:
        # Not close(): what is still in its buffers belongs to nobody, and the engine should hear at once.
        writer.transport.abort()


def _request(host: str, path: str, body: bytes, key: str) -> bytes:
    bearer = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}Connection: close\r\nAccept: text/event-stream\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body


class _Answer:
    """One response as it comes in. Its head is read once, then parts of its body, whichever way that is framed."""

    def __init__(self, reader: asyncio.StreamReader, timeout: float) -> None:
        self._reader, self._timeout = reader, timeout
        self._raw = bytearray()
        self._left: int | None = None
        """Bytes of the body that are still to come; None: it is chunked, or ends with the connection."""
        self._chunked = False
        self._ended = False

    async def head(self) -> int:
        """The status, once all headers are there."""
        while (end := self._raw.find(b"\r\n\r\n")) < 0:
            if len(self._raw) > HEAD_BYTES:
                raise ValueError("a head without an end")
            await self._more()
            if self._ended:
                raise ConnectionResetError("the connection ended before an answer came")
        first, *lines = bytes(self._raw[:end]).decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        if not self._chunked and "content-length" in headers:
            self._left = int(headers["content-length"])
        version, status = first.split(" ")[:2]
        if not version.startswith("HTTP/1."):
            raise ValueError(f"no HTTP/1.1: {first[:40]!r}")
        return int(status)

    async def part(self) -> bytes:
        """The next bytes of the body, b"" at its end."""
        while not self._ended:
            if found := self._taken():
                return found
            if not self._ended:
                await self._more()
        return b""

    async def rest(self) -> bytes:
        """All of the body that is still to come."""
        parts = []
        while part := await self.part():
            parts.append(part)
        return b"".join(parts)

    def _taken(self) -> bytes:
        """What the body has got so far."""
        if self._chunked:
            return self._chunks()
        found = bytes(self._raw[: self._left])
        del self._raw[: len(found)]
        if self._left is not None:
            self._left -= len(found)
            self._ended = self._left == 0
        return found

    def _chunks(self) -> bytes:
        """The content of every chunk that is whole; the last one, of size 0, ends the body."""
        raw, place, found = self._raw, 0, []
        while (line := raw.find(b"\r\n", place)) >= 0:
            size = int(raw[place:line].partition(b";")[0], 16)
            if size == 0:
                self._ended = True
                break
            if len(raw) < line + 2 + size + 2:
                break
            found.append(bytes(raw[line + 2 : line + 2 + size]))
            place = line + 2 + size + 2
        del raw[:place]
        return b"".join(found)

    async def _more(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                data = await self._reader.read(READ_BYTES)
        except TimeoutError as fault:
            raise Silent from fault
        if not data:
            if not self._chunked and self._left is None:
                self._ended = True
                return
            raise ConnectionResetError("the connection ended before the answer was whole")
        self._raw += data


async def _datas(answer: _Answer) -> AsyncGenerator[bytes, None]:
    """The data of each event. An engine's events have one line of data each, so a line is an event."""
    kept = b""
    while part := await answer.part():
        *lines, kept = (kept + part).split(b"\n")
        for line in lines:
            if line.startswith(DATA):
                data = line[len(DATA) :].strip()
                if data == DONE:
                    return
                yield data
