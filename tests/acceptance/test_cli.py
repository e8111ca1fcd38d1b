"""The commands as a person meets them: what they print, and what they say when something is wrong."""

import fcntl
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from outcrop.directory import DataDirectory
from outcrop.listen import is_loopback
from tests.acceptance.server import Server


def outcrop(*words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one command line."""
    return subprocess.run(
        [sys.executable, "-m", "outcrop.cli", *words], capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.mark.parametrize(
    "command",
    [[], ["serve"], ["env"], ["check"], ["plan"], ["demo"], ["models"], ["models", "list"], ["models", "use"]],
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


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("PORT", "many", "port = 'many'"),
        ("REGION", "the moon", "region = 'the moon'"),
        ("LOG_LEVEL", "loud", "log_level = 'loud': choose one of debug, info, warning, error"),
        ("PRT", "4580", "OUTCROP_PRT is no setting; there are OUTCROP_ACCOUNT, "),
        ("DATABASE", "nosuch://name:hidden@here/x", "nosuch databases are not known here: use SQLite or PostgreSQL"),
        ("DATABASE", "sqlite:////nowhere/at/all.db", "unable to open database file"),
    ],
)
def test_a_wrong_variable_is_told_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"OUTCROP_{name}", value)
    run = outcrop("serve", "--data", str(tmp_path / "data"), "--port", "0") if name != "PORT" else outcrop("serve")
    assert run.returncode == 1
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert "hidden" not in run.stderr


@pytest.mark.parametrize(("text", "said"), [("port = = 1", "at line 1"), ("prt = 1", "prt = 1"), ("port = 'x'", "'x'")])
def test_a_broken_settings_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    (tmp_path / "outcrop.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    run = outcrop("serve")
    assert run.returncode == 1
    assert "outcrop.toml" in run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_a_data_directory_that_cannot_be_one_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = outcrop("serve", "--data", str(tmp_path / "file"))
    assert run.returncode == 1
    assert f"{tmp_path / 'file'} is a file" in run.stderr
    (tmp_path / "data" / "lock").mkdir(parents=True)
    run = outcrop("serve", "--data", str(tmp_path / "data"))
    assert run.returncode == 1
    assert "--data" in run.stderr
    assert "Traceback" not in run.stderr


def test_one_slow_client_does_not_hold_a_server_that_shall_stop(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n")
        client.sendall(b"Authorization: AWS4-HMAC-SHA256 Credential=A/20240501/us-east-1/sts/aws4_request, ")
        client.sendall(b"SignedHeaders=host, Signature=0\r\n\r\nAction=")
        time.sleep(0.5)
        server.stop()  # fails where the client holds it
    assert server.directory.running() is None
    assert not server.directory.server.exists()


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "outcrop.cli", "serve", "--data", str(tmp_path / "data"), "--port", "0"]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        banner = [child.stdout.readline() for _ in range(6)]
        endpoint = banner[0].split("http://")[1].strip()
        host, _, port = endpoint.partition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n")
            client.sendall(b"Authorization: AWS4-HMAC-SHA256 Credential=A/20240501/us-east-1/sts/aws4_request, ")
            client.sendall(b"SignedHeaders=host, Signature=0\r\n\r\nAction=")
            time.sleep(0.5)
            child.send_signal(signal.SIGINT)
            assert "Ctrl-C again" in child.stderr.readline()
            child.send_signal(signal.SIGINT)
            assert child.wait(60) == 128 + signal.SIGINT


def test_what_is_copied_from_the_banner_is_in_one_piece(tmp_path: Path) -> None:
    root = tmp_path / ("long name [bold] " * 8)
    server = Server(root).start()
    server.stop()
    assert f"outcrop env --data '{root}'" in server.log()


def test_the_banner_tells_what_a_start_has_made_and_nothing_else(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")

    def told() -> str:
        """What the banner says was made."""
        server.start().stop()
        line = [line for line in server.log().splitlines() if line.startswith("  data  ")][-1]
        return line.partition("made now: ")[2].rstrip(")")

    assert told() == "database, keys, first role, credentials file"
    assert told() == ""
    before = server.directory.read_credentials()
    server.directory.credentials.unlink()
    assert told() == "credentials file"
    assert server.directory.read_credentials() == before
    server.directory.database.unlink()
    assert told() == "database, keys, first role"
    assert server.directory.read_credentials() != before


def test_objects_of_another_database_are_not_swept_away(tmp_path: Path) -> None:
    """Whose database is a setting may forget it once; the objects that only it knows must survive that."""
    root = tmp_path / "data"
    theirs = {"database": f"sqlite:///{tmp_path / 'theirs.db'}"}
    first = Server(root, **theirs).start()
    first.client("s3").create_bucket(Bucket="bucket")
    first.client("s3").put_object(Bucket="bucket", Key="k", Body=b"kept")
    first.stop()
    for _ in range(2):
        run = outcrop("serve", "--data", str(root), "--port", "0", seconds=200)
        assert run.returncode == 1
        assert f"{root / 'buckets'} holds objects of another database" in " ".join(run.stderr.split())
        assert not (root / "outcrop.db").exists(), "other commands would take it for the right one"
        # Not even where nothing tells which database it was.
        (root / "credentials").unlink(missing_ok=True)
    ours = {"database": f"sqlite:///{tmp_path / 'ours.db'}"}
    Server(tmp_path / "other", **ours).start().stop()
    again = Server(root, **theirs).start()
    again.stop()
    with pytest.raises(AssertionError, match="holds objects of another database"):
        Server(root, **ours).start()
    again.start()
    try:
        assert again.client("s3").get_object(Bucket="bucket", Key="k")["Body"].read() == b"kept"
    finally:
        again.stop()


def test_a_credentials_file_that_cannot_be_read_is_written_anew(tmp_path: Path) -> None:
    server = Server(tmp_path / "data").start()
    server.client("s3").create_bucket(Bucket="bucket")
    server.client("s3").put_object(Bucket="bucket", Key="k", Body=b"kept")
    server.stop()
    before = server.directory.read_credentials()
    server.directory.credentials.write_bytes(b"\xff[default")
    server.start()
    try:
        assert server.directory.read_credentials() == before
        assert server.client("s3").get_object(Bucket="bucket", Key="k")["Body"].read() == b"kept"
    finally:
        server.stop()


def test_the_banner_tells_of_weights_that_somebody_chose(tmp_path: Path) -> None:
    catalog = tmp_path / "own.toml"
    catalog.write_text('[models."my.own-v1"]\nweights = "somewhere"\nbody = "llama"\n', encoding="utf-8")
    server = Server(tmp_path / "data", catalog=str(catalog)).start()
    server.stop()
    assert re.search("weights   1 of [0-9]+ models run weights of your choice", server.log())


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False), ("box.local", False)],
)
def test_whom_an_address_is_open_to(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def test_a_start_is_patient_with_those_who_ask_whether_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`running()` holds the lock for an instant; a start in that instant must not take it for another server."""
    monkeypatch.setattr("outcrop.directory.LOCK_SECONDS", 60.0)  # the timer may be late
    directory = DataDirectory(tmp_path)
    with (tmp_path / "lock").open("w") as asker:
        fcntl.flock(asker, fcntl.LOCK_SH)
        threading.Timer(0.2, asker.close).start()
        directory.lock().close()


def test_models_use_refuses_what_is_no_model(server: Server, tmp_path: Path) -> None:
    data = ["--data", str(server.directory.root)]
    run = outcrop("models", "use", "amazon.titan-text-express-v1", str(tmp_path), *data)
    assert run.returncode == 1
    assert "config.json" in run.stderr
    run = outcrop("models", "use", "nobody.knows-v1", "bundled:text", *data)
    assert run.returncode == 1
    assert "nobody.knows-v1" in run.stderr
    assert "`outcrop models list` has all foundation models" in " ".join(run.stderr.split())


def test_models_list_names_the_weights_that_run(server: Server) -> None:
    run = outcrop("models", "list", "--data", str(server.directory.root))
    assert run.returncode == 0, run.stderr
    assert "bundled:text" in run.stdout
    assert "stands in" in run.stdout


def test_models_of_a_mistyped_directory_makes_nothing(tmp_path: Path) -> None:
    run = outcrop("models", "list", "--data", str(tmp_path / "typo"))
    assert run.returncode == 1
    assert "outcrop serve --data" in " ".join(run.stderr.split())
    assert not (tmp_path / "typo").exists()


def test_what_the_server_keeps_is_its_users_alone(server: Server) -> None:
    for name in ("outcrop.db", "credentials"):
        assert (server.directory.root / name).stat().st_mode & 0o077 == 0, name
