"""One engine under care: when it is up, when it is mourned, and how long until it may start again."""

import subprocess
import sys
from pathlib import Path

import pytest

from outcrop.serve.process import EngineProcess
from outcrop.serve.running import LONGEST_RETRY_SECONDS, SETTLED_SECONDS, Running
from outcrop.serve.wants import Place
from tests.serve.fleet_world import alive, until

SERVES = """
import os, sys
open(sys.argv[1] + '~', 'w').write('{"port": 1}')
os.rename(sys.argv[1] + '~', sys.argv[1])
os.read(0, 1)
"""
DIES = "import sys; sys.exit('no such weights')"


def start(engine: Running, program: str, folder: Path) -> EngineProcess:
    ready = folder / "ready"
    process = EngineProcess((sys.executable, "-c", program, str(ready)), folder / "log", ready)
    engine.process = process
    wanted = "dead" if program is DIES else "serving"
    until(lambda: process.state() == wanted)
    return process


def die(engine: Running) -> None:
    assert engine.process is not None
    engine.process.ask_end()
    process = engine.process
    until(lambda: process.state() == "dead")


def test_each_death_doubles_the_wait_up_to_a_minute(tmp_path: Path) -> None:
    engine, waits = Running(Place(tmp_path)), []
    for clock in range(0, 900, 100):
        start(engine, DIES, tmp_path)
        assert engine.look(float(clock)) == "died"
        waits.append(engine.retry_at - clock)
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, LONGEST_RETRY_SECONDS, LONGEST_RETRY_SECONDS]
    assert engine.look(1000.0) is None
    assert engine.fault == "the engine ended with 1: no such weights"


@pytest.mark.parametrize(("up", "wait"), [(SETTLED_SECONDS - 1, 2.0), (SETTLED_SECONDS + 1, 0.5)])
def test_an_engine_that_stayed_up_is_forgiven(tmp_path: Path, up: float, wait: float) -> None:
    engine = Running(Place(tmp_path), deaths=2)
    start(engine, SERVES, tmp_path)
    assert engine.look(5.0) == "serves"
    assert engine.line is not None
    assert engine.view().state == "serving"
    die(engine)
    assert engine.look(5.0 + up) == "died"
    assert engine.retry_at == 5.0 + up + wait
    assert engine.fault is None, "it had served, so whoever waits for it goes on waiting"
    assert engine.view().state == "down"


def test_the_story_is_of_this_start_only_and_fits_a_failure_message(tmp_path: Path) -> None:
    engine = Running(Place(tmp_path))
    (tmp_path / "log").write_text("an older start\n")
    start(engine, DIES, tmp_path)
    engine.look(0.0)
    assert "older" not in str(engine.fault)
    loud = EngineProcess(
        (sys.executable, "-c", "print('x' * 9000); print('the end')"), tmp_path / "log", tmp_path / "r"
    )
    until(lambda: loud.state() == "dead")
    assert loud.story().endswith("the end")
    assert len(loud.story()) < 2048
    loud.end()


PARENT = """
import sys, time
from pathlib import Path
from outcrop.serve.process import EngineProcess
root = Path(sys.argv[1])
process = EngineProcess((sys.executable, "-c", sys.argv[2], str(root / "ready")), root / "log", root / "ready")
print(process.pid, flush=True)
time.sleep(60)
"""


def test_an_engine_does_not_outlive_a_server_that_is_killed(tmp_path: Path) -> None:
    command = (sys.executable, "-c", PARENT, str(tmp_path), SERVES)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pid = int(server.stdout.readline())
        until(lambda: (tmp_path / "ready").exists())
        assert alive(pid)
        server.kill()
    until(lambda: not alive(pid))
