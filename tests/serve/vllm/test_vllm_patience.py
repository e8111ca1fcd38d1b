"""A vLLM that says nothing of itself: callers are told so soon, and nobody else waits for it."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outcrop.errors import ModelNotReadyException
from outcrop.records import Prompt
from outcrop.serve import line
from outcrop.serve.line import Line
from outcrop.serve.vllm import VllmManner
from tests.engines.tiny import write_llama

PROMPT = Prompt("the order", max_tokens=2)


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Line]:
    """A line to something that takes every GET and answers none."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            over.wait()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Line(f"http://127.0.0.1:{server.server_port}", manner=VllmManner(write_llama(tmp_path / "base")))
    over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def test_who_asks_is_told_soon_that_the_engine_says_nothing(silent: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    # The line's own patience, ten minutes of silence, would outlast the test.
    monkeypatch.setattr(line, "TELL_SECONDS", 0.2)

    async def read() -> None:
        async for _ in silent.stream("base", PROMPT):
            pass

    with pytest.raises(ModelNotReadyException, match="does not answer"):
        silent.complete("base", PROMPT)
    with pytest.raises(ModelNotReadyException, match="does not answer"):
        asyncio.run(read())


def test_streams_that_wait_for_it_take_no_thread_from_others(silent: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "TELL_SECONDS", 0.2)

    async def read() -> None:
        taken = ThreadPoolExecutor(1)
        taken.shutdown()
        # Whatever would run in the loop's own threads is refused.
        asyncio.get_running_loop().set_default_executor(taken)
        async for _ in silent.stream("base", PROMPT):
            pass

    with pytest.raises(ModelNotReadyException):
        asyncio.run(read())
