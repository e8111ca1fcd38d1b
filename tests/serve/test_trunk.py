"""The server's end of a trunk: many streams over one connection, what ends each of them, and what ends them all.

The other end is a small engine of lines, which says what a test has it say, when it has it said.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import pytest

from outcrop.serve.events import Broken, Refused, Silent, Unreachable
from outcrop.serve.trunk import MOST_WAITING, Stream, Trunk
from outcrop.trunk import PIECE, TAKEN

VERB = "/v1/completions"
PATIENCE = 30.0


class Peer:
    """An engine's end that a test speaks for."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._writer: asyncio.StreamWriter
        self._listening: list[asyncio.Task[Any] | None] = []

    @property
    def connections(self) -> int:
        return len(self._listening)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listening.append(asyncio.current_task())
        self._writer = writer
        with suppress(ConnectionError):
            while line := await reader.readline():
                await self._heard.put(msgspec.json.decode(line))
        await self._heard.put(None)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def ended(self) -> None:
        """Wait until everybody has hung up."""
        await asyncio.gather(*(task for task in self._listening if task is not None))

    async def hear(self) -> dict[str, Any] | None:
        """The next line; None: the connection has ended."""
        return await asyncio.wait_for(self._heard.get(), PATIENCE)

    def say(self, *rows: tuple[Any, ...]) -> None:
        self.send(msgspec.json.encode(rows) + b"\n")

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def hang_up(self) -> None:
        self._writer.close()


@asynccontextmanager
async def world(timeout: float = 600.0) -> AsyncIterator[tuple[Peer, Trunk]]:
    peer = Peer()
    server = await asyncio.start_server(peer.connected, "127.0.0.1", 0)
    async with server:
        yield peer, Trunk("127.0.0.1", server.sockets[0].getsockname()[1], "a key", timeout)
        await peer.ended()


async def asked(peer: Peer, trunk: Trunk, body: bytes = b"{}") -> Stream:
    stream = await trunk.ask(VERB, body)
    heard = await peer.hear()
    if heard == {"key": "a key"}:
        heard = await peer.hear()
    assert heard is not None
    assert (heard["type"], heard["verb"], heard["body"]) == ("ask", VERB, msgspec.json.decode(body))
    return stream


async def text(stream: Stream) -> str:
    """All of it, to its end."""
    found = ""
    while True:
        told = await stream.told()
        found += told.text
        if told.finish is not None:
            return found


class Loop(asyncio.SelectorEventLoop):
    """Whose clock a test sets forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


async def passes(seconds: float) -> None:
    """So much time, by the tenth of it; whoever waited for it is told."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    for _ in range(10):
        loop.ahead += seconds / 10
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(test())


def test_streams_share_a_connection_and_each_gets_its_own() -> None:
    async def test() -> None:
        async with world() as (peer, trunk):
            first, second = await asked(peer, trunk, b'{"a":1}'), await asked(peer, trunk, b'{"b":2}')
            peer.say((1, TAKEN), (2, TAKEN))
            peer.say((1, PIECE, "one ", 5, 1), (2, PIECE, "uno ", 6, 1), (3, PIECE, "nobody's", 1, 1))
            peer.say((2, PIECE, "dos", 6, 2, "stop", "END"), (1, PIECE, "あ", 5, 2, "length", None))
            assert [await text(first), await text(second)] == ["one あ", "uno dos"]
            assert peer.connections == 1
            first.close()
            second.close()
            assert await peer.hear() is None, "with the last stream the connection ends"
            third = await asked(peer, trunk)
            assert peer.connections == 2
            third.close()

    run(test)


def test_lines_come_in_any_cuts() -> None:
    async def test() -> None:
        async with world() as (peer, trunk):
            stream = await asked(peer, trunk)
            data = b"".join(msgspec.json.encode([(1, PIECE, f"é{place}\n", 1, place)]) + b"\n" for place in range(20))
            data += msgspec.json.encode([(1, PIECE, "", 1, 20, "stop", None)]) + b"\n"
            for place in range(0, len(data), 7):
                peer.send(data[place : place + 7])
                await asyncio.sleep(0)
            assert await text(stream) == "".join(f"é{place}\n" for place in range(20))
            stream.close()

    run(test)


