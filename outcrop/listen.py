"""A listening port for an ASGI application, inside this process: what the server and every engine stand on.

Knows granian (HTTP/1.1 and cleartext HTTP/2 on one port) and nothing of who answers.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from outcrop.errors import OutcropError

Application = Callable[..., Awaitable[None]]

LOOPBACK: Final = "127.0.0.1"
EVERY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104  (recognised, not listened on)

BACKLOG: Final = 1024
"""Connections that may wait, and requests in work, at a time: well above the 256 open streams of one server."""

READY_POLL_SECONDS: Final = 0.01

GRACE_SECONDS: Final = 5.0
"""How long requests in work may go on after a stop; then their connections break, as a kill would break them."""


def endpoint_at(host: str, port: int) -> str:
    """The URL by which this machine reaches a port that is listened on at `host`."""
    host = LOOPBACK if host in EVERY_ADDRESS else host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def claim_port(host: str, port: int) -> int:
    """Return a port that is free now: the given one, or one of the kernel's choice for 0.

    Raises OutcropError when it is taken or the address is not this machine's. Granian itself would share a taken port
    (SO_REUSEPORT), and each request would go to either server by chance.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as fault:
            if fault.errno == errno.EADDRINUSE:
                raise OutcropError(
                    f"port {port} on {host} is in use by another program; "
                    f"choose another with --port N, or --port 0 for any free one"
                ) from fault
            raise OutcropError(f"cannot listen on {host}, port {port}: {fault.strerror}") from fault
        return int(probe.getsockname()[1])


class Listener:
    """One application on one port, from `start()` to `stop()`, on the running event loop."""

    def __init__(self, application: Application, host: str, port: int) -> None:
        self.host = host
        self.port = claim_port(host, port)
        self._server = Server(
            application,
            address=host,
            port=self.port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=BACKLOG,
            log_enabled=False,
        )
        self._task: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        """Listen; returns when the port answers. Raises OutcropError when it never does."""
        self._task = asyncio.create_task(self._server.serve())
        while not await self._answers():
            if self._task.done():
                raise OutcropError(f"cannot listen on {self.host}, port {self.port}: {self._task.exception()}")
            await asyncio.sleep(READY_POLL_SECONDS)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async def stop(self) -> None:
        """Stop listening; requests in work have GRACE_SECONDS to end, as one slow client must not hold the process."""
        self._server.stop()  # type: ignore[no-untyped-call]
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=GRACE_SECONDS)
