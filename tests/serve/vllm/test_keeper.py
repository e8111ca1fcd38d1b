"""The keeper of a vLLM: it ends when the server does, takes all that vLLM started with it, and hides the key."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from outcrop.serve import process
from outcrop.serve.keeper import command, environment
from outcrop.serve.process import EngineProcess
from outcrop.serve.vllm import VllmEngine
from tests.engines.tiny import write_llama
from tests.serve.fleet_world import alive, until
from tests.serve.vllm.standin_line import SERVE

WEIGHTS, SOCKET = Path("/weights"), Path("/s/vllm.sock")
OURS = ["--max-loras", "16", "--max-cpu-loras", "256", "--max-lora-rank", "64", "--generation-config", "vllm"]
OWN = ["--max_lora_rank=128", "--no-enable-lora", "--max-loras", "2"]
LAST = ["--served-model-name", "base", "--uds", "/s/vllm.sock"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["vllm", "serve"], ["vllm", "serve", "/weights", "--enable-lora", *OURS, *LAST]),
        (
            ["env", "A=1", "/v/vllm", "serve", "--dtype", "half"],
            ["env", "A=1", "/v/vllm", "serve", "/weights", "--enable-lora", *OURS, "--dtype", "half", *LAST],
        ),
        # The row's own words stand in for ours, however they are spelled.
        (
            ["vllm", "serve", *OWN],
            ["vllm", "serve", "/weights", "--max-cpu-loras", "256", "--generation-config", "vllm", *OWN, *LAST],
        ),
    ],
)
def test_the_command_line(words: list[str], expected: list[str]) -> None:
    assert command(words, WEIGHTS, "base", SOCKET) == expected


def test_the_key_goes_by_the_environment_and_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_ENGINE_KEY", "secret")
    told = environment("secret")
    assert told["VLLM_API_KEY"] == "secret"
    assert "OUTCROP_ENGINE_KEY" not in told
    assert told["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert told["VLLM_NO_USAGE_STATS"] == "1"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "weights")


def start(folder: Path, weights: Path, **broken: object) -> EngineProcess:
    """A stand-in under its keeper; it starts a process of its own, and tells both ids."""
    (weights / "standin.json").write_text(json.dumps({"child": str(folder / "child"), **broken}))
    line = VllmEngine(SERVE).command(weights, "base", folder / "ready")
    return EngineProcess(line, folder / "log", folder / "ready")


def pids(keeper: EngineProcess, folder: Path) -> tuple[int, int]:
    """vLLM's, and that of what it started."""
    until(lambda: (folder / "child").exists() and (folder / "child").read_text())
    [child] = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().split()
    return int(child), int((folder / "child").read_text())


@pytest.fixture
def loading(tmp_path: Path, weights: Path) -> Iterator[EngineProcess]:
    """One that loads for ever."""
    kept = start(tmp_path, weights, hold=True)
    yield kept
    kept.end()


def test_it_ends_with_whoever_started_it(tmp_path: Path, weights: Path) -> None:
    kept = start(tmp_path, weights)
    until(lambda: kept.state() == "serving", 200)
    socket = kept.socket()
    assert socket is not None
    started = pids(kept, tmp_path)
    assert all(alive(pid) for pid in started)
    assert kept.memory() > 1_000_000, "what it started counts"
    line = Path(f"/proc/{started[0]}/cmdline").read_text()
    assert "serve" in line
    assert kept.key not in line
    kept.end()
    until(lambda: not any(alive(pid) for pid in started))
    assert not socket.parent.exists()


def test_one_that_loads_is_ended_at_once(
    tmp_path: Path, loading: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "END_SECONDS", 600.0)
    started = pids(loading, tmp_path)
    assert loading.state() == "loading"
    loading.end()
    until(lambda: not any(alive(pid) for pid in started))


def test_a_killed_keeper_leaves_none_behind(tmp_path: Path, loading: EngineProcess) -> None:
    vllm, child = pids(loading, tmp_path)
    os.kill(loading.pid, signal.SIGKILL)
    until(lambda: loading.state() == "dead")
    until(lambda: not alive(vllm) and not alive(child))


def test_a_vllm_that_dies_takes_its_keeper_and_its_own_along(tmp_path: Path, loading: EngineProcess) -> None:
    vllm, child = pids(loading, tmp_path)
    os.kill(vllm, signal.SIGKILL)
    until(lambda: loading.state() == "dead")
    until(lambda: not alive(child))
    assert loading.story().startswith(f"the engine ended with 137: {SERVE} ")


def test_a_server_that_is_killed_leaves_none_behind(tmp_path: Path, weights: Path) -> None:
    server = (
        "import sys, time; from pathlib import Path; from tests.serve.vllm.test_keeper import start\n"
        "start(Path(sys.argv[1]), Path(sys.argv[2]), hold=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", server, str(tmp_path), str(weights)]) as parent:
        until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text())
        child = int((tmp_path / "child").read_text())
        parent.kill()
    until(lambda: not alive(child))
