"""A port is one server's: two that start at the same moment never share one, whatever the kernel hands out."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

from outcrop.errors import OutcropError
from outcrop.listen import Listener, Port

MANY = 300


@contextmanager
def held(number: int = 0) -> Iterator[Port]:
    port = Port("127.0.0.1", number)
    try:
        yield port
    finally:
        port.release()


async def named(scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(scope["server"][1]).encode()})


def test_ports_that_nobody_listens_on_yet_are_never_handed_out_twice() -> None:
    with ExitStack() as ports:
        assert len({ports.enter_context(held()).number for _ in range(MANY)}) == MANY


def test_a_claimed_port_is_in_use_before_its_server_listens() -> None:
    with held() as port, pytest.raises(OutcropError, match=f"port {port.number} on 127.0.0.1 is in use"):
        Port("127.0.0.1", port.number)


def test_a_port_that_someone_listens_on_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OutcropError, match="in use by another"):
        Port("127.0.0.1", other.getsockname()[1])


def test_a_released_port_can_be_claimed_again() -> None:
    with held() as port:
        number = port.number
    with held(number) as again:
        assert again.number == number


def test_a_listener_answers_on_its_claimed_port_and_nobody_can_join_it() -> None:
    async def run() -> None:
        listener = Listener(named, Port("127.0.0.1", 0))
        await listener.start()
        try:
            async with httpx.AsyncClient() as client:
                for _ in range(20):
                    assert (await client.get(f"http://127.0.0.1:{listener.port}/")).text == str(listener.port)
            with pytest.raises(OutcropError, match="in use"):
                Port("127.0.0.1", listener.port)
        finally:
            await listener.stop()

    asyncio.run(run())
