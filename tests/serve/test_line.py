"""The client end of an engine: what an engine's answers, refusals and ends mean to our caller."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, aclosing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from outcrop.errors import (
    ModelErrorException,
    ModelNotReadyException,
    ModelTimeoutException,
    ThrottlingException,
    ValidationException,
)
from outcrop.records import Piece
from outcrop.serve.line import Line
from outcrop.serve.own import OwnEngine
from outcrop.serve.process import EngineProcess
from tests.serve.fleet_world import ECHO, prompt, until, write_weights


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    command = OwnEngine(ECHO).command(write_weights(tmp_path / "weights"), "base", tmp_path / "ready")
    process = EngineProcess(command, tmp_path / "log", tmp_path / "ready")
    until(lambda: process.state() == "serving")
    yield process
    process.end()


@pytest.fixture
def line(engine: EngineProcess) -> Line:
    return Line(engine.url(), engine.key)


def stream(line: Line, text: str, **members: Any) -> list[Piece]:
    async def collect() -> list[Piece]:
        return [piece async for piece in line.stream("base", prompt(text, **members))]

    return asyncio.run(collect())


def load(engine: EngineProcess) -> int:
    return int(httpx.get(f"{engine.url()}/health", trust_env=False).json()["load"])


@pytest.mark.parametrize(
    ("members", "text", "finish", "made"),
    [
        ({}, "one two three", "stop", 3),
        ({"max_tokens": 2}, "one two", "length", 2),
        ({"stop": ("three",)}, "one two", "stop_sequence", 2),
    ],
)
def test_whole_and_streamed_say_the_same(
    line: Line, members: dict[str, Any], text: str, finish: str, made: int
) -> None:
    answer, last = line.complete("base", prompt("one two three", **members))
    stopped_by = "three" if finish == "stop_sequence" else None
    assert (answer, last) == (text, Piece("", finish, 3, made, stopped_by))
    pieces = stream(line, "one two three", **members)
    assert "".join(piece.text for piece in pieces).strip() == text
    assert pieces[-1] == last
    assert all(piece.finish is None for piece in pieces[:-1])


REFUSALS = [
    ("long", ValidationException, "Max input tokens: 4, request input token count: 9"),
    ("far too long", ValidationException, "Max input tokens: 4, request input token count: about 9"),
    ("busy", ThrottlingException, "Too many requests, please wait before trying again."),
]


@pytest.mark.parametrize(("text", "error", "told"), REFUSALS)
def test_refusals(line: Line, text: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        line.complete("base", prompt(text))
    with pytest.raises(error, match=told):
        stream(line, text)


def test_an_engine_that_breaks(line: Line) -> None:
    with pytest.raises(ModelErrorException, match="the echo broke"):
        line.complete("base", prompt("fail"))
    with pytest.raises(ModelErrorException, match="the echo broke"):
        stream(line, "fail now")
    with pytest.raises(ModelErrorException, match="does not exist"):
        line.complete("green", prompt("hello"))


HELLO, END = {"text": "Hello", "finish_reason": None}, {"text": " you", "finish_reason": "length"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
WHOLE = [("Hello", None), (" you", "length")]


@pytest.fixture
def teller() -> Iterator[Callable[[list[dict[str, Any]]], Line]]:
    """Engines that answer every request with these events, or with the one document."""
    with ExitStack() as ended:

        def tell(events: list[dict[str, Any]]) -> Line:
            lines = [json.dumps(event).encode() for event in events]

            class Teller(BaseHTTPRequestHandler):
                def do_POST(self) -> None:
                    asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.write(
                        b"".join(b"data: %b\n\n" % line for line in [*lines, b"[DONE]"])
                        if asked.get("stream")
                        else lines[0]
                    )

                def log_message(self, format: str, *args: object) -> None:
                    return

            server = ended.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Teller))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            ended.callback(server.shutdown)
            return Line(f"http://127.0.0.1:{server.server_port}")

        yield tell


@pytest.mark.parametrize(
    "events",
    [
        [{"choices": [HELLO]}, {"choices": [END]}, {"choices": [], "usage": USAGE}],
        [{"choices": []}, {"choices": [HELLO]}, {"choices": [END]}, {"choices": [], "usage": USAGE}],
        [{"choices": [], "usage": USAGE}, {"choices": [HELLO]}, {"choices": [END]}, {"choices": [], "usage": USAGE}],
        [{"choices": [HELLO]}, {"choices": [END]}, {"choices": []}, {"choices": [], "usage": USAGE}],
    ],
)
def test_only_the_count_after_the_end_ends_a_stream(teller: Any, events: list[dict[str, Any]]) -> None:
    pieces = stream(teller(events), "hello")
    assert [(piece.text, piece.finish) for piece in pieces] == WHOLE
    assert (pieces[-1].prompt_tokens, pieces[-1].completion_tokens) == (3, 2)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([{"choices": [HELLO]}, {"choices": [], "usage": USAGE}], "before the answer was whole"),
        ([{"choices": [HELLO]}, {"choices": [END]}], "did not tell how many tokens"),
        ([{"choices": [HELLO]}, {"choices": [END]}, {"choices": [], "usage": {}}], "cannot be read"),
        ([{"choices": []}], "before the answer was whole"),
    ],
)
def test_a_stream_without_end_or_count_is_no_answer(teller: Any, events: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(ModelErrorException, match=told):
        stream(teller(events), "hello")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"choices": [END]}, "did not tell how many tokens"),
        ({"choices": [END], "usage": {"prompt_tokens": 3}}, "cannot be read"),
        ({"choices": [], "usage": USAGE}, "holds no text"),
    ],
)
def test_a_whole_answer_without_text_or_count_is_none(teller: Any, document: dict[str, Any], told: str) -> None:
    with pytest.raises(ModelErrorException, match=told):
        teller([document]).complete("base", prompt("hello"))


def test_an_engine_that_ends_under_a_stream_and_then_is_gone(line: Line, engine: EngineProcess) -> None:
    with pytest.raises(ModelErrorException, match="broke off"):
        stream(line, "die now")
    until(lambda: engine.state() == "dead")
    with pytest.raises(ModelNotReadyException):
        stream(line, "hello")
    with pytest.raises(ModelNotReadyException):
        line.complete("base", prompt("hello"))


def test_silence_ends_in_a_timeout(engine: EngineProcess) -> None:
    line = Line(engine.url(), engine.key, timeout=0.2)
    with pytest.raises(ModelTimeoutException):
        line.complete("base", prompt("slow 2"))


def test_a_wrong_key_is_no_caller_s_fault(engine: EngineProcess) -> None:
    line = Line(engine.url(), "other")
    with pytest.raises(ModelErrorException, match="wrong key"):
        line.complete("base", prompt("hello"))


def test_closing_a_stream_drops_the_work(line: Line, engine: EngineProcess) -> None:
    async def leave() -> None:
        async with aclosing(line.stream("base", prompt("slow one"))) as pieces:
            assert (await anext(pieces)).text == "slow "
            assert load(engine) == 1

    asyncio.run(leave())
    until(lambda: load(engine) == 0, 2)


def test_adapters(line: Line, tmp_path: Path) -> None:
    line.load_adapter("red", tmp_path)
    assert line.complete("red", prompt("hello"))[0] == "red: hello"
    line.unload_adapter("red")
    (tmp_path / "broken").touch()
    with pytest.raises(ValidationException, match="the adapter is broken"):
        line.load_adapter("red", tmp_path)


def test_the_engine_is_told_its_key_and_never_in_its_command_line(engine: EngineProcess) -> None:
    command = Path(f"/proc/{engine.pid}/cmdline")
    if sys.platform == "linux":
        assert engine.key not in command.read_text()
    assert httpx.post(
        f"{engine.url()}/v1/completions", json={}, headers={"authorization": "x"}, trust_env=False
    ).is_error