def test_a_stream_that_is_left_is_dropped_and_the_others_go_on() -> None:
    async def test() -> None:
        async with world() as (peer, trunk):
            left, kept = await asked(peer, trunk), await asked(peer, trunk)
            waiting = asyncio.create_task(text(left))
            peer.say((1, PIECE, "a", 1, 1))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            left.close()
            left.close()
            assert await peer.hear() == {"type": "drop", "id": 1}
            peer.say((1, PIECE, "late", 1, 2), (2, PIECE, "kept", 1, 1, "stop", None))
            assert await text(kept) == "kept"
            kept.close()

    run(test)


def test_a_refusal_is_one_stream_s_own() -> None:
    async def test() -> None:
        async with world() as (peer, trunk):
            refused, kept = await asked(peer, trunk), await asked(peer, trunk)
            peer.say((1, 400, '{"error": {}}'), (2, PIECE, "kept", 1, 1, "stop", None))
            with pytest.raises(Refused) as fault:
                await refused.told()
            assert (fault.value.status, fault.value.body) == (400, b'{"error": {}}')
            refused.close()
            assert await text(kept) == "kept"
            kept.close()
            assert await peer.hear() is None, "what was refused need not be dropped"

    run(test)


def test_an_engine_that_ends_breaks_what_it_had_taken() -> None:
    async def test() -> None:
        async with world() as (peer, trunk):
            taken, untold = await asked(peer, trunk), await asked(peer, trunk)
            peer.say((1, TAKEN), (1, PIECE, "a", 1, 1))
            assert (await taken.told()).text == "a"
            peer.hang_up()
            with pytest.raises(Broken):
                await taken.told()
            with pytest.raises(Unreachable):  # it may never have heard of it: to be asked again
                await untold.told()
            taken.close()
            untold.close()

    run(test)


@pytest.mark.parametrize("said", [b"nothing of ours\n", b'[["one"]]\n', b"[[1]]\n"])
def test_what_cannot_be_read_ends_the_connection(said: bytes) -> None:
    async def test() -> None:
        async with world() as (peer, trunk):
            stream = await asked(peer, trunk)
            peer.say((1, TAKEN))
            peer.send(said)
            with pytest.raises(Broken, match="cannot be read"):
                await stream.told()
            stream.close()
            assert await peer.hear() is None

    run(test)


def test_nobody_there() -> None:
    async def test() -> None:
        async with world() as (_, trunk):
            pass
        with pytest.raises(Unreachable):
            await trunk.ask(VERB, b"{}")

    run(test)


def test_an_engine_that_says_nothing_for_too_long() -> None:
    async def test() -> None:
        async with world(timeout=1000.0) as (peer, trunk):
            stream = await asked(peer, trunk)
            await passes(900.0)
            peer.say((1, PIECE, "a", 1, 1))
            assert (await stream.told()).text == "a"
            await passes(900.0)
            peer.say((1, PIECE, "b", 1, 2))
            assert (await stream.told()).text == "b"
            await passes(1000.0)
            with pytest.raises(Silent):
                await stream.told()
            stream.close()
            assert await peer.hear() is None

    run(test)


def test_what_a_slow_reader_leaves_is_kept_by_the_engine() -> None:
    async def test() -> None:
        async with world(timeout=1000.0) as (peer, trunk):
            slow = await asked(peer, trunk)
            peer.say(*((1, PIECE, "a", 1, place) for place in range(MOST_WAITING + 1)))
            assert await peer.hear() == {"type": "hold", "id": 1, "held": True}
            # The reader is slow, and not the engine: a silence of this kind is no fault.
            await passes(1900.0)
            for _ in range(MOST_WAITING + 1):
                await slow.told()
            assert await peer.hear() == {"type": "hold", "id": 1, "held": False}
            await passes(900.0)  # nor is it one afterwards
            peer.say((1, PIECE, "end", 1, 99, "stop", None))
            assert await text(slow) == "end"
            slow.close()

    run(test)
