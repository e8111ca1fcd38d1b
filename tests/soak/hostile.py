"""Bad input and rude callers at a serving server, over and over: python -m tests.soak.hostile --rounds 5 --times 1000.

Each round asks everything that a hostile or broken client might ask, so many times each, and every refusal is checked.
Then the server and its engine must hold what they held after the round before: memory, open files, threads, processes,
and no slot. Judged from the second round on: the first fills pools and caches. Knows the server from outside.
"""

import argparse
import json
import re
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from tests.acceptance.server import Server

MODEL: Final = "amazon.titan-text-express-v1"
INVOKE: Final = f"/model/{MODEL}/invoke"
STREAM: Final = f"{INVOKE}-with-response-stream"
LARGEST: Final = 25_000_000
"""Bytes of an invoke body, by the service model."""
MEMORY_ALLOWED: Final = 64
"""MiB of one round: what allocators keep for the next time. Large bodies alone are more, should one round's stay."""
THREADS: Final = "4"
"""Of each of the server's pools, which grow to their size in time: small ones are full after the first round."""
JUDGED: Final = 3
"""The first round that is held against the one before: the first of all fills pools and caches."""
CALLS: Final = re.compile(r'^outcrop_engine_(?:calls\{|figure\{figure="load").* (\S+)$', re.MULTILINE)
SETTLE_SECONDS: Final = 60.0
"""Longest until connections that were left are noticed and memory is given back; the sooner, the sooner it goes on."""


@dataclass(frozen=True, slots=True)
class Held:
    """What server and engine hold, together."""

    memory: int
    """MiB of resident memory."""
    files: int
    threads: int
    processes: int
    calls: int
    """Leases and slots in use."""

    def grown(self, earlier: "Held", allowed: "Held") -> list[str]:
        """What there is more of than allowed, a line each."""
        found = []
        for field in fields(self):
            before, now, more = (getattr(held, field.name) for held in (earlier, self, allowed))
            if now - before > more:
                found.append(f"{field.name}: {before}, then {now}")
        return found


