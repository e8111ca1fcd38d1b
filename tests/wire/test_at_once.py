"""What waits for nothing is performed in the event loop; what would wait, in a thread, as if nothing had happened."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.credentials import ReadOnlyCredentials

from outcrop.errors import MustWait, ValidationException
from outcrop.wire.gateway import SMALL_BODY, Gateway, Signed
from outcrop.wire.sigv4 import Credential
from outcrop.wire.spec import Spec
from tests.wire.asgi import Answer, drive
from tests.wire.oracle import sent, sign, written

SPEC = Spec()
KEY = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", "secret", None)
CREDENTIALS = {KEY.access_key: Credential(KEY.access_key, KEY.secret_key)}
INVOKE = ("bedrock-runtime", "InvokeModel")


class Doors:
    """A gateway whose InvokeModel notes in which thread it ran; `first` is what its first attempt does."""

    def __init__(self, spool: Path, first: Callable[[], None] | None) -> None:
        self.ran: list[tuple[str, bool]] = []
        self.here = threading.get_ident()
        tried = {} if first is None else {INVOKE: self.noted("at once", first)}
        operations = {INVOKE: self.noted("patiently", lambda: None)}
        self.gateway = Gateway(operations, CREDENTIALS.get, {}.get, spool, at_once=tried, spec=SPEC)

    def noted(self, how: str, act: Callable[[], None]) -> Callable[[Signed, dict[str, Any]], dict[str, Any]]:
        def run(_signed: Signed, params: dict[str, Any]) -> dict[str, Any]:
            self.ran.append((how, threading.get_ident() == self.here))
            act()
            return {"body": params["body"], "contentType": "application/json"}

        return run

    def ask(self, body: bytes) -> Answer:
        """Ask in an event loop of this thread."""
        request = sent(sign(written(*INVOKE, {"modelId": "m", "body": body}), "bedrock-runtime", KEY))
        answer = asyncio.run(drive(self.gateway, request.method, request.url, request.headers, [request.body]))
        self.gateway.close()
        return answer


def waits() -> None:
    raise MustWait


def refuses() -> None:
    raise ValidationException("no")


@pytest.mark.parametrize(
    ("first", "size", "ran"),
    [
        (lambda: None, SMALL_BODY, [("at once", True)]),
        (lambda: None, SMALL_BODY + 1, [("patiently", False)]),
        (waits, 2, [("at once", True), ("patiently", False)]),
        (None, 2, [("patiently", False)]),
    ],
    ids=["small", "large", "would wait", "never at once"],
)
def test_where_an_operation_runs(
    tmp_path: Path, first: Callable[[], None] | None, size: int, ran: list[tuple[str, bool]]
) -> None:
    doors = Doors(tmp_path, first)
    answer = doors.ask(b"x" * size)
    assert (answer.status, answer.body) == (200, b"x" * size)
    assert doors.ran == ran


def test_what_is_refused_at_once_is_refused(tmp_path: Path) -> None:
    doors = Doors(tmp_path, refuses)
    answer = doors.ask(b"{}")
    assert (answer.status, answer.body) == (400, b'{"message": "no"}')
    assert doors.ran == [("at once", True)]
