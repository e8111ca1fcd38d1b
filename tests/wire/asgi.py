"""The gateway driven without a socket: an ASGI request in, the answer's parts out. Also a real server in a thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from outcrop.listen import Listener, Port


@dataclass(frozen=True, slots=True)
class Answer:
    """What an application answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def drive(app: Any, method: str, url: str, headers: Mapping[str, str], body: Sequence[bytes] = ()) -> Answer:
    """Send one request, its body in the given pieces, and return the whole answer."""
    parts = urlsplit(url)
    sent: list[dict[str, Any]] = []
    pieces = list(body) or [b""]

    async def receive() -> dict[str, Any]:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}
        await asyncio.Event().wait()
        raise AssertionError("never")

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "raw_path": parts.path.encode("latin-1"),
        "query_string": parts.query.encode("latin-1"),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
    }
    await app(scope, receive, send)
    start = sent[0]
    answered = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], answered, b"".join(each["body"] for each in sent[1:]))


@contextmanager
def serving(app: Callable[..., Any]) -> Iterator[str]:
    """Serve an application with granian on a port of the kernel's choice; yields its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="server")
    thread.start()
    listener = asyncio.run_coroutine_threadsafe(_listening(app), loop).result(20)
    try:
        yield f"http://127.0.0.1:{listener.port}"
    finally:
        asyncio.run_coroutine_threadsafe(listener.stop(), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


async def _listening(app: Callable[..., Any]) -> Listener:
    listener = Listener(app, Port("127.0.0.1", 0))
    await listener.start()
    return listener
