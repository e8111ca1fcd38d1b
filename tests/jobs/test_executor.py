"""The local executor with real processes: started, seen, killed, reaped, found again."""

import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outcrop.errors import OutcropError
from outcrop.jobs.executor import Child, LocalExecutor

HOLD = """
import fcntl, os, sys, time
lock = open(sys.argv[1] + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
lock.write(str(os.getpid()))
lock.flush()
open(sys.argv[1] + "/up", "w").close()
time.sleep(60)
"""

PARENT = """
import subprocess, sys, time
one = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(sys.argv[1] + "/up", "w").write(str(one.pid))
time.sleep(60)
"""

Run = Callable[[str], tuple[LocalExecutor, str]]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def ended(executor: LocalExecutor, handle: str) -> Child:
    until(lambda: not executor.poll(handle).alive)
    return executor.poll(handle)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    started: list[tuple[LocalExecutor, str]] = []

    def start(code: str) -> tuple[LocalExecutor, str]:
        executor = LocalExecutor(os.environ, (sys.executable, "-I", "-c", code))
        started.append((executor, executor.start(tmp_path, {})))
        return started[-1]

    yield start
    for executor, handle in started:
        executor.stop(handle)
        ended(executor, handle)


def test_a_child_lives_and_then_tells_its_status(run: Run, tmp_path: Path) -> None:
    executor, handle = run(
        "import os, sys, time\nwhile not os.path.exists(sys.argv[1] + '/go'): time.sleep(.01)\nexit(5)"
    )
    assert executor.poll(handle) == Child(alive=True)
    (tmp_path / "go").touch()
    assert ended(executor, handle) == Child(alive=False, code=5)
    assert executor.poll(handle) == Child(alive=False, code=5), "told as often as asked"


def test_a_reaped_child_leaves_no_zombie(run: Run) -> None:
    executor, handle = run("")
    ended(executor, handle)
    assert not Path(f"/proc/{handle.partition(':')[0]}").exists()


def test_what_a_child_says_is_added_to_its_log(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("earlier\n")
    executor, handle = run("import sys; print('out', flush=True); print('err', file=sys.stderr)")
    ended(executor, handle)
    assert (tmp_path / "log.txt").read_text() == "earlier\nout\nerr\n"


def test_a_killed_child_tells_the_signal(run: Run) -> None:
    executor, handle = run("import time; time.sleep(60)")
    executor.stop(handle)
    assert ended(executor, handle) == Child(alive=False, code=-signal.SIGKILL)
    executor.stop(handle)


def test_a_child_has_a_session_of_its_own(run: Run) -> None:
    """So that neither ^C at the server's terminal nor its closing reaches it."""
    _, handle = run("import time; time.sleep(60)")
    assert os.getsid(int(handle.partition(":")[0])) != os.getsid(0)


def test_another_executor_knows_a_child_by_its_handle(run: Run, tmp_path: Path) -> None:
    first, handle = run(HOLD)
    until((tmp_path / "up").exists)
    second = LocalExecutor({}, ("none",))
    assert second.poll(handle) == Child(alive=True)
    assert second.find(tmp_path) == handle
    second.stop(handle)
    assert ended(first, handle).code == -signal.SIGKILL
    assert second.find(tmp_path) is None


def test_a_recycled_pid_is_not_the_child() -> None:
    """This very process has a pid that an earlier child might have had."""
    executor = LocalExecutor({}, ("none",))
    for handle in (f"{os.getpid()}:1@00000000", f"{os.getpid()}:1@"):
        assert executor.poll(handle) == Child(alive=False)
        executor.stop(handle)


def test_an_unheld_lock_is_nobodys(tmp_path: Path) -> None:
    executor = LocalExecutor({}, ("none",))
    assert executor.find(tmp_path) is None
    (tmp_path / "lock").write_text(str(os.getpid()))
    assert executor.find(tmp_path) is None


def test_a_lock_held_by_nobody_with_a_name_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutcropError, match=r"lock is held, but not by the process that it names \(''\)"):
            LocalExecutor({}, ("none",)).find(tmp_path)


def test_a_stop_takes_the_childs_own_children_along(run: Run, tmp_path: Path) -> None:
    executor, handle = run(PARENT)
    until(lambda: (tmp_path / "up").exists() and (tmp_path / "up").read_text() != "")
    executor.stop(handle)
    ended(executor, handle)
    until(lambda: _gone(int((tmp_path / "up").read_text())))


def test_a_dead_childs_own_children_are_killed_with_it(run: Run, tmp_path: Path) -> None:
    executor, handle = run(PARENT)
    until(lambda: (tmp_path / "up").exists() and (tmp_path / "up").read_text() != "")
    os.kill(int(handle.partition(":")[0]), signal.SIGKILL)
    ended(executor, handle)
    until(lambda: _gone(int((tmp_path / "up").read_text())))


def _gone(pid: int) -> bool:
    """Ended, though whoever is its parent now may not have reaped it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_child_gets_what_it_is_given_and_nothing_of_our_aws_set_up(tmp_path: Path) -> None:
    ours = {"PATH": "/bin", "AWS_PROFILE": "mine", "AWS_ENDPOINT_URL": "http://elsewhere", "OTHER": "kept"}
    code = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1] + '/env.json', 'w'))"
    executor = LocalExecutor(ours, (sys.executable, "-I", "-c", code))
    ended(executor, executor.start(tmp_path, {"AWS_ACCESS_KEY_ID": "ASIA1", "PATH": "/usr/bin"}))
    told = json.loads((tmp_path / "env.json").read_text())
    assert {name: told.get(name) for name in (*ours, "AWS_ACCESS_KEY_ID")} == {
        "PATH": "/usr/bin",
        "AWS_PROFILE": None,
        "AWS_ENDPOINT_URL": None,
        "OTHER": "kept",
        "AWS_ACCESS_KEY_ID": "ASIA1",
    }


def test_a_program_that_is_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        LocalExecutor({}, ("/no-such-program",)).start(tmp_path, {})


def test_the_training_child_is_what_runs_by_default(tmp_path: Path) -> None:
    """In an empty directory it misses its spec, says so among its events, and leaves its pid in the lock."""
    executor = LocalExecutor(os.environ)
    handle = executor.start(tmp_path, {})
    assert ended(executor, handle).code == 0
    last = json.loads((tmp_path / "events.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "failed"
    assert "spec.json" in last["message"]
    assert (tmp_path / "lock").read_text().strip() == handle.partition(":")[0]
