"""Bad input and rude callers at a serving server, in short: three rounds, of which the third may leave nothing behind.

In full: `make soak`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.server import Server
from tests.soak.hostile import THREADS, soak


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    running = Server(tmp_path / "data", request_threads=THREADS).start()
    yield running
    running.stop()


@pytest.mark.slow
def test_nothing_of_bad_input_and_of_rude_callers_stays_behind(server: Server) -> None:
    said: list[str] = []
    assert soak(server, rounds=3, times=20, large=3, say=said.append) == [], "\n".join(said)
