"""A listening port for an ASGI application, inside this process: what the server and every engine stand on.

Knows granian (HTTP/1.1 and cleartext HTTP/2 on one port) and nothing of who answers.
"""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
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


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is listened on at `host`, as far as its spelling tells."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Port:
    """A port of this machine that is ours from the claim to `release()`: no other program can bind it meanwhile.

    Granian binds a port by itself, with SO_REUSEPORT, so that two servers whose kernel happened to hand them the same
    free port would share it, and each request would go to either by chance. So the claim's own socket stays bound,
    never listening: the kernel then gives the port to nobody who does not share ports, and no claim does.
    """

    def __init__(self, host: str, number: int) -> None:
        """Claim the given port, or for 0 one of the kernel's choice; OutcropError when it cannot be had."""
        self.host = host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._guard = socket.socket(family, socket.SOCK_STREAM)
        # At the bind: a port whose last connections are still closing is free. After it: only granian may come beside.
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._guard.bind((host, number))
        except OSError as fault:
            self._guard.close()
            if fault.errno == errno.EADDRINUSE:
                raise OutcropError(
                    f"port {number} on {host} is in use by another program; "
                    f"choose another with --port N, or --port 0 for any free one"
                ) from fault
            raise OutcropError(f"cannot listen on {host}, port {number}: {fault.strerror}") from fault
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._guard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.number = int(self._guard.getsockname()[1])

    def release(self) -> None:
        """Let the port go."""
        self._guard.close()


class Listener:
    """One application on one port, from `start()` to `stop()`, on the running event loop."""

    def __init__(self, application: Application, port: Port) -> None:
        self._port = port
        self.host = port.host
        self.port = port.number
        self._server = Server(
            application,
            address=self.host,
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
        self._port.release()
