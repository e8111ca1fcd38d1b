"""The engine's end of a trunk: the same answers as over HTTP, and a slot that is free as soon as nobody wants it."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.engines.test_engine_host import KEY, Host, roomy

LONG = {"model": "base", "prompt": "a", "max_tokens": 3900, "temperature": 0}
SHORT = {"model": "base", "prompt": "the order", "max_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    yield from roomy(tmp_path_factory.mktemp("trunk"))


class Server:
    """One connection, as a server has it."""

    def __init__(self, host: Host, key: str = KEY) -> None:
        self._socket = socket.create_connection(("127.0.0.1", json.loads(host.ready.read_text())["trunk"]), 30)
        self._file = self._socket.makefile("rb")
        self._rows: list[list[Any]] = []
        self.say(key=key)

    def say(self, **message: Any) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def ask(self, number: int, verb: str = "/v1/completions", **body: Any) -> None:
        self.say(type="ask", id=number, verb=verb, body=body)

    def row(self) -> list[Any]:
        """What is told next."""
        while not self._rows:
            line = self._file.readline()
            assert line, "the engine has hung up"
            self._rows = json.loads(line)
        return self._rows.pop(0)

    def ended(self) -> bool:
        try:
            return self._file.readline() == b""
        except ConnectionResetError:
            return True

    def answers(self, *numbers: int) -> dict[int, list[list[Any]]]:
        """Everything about these requests, to the end of each."""
        found: dict[int, list[list[Any]]] = {number: [] for number in numbers}
        open_ = set(numbers)
        while open_:
            row = self.row()
            found[row[0]].append(row)
            if len(row) > 5 or row[1] >= 400:
                open_.remove(row[0])
        return found

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def server(host: Host) -> Iterator[Server]:
    server = Server(host)
    yield server
    server.close()


def test_side_by_side_they_say_what_whole_answers_say(host: Host, server: Server) -> None:
    asked = {number: {**SHORT, "prompt": prompt, "max_tokens": 30} for number, prompt in enumerate(["a", "the order"])}
    asked[2] = {**asked[1], "stop": [host.complete(**asked[1]).json()["choices"][0]["text"][7:9]]}
    for number, body in asked.items():
        server.ask(number, **body)
    for number, (taken, *pieces) in server.answers(*asked).items():
        whole = host.complete(**asked[number]).json()
        [choice] = whole["choices"]
        assert taken == [number, 202]
        assert "".join(piece[2] for piece in pieces) == choice["text"]
        assert pieces[-1][5:] == [choice["finish_reason"], choice["stop_reason"]]
        assert [piece[3] for piece in pieces] == [whole["usage"]["prompt_tokens"]] * len(pieces)
        assert pieces[-1][4] == whole["usage"]["completion_tokens"]
        counts = [piece[4] for piece in pieces]
        assert counts == sorted(set(counts)), "each piece comes once, in its order"


def test_a_chat_and_a_long_prompt(host: Host, server: Server) -> None:
    chat = {"model": "base", "messages": [{"role": "user", "content": "the order"}], "max_tokens": 8, "temperature": 0}
    long = {**SHORT, "prompt": "~" * 20_000, "truncate_prompt_tokens": -1}
    server.ask(1, "/v1/chat/completions", **chat)
    server.ask(2, **long)
    told = server.answers(1, 2)
    whole = host.client.post("/v1/chat/completions", json=chat).json()
    assert "".join(piece[2] for piece in told[1][1:]) == whole["choices"][0]["message"]["content"]
    assert "".join(piece[2] for piece in told[2][1:]) == host.complete(**long).json()["choices"][0]["text"]


@pytest.mark.parametrize(
    ("members", "status", "told"),
    [
        ({"model": "green"}, 404, "The model `green` does not exist."),
        ({"prompt": 3}, 400, "Expected `str | null`"),
        ({"prompt": "~" * 5000}, 400, "Max input tokens: 3999, request input token count: 5001"),
        ({"verb": "/v1/other"}, 400, "no such verb: /v1/other"),
        ({"logprobs": 0}, 400, "log-probabilities are given with whole completions only"),
    ],
)
def test_a_refusal_is_one_request_s_own(
    host: Host, server: Server, members: dict[str, Any], status: int, told: str
) -> None:
    server.ask(1, **{**SHORT, **members})
    server.ask(2, **SHORT)
    answers = server.answers(1, 2)
    [[_, found, document]] = answers[1]
    assert found == status
    assert told in json.loads(document)["error"]["message"]
    assert len(answers[2]) > 2
    if not members.keys() & {"verb", "logprobs"}:
        over_http = host.complete(**members)
        assert (over_http.status_code, over_http.json()) == (status, json.loads(document))


def test_what_is_dropped_frees_its_slot_and_says_no_more(host: Host, server: Server) -> None:
    server.ask(1, **LONG)
    while server.row()[1] != 200:
        pass
    assert host.load() == 1
    server.say(type="drop", id=1)
    host.idle()
    server.ask(2, **SHORT)
    rows = [server.row()]
    while rows[-1][0] != 2 or len(rows[-1]) < 6:
        rows.append(server.row())
    first_of_two = next(place for place, row in enumerate(rows) if row[0] == 2)
    assert all(row[0] == 2 for row in rows[first_of_two:])


@pytest.mark.parametrize("prompt", ["a", "~" * 3000 + " a" * 1000])
def test_a_hundred_that_are_dropped_at_once_leave_nothing(host: Host, server: Server, prompt: str) -> None:
    for number in range(100):
        server.ask(number, **{**LONG, "prompt": prompt, "max_tokens": 10})
        server.say(type="drop", id=number)
    host.idle()
    server.ask(100, **SHORT)
    while server.row()[0] != 100:
        pass


def test_a_number_that_comes_again_ends_the_connection_and_what_it_asked_for(host: Host) -> None:
    server = Server(host)
    server.ask(1, **LONG)
    server.ask(1, **SHORT)
    while not server.ended():
        pass
    server.close()
    host.idle()


def test_a_connection_that_ends_frees_all_its_slots(host: Host) -> None:
    server = Server(host)
    for number in range(3):
        server.ask(number, **LONG)
    begun: set[int] = set()
    while len(begun) < 3:
        row = server.row()
        begun |= {row[0]} if row[1] == 200 else set()
    assert host.load() == 3
    server.close()
    host.idle()


def test_what_its_reader_is_not_ready_for_is_kept(host: Host, server: Server) -> None:
    server.ask(1, **{**SHORT, "max_tokens": 60})
    server.say(type="hold", id=1, held=True)
    server.ask(2, **{**SHORT, "max_tokens": 200})
    rows = []
    while not rows or rows[-1][0] != 2 or len(rows[-1]) < 6:
        rows.append(server.row())
    assert all(len(row) < 6 for row in rows if row[0] == 1), "the shorter one has long ended, and its end is kept"
    server.say(type="hold", id=1, held=False)
    rows += server.answers(1)[1]
    counts = [row[4] for row in rows if row[0] == 1 and row[1] == 200]
    assert counts == sorted(set(counts))
    assert counts[-1] == 60
    text = "".join(row[2] for row in rows if row[0] == 1 and row[1] == 200)
    assert text == host.complete(max_tokens=60).json()["choices"][0]["text"]


@pytest.mark.parametrize("key", ["another", "", "k" * 10_000])
def test_a_stranger_is_hung_up_on(host: Host, key: str) -> None:
    server = Server(host, key)
    assert server.ended()
    server.close()


def test_what_is_no_line_of_ours_ends_the_connection_and_nothing_else(host: Host, server: Server) -> None:
    other = Server(host)
    other.say(type="dance", id=1)
    assert other.ended()
    other.close()
    flood = socket.create_connection(("127.0.0.1", json.loads(Path(host.ready).read_text())["trunk"]), 30)
    with flood, flood.makefile("rb") as said:
        flood.sendall(b"x" * 5000)
        with suppress(ConnectionResetError):
            assert said.read() == b""
    server.ask(1, **SHORT)
    assert len(server.answers(1)[1]) > 2
