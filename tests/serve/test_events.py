"""An engine's events over a connection: every way in which HTTP frames a body, and every way in which one breaks.

The other end is a small server of bytes: what it says is written out here, cut wherever a test likes.
"""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, suppress

import pytest

from outcrop.serve.events import Broken, Refused, Silent, Unreachable, events

EVENTS = b'data: {"a": 1}\n\ndata:{"b": "\xe3\x81\x82"}\r\n\r\n: a comment\n\nevent: other\ndata: 3\n\ndata: [DONE]\n\n'
DATA = [b'{"a": 1}', '{"b": "あ"}'.encode(), b"3"]


def chunked(body: bytes, size: int) -> bytes:
    """A body in chunks, one of them with an extension."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def head(**headers: str) -> bytes:
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode()


WHOLE = {
    "chunked": head(Transfer_Encoding="chunked") + chunked(EVENTS, 7),
    "one chunk": head(transfer_encoding="Chunked") + chunked(EVENTS, 1000),
    "with its length": head(Content_Length=str(len(EVENTS))) + EVENTS,
    "until the connection ends": head(connection="close") + EVENTS,
    "without DONE": head(content_length=str(len(EVENTS) - 14)) + EVENTS[:-14],
}


class Engine:
    """Answers one request with these parts. stay: until its caller has gone; then `left` is set."""

    def __init__(self, said: list[bytes], *, stay: bool) -> None:
        self._said, self._stay = said, stay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked = b""
        self.left = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self._thread.start()

    def _talk(self) -> None:
        line, _ = self._listener.accept()
        with line, suppress(ConnectionError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self.asked.endswith(b"\r\n\r\n{}"):
                self.asked += line.recv(65536)
            for part in self._said:
                line.sendall(part)
            while self._stay and line.recv(65536):
                pass
        self.left.set()

    def close(self) -> None:
        self._thread.join(30)
        self._listener.close()


@contextmanager
def engine(said: list[bytes], *, stay: bool = False) -> Iterator[Engine]:
    running = Engine(said, stay=stay)
    try:
        yield running
    finally:
        running.close()


def heard(said: list[bytes], *, timeout: float = 30.0, key: str = "", stay: bool = False) -> tuple[list[bytes], bytes]:
    """The data of all events of an answer that comes in these parts, and the request."""
    with engine(said, stay=stay) as running:

        async def listen() -> list[bytes]:
            async with aclosing(events(running.url, "/v1/x", b"{}", key, timeout)) as found:
                return [data async for data in found]

        return asyncio.run(listen()), running.asked


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_events_come_whole_however_the_answer_is_framed_and_cut(name: str, size: int) -> None:
    answer = WHOLE[name]
    parts = [answer[start : start + size] for start in range(0, len(answer), size)]
    assert heard(parts)[0] == DATA


def test_the_request_is_plain_http() -> None:
    _, asked = heard([WHOLE["one chunk"]], key="secret")
    first, *lines = asked.decode().split("\r\n")
    assert first == "POST /v1/x HTTP/1.1"
    assert {"Authorization: Bearer secret", "Content-Length: 2", "Content-Type: application/json"} < set(lines)
    assert lines[-1] == "{}"
    assert b"Authorization" not in heard([WHOLE["one chunk"]])[1]


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        head(Transfer_Encoding="chunked") + chunked(EVENTS, 7)[:-30],
        head(Content_Length="500") + EVENTS[:20],
        head(Transfer_Encoding="chunked") + b"no size\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_whole_or_no_http_is_broken(said: bytes) -> None:
    with pytest.raises(Broken):
        heard([said])


def test_a_head_without_end_is_not_gathered_for_ever() -> None:
    with pytest.raises(Broken, match="a head without an end"):
        heard([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000])


def test_a_refusal_comes_with_its_body() -> None:
    with pytest.raises(Refused) as caught:
        heard([b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nwait"])
    assert (caught.value.status, caught.value.body) == (429, b"wait")


def test_silence_is_not_waited_for_longer_than_asked() -> None:
    with pytest.raises(Silent):
        heard([head(Transfer_Encoding="chunked")], timeout=0.05, stay=True)


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can have it, and nobody answers

        async def ask() -> None:
            async for _ in events(f"http://127.0.0.1:{taken.getsockname()[1]}", "/", b"", "", 1.0):
                pass

        with pytest.raises(Unreachable):
            asyncio.run(ask())


def test_closing_ends_the_connection() -> None:
    with engine([head(Transfer_Encoding="chunked") + chunked(EVENTS, 20)[:60]], stay=True) as running:

        async def leave() -> None:
            async with aclosing(events(running.url, "/v1/x", b"{}", "", 30.0)) as found:
                assert await anext(found) == DATA[0]
                assert not running.left.is_set()

        asyncio.run(leave())
        assert running.left.wait(30)