class Hostile:
    """One server, and everything that is done to it. say: takes a line for a person."""

    def __init__(self, server: Server, say: Callable[[str], None]) -> None:
        self._say = say
        self._endpoint = server.endpoint
        running = server.directory.running()
        assert running is not None
        self._pid = running.pid
        self._headers = {
            "authorization": f"Bearer {server.directory.read_credentials().bearer}",
            "content-type": "application/json",
        }
        self._client = httpx.Client(base_url=server.endpoint, headers=self._headers, trust_env=False, timeout=120)

    def close(self) -> None:
        """End the client."""
        self._client.close()

    # ------------------------------------------------------------------------------------------------ what is done

    def round(self, times: int, large: int) -> None:
        """Everything so many times; what is large, so many."""
        self.says_something()
        for name, count, action in (
            ("malformed bodies", times, self.malformed),
            ("cancelled streams", times, self.cancel),
            ("slow readers", times // 2, self.read_slowly),
            ("half-closed connections", times // 2, self.close_half),
            ("requests cut off", times // 2, self.cut_off),
            ("oversized prompts", times // 2, self.oversize),
            ("25 MB strings", large, self.huge),
        ):
            began = time.monotonic()
            for number in range(count):
                action(number)
            self._say(f"  {count:5} {name:24} {time.monotonic() - began:6.1f} s")
        self.says_something()

    def says_something(self) -> None:
        """The server still answers."""
        answer = self._client.post(INVOKE, content=body("hello", 2))
        assert answer.status_code == 200, answer.text

    def malformed(self, number: int) -> None:
        """Bodies that are no request: each is the caller's fault, and told as such."""
        bodies = (
            b'{"inputText":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
            b'{"inputText": "\xff\xfe\xc3\x28"}',
            b"\x00\x01\x02",
            b'{"inputText": 7}',
            b'{"inputText": "a", "textGenerationConfig": {"maxTokenCount": 1e999}}',
            b'{"inputText": "a", "textGenerationConfig": {"maxTokenCount": 99999999}}',
            b'{"inputText": "a", "textGenerationConfig": {"temperature": NaN}}',
            b'{"inputText": "\\ud800"}',
        )
        answer = self._client.post((INVOKE, STREAM)[number % 2], content=bodies[number % len(bodies)])
        assert answer.status_code == 400, (number % len(bodies), answer.status_code, answer.text[:300])
        assert "ValidationException" in answer.headers["x-amzn-errortype"], answer.headers

    def cancel(self, _number: int) -> None:
        """Leave a stream after its first event."""
        with self._client.stream("POST", STREAM, content=body("Tell me everything.", 1500)) as answer:
            assert answer.status_code == 200
            next(answer.iter_raw(64))

    def read_slowly(self, number: int) -> None:
        """Ask for a stream, read a few bytes of it with the smallest of buffers, and go."""
        with self._connect(small=True) as line:
            line.sendall(self._request(STREAM, body("Once upon a time", 200)))
            if number % 2:
                line.recv(16)

    def close_half(self, _number: int) -> None:
        """Say that nothing more will be said, and still want the answer; any way to end it will do."""
        with self._connect() as line:
            line.sendall(self._request(STREAM, body("hello", 4), close=True))
            line.shutdown(socket.SHUT_WR)
            while line.recv(65536):
                pass

    def cut_off(self, number: int) -> None:
        """Go away within the head or within the body."""
        request = self._request(INVOKE, body("hello", 4))
        with self._connect() as line:
            line.sendall(request[: 40 if number % 2 else -5])

    def oversize(self, number: int) -> None:
        """A prompt beyond the model's context, though not longer than the family allows."""
        answer = self._client.post((INVOKE, STREAM)[number % 2], content=body("word " * 8000, 8))
        assert answer.status_code == 400, answer.text[:300]
        assert "Too many input tokens" in answer.text, answer.text[:300]

    def huge(self, number: int) -> None:
        """The longest string that a body may hold, in a member that takes none, and one that is too long."""
        text = "a" * (LARGEST - 100 + number % 2 * 200)
        content = json.dumps({"inputText": "a", "textGenerationConfig": {"stopSequences": text}}).encode()
        answer = self._client.post(INVOKE, content=content)
        assert answer.status_code == 400, answer.text[:300]

    # --------------------------------------------------------------------------------------------------- what is held

    def held(self) -> Held:
        """What server and engine hold now."""
        page = self._client.get("/metrics", headers={"authorization": ""}).text
        processes = [self._pid, *_children(self._pid)]
        return Held(
            memory=sum(_status(pid, "VmRSS") for pid in processes) // 1024,
            files=sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in processes),
            threads=sum(_status(pid, "Threads") for pid in processes),
            processes=len(processes),
            calls=round(sum(map(float, CALLS.findall(page)))),
        )

    def settled(self, earlier: Held | None, allowed: Held) -> Held:
        """What is held once no call is open and no more than allowed has grown, or after SETTLE_SECONDS."""
        end = time.monotonic() + SETTLE_SECONDS
        while (found := self.held()).calls or (earlier and found.grown(earlier, allowed)):
            if time.monotonic() > end:
                break
            time.sleep(0.1)
        return found

    # ---------------------------------------------------------------------------------------------------------- parts

    def _connect(self, *, small: bool = False) -> socket.socket:
        place = urlsplit(self._endpoint)
        line = socket.socket()
        if small:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        line.settimeout(60)
        line.connect((place.hostname, place.port))
        return line

    def _request(self, path: str, content: bytes, *, close: bool = False) -> bytes:
        headers = {**self._headers, "host": "127.0.0.1", "content-length": str(len(content))}
        headers |= {"connection": "close"} if close else {}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content


def body(text: str, tokens: int) -> bytes:
    """A request in Titan's words."""
    settings = {"maxTokenCount": tokens, "temperature": 0}
    return json.dumps({"inputText": text, "textGenerationConfig": settings}).encode()


def _children(pid: int) -> list[int]:
    found = (path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return [int(child) for line in found for child in line]


def _status(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def soak(server: Server, *, rounds: int, times: int, large: int, say: Callable[[str], None]) -> list[str]:
    """Run the rounds; what grew, a line each. times: of each small cruelty a round; large: of each large one."""
    room, wrong = Hostile(server, say), []
    # What leaks, leaks once a time: far more than these.
    allowed = Held(memory=MEMORY_ALLOWED, files=times // 5, threads=times // 5, processes=0, calls=0)
    try:
        before: Held | None = None
        for number in range(rounds):
            room.round(times, large)
            earlier = before if number + 1 >= JUDGED else None
            now = room.settled(earlier, allowed)
            say(f"round {number + 1}: {now}")
            wrong += [f"round {number + 1}, {line}" for line in (now.grown(earlier, allowed) if earlier else [])]
            wrong += [f"round {number + 1}: {now.calls} calls are still open"] if now.calls else []
            before = now
    finally:
        room.close()
    return wrong


def _say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    """Soak as the command line says; exit status 1 where anything grew."""
    parser = argparse.ArgumentParser(description="Bad input and rude callers, over and over; nothing may leak.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=1000, help="of each small cruelty a round")
    parser.add_argument("--large", type=int, default=20, help="of each large one")
    given = parser.parse_args()
    if given.rounds < JUDGED:
        parser.error(f"--rounds {given.rounds}: what grew is told from round {JUDGED} on, beside the one before")
    with tempfile.TemporaryDirectory(prefix="outcrop-hostile-") as folder:
        server = Server(Path(folder) / "data", request_threads=THREADS).start()
        try:
            wrong = soak(server, rounds=given.rounds, times=given.times, large=given.large, say=_say)
        finally:
            server.stop()
    print("\n".join(wrong) or "nothing grew")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
