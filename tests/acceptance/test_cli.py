"""The commands as a person meets them: what they print, and what they say when something is wrong."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.server import Server


def outcrop(*words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one command line."""
    return subprocess.run(
        [sys.executable, "-m", "outcrop.cli", *words], capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["env"], ["demo"], ["models"], ["models", "list"], ["models", "use"]]
)
def test_every_command_has_help(command: list[str]) -> None:
    run = outcrop(*command, "--help")
    assert run.returncode == 0
    assert "Usage" in run.stdout


def test_env_prints_what_a_shell_can_take(server: Server) -> None:
    run = outcrop("env", "--data", str(server.directory.root))
    assert run.returncode == 0, run.stderr
    exports = dict(re.findall(r"^export (\w+)=(\S+)$", run.stdout, re.MULTILINE))
    assert exports == server.environment


def test_env_of_a_directory_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    run = outcrop("env", "--data", str(tmp_path / "nothing"))
    assert run.returncode == 1
    assert "outcrop serve --data" in " ".join(run.stderr.split())
    assert not (tmp_path / "nothing").exists()


def test_a_second_server_on_the_same_directory_is_refused(server: Server) -> None:
    run = outcrop("serve", "--data", str(server.directory.root), "--port", "0")
    assert run.returncode == 1
    said = " ".join(run.stderr.split())
    assert "another outcrop server already uses" in said
    assert server.endpoint in said


def test_a_port_in_use_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = outcrop("serve", "--data", str(tmp_path / "data"), "--port", str(port))
    assert run.returncode == 1
    said = " ".join(run.stderr.split())
    assert f"port {port} on 127.0.0.1 is in use" in said
    assert "--port" in said


def test_a_wrong_setting_names_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTCROP_ACCOUNT", "12")
    run = outcrop("serve", "--data", str(tmp_path / "data"))
    assert run.returncode == 1
    assert "account = '12'" in run.stderr
    assert not (tmp_path / "data").exists()


def test_models_use_refuses_what_is_no_model(server: Server, tmp_path: Path) -> None:
    data = ["--data", str(server.directory.root)]
    run = outcrop("models", "use", "amazon.titan-text-express-v1", str(tmp_path), *data)
    assert run.returncode == 1
    assert "config.json" in run.stderr
    run = outcrop("models", "use", "nobody.knows-v1", "bundled:text", *data)
    assert run.returncode == 1
    assert "nobody.knows-v1" in run.stderr
    assert "amazon.titan-text-express-v1:0:8k" in run.stderr.replace("\n", "")


def test_models_list_names_the_weights_that_run(server: Server) -> None:
    run = outcrop("models", "list", "--data", str(server.directory.root))
    assert run.returncode == 0, run.stderr
    assert "bundled:text" in run.stdout
    assert "stands in" in run.stdout
