"""A small training child: it holds the lock, tells its pid, and does what the job's hyperparameter `script` says.

The script is a list of runs (the last one is repeated), each a list of steps:
{"kind": …} an event as it stands · "model" leaves weights · "hang" waits for the stop file, then stops as asked ·
"deaf" waits for ever · "linger" like deaf, but only after all else · "torn" half a line · "wait NAME" until that file
exists · "exit N" · "kill N" by signal · "say TEXT" to the log · "env" writes the environment down.
"""

import fcntl
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(sys.argv[1])


def emit(event: dict[str, object]) -> None:
    line = json.dumps({"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **event})
    with (ROOT / "events.jsonl").open("ab", buffering=0) as file:
        file.write(line.encode() + b"\n")


def act(step: str) -> None:
    verb, _, rest = step.partition(" ")
    if verb == "model":
        (ROOT / "model").mkdir()
        (ROOT / "model" / "weights").write_text(str(os.getpid()))
    elif verb == "hang":
        while not (ROOT / "stop").exists():
            time.sleep(0.01)
        emit({"kind": "stopped", "step": 7, "tokens": 70})
        sys.exit(0)
    elif verb == "deaf":
        while True:
            time.sleep(1)
    elif verb == "torn":
        with (ROOT / "events.jsonl").open("ab", buffering=0) as file:
            file.write(b'{"at": "2024-05-01T12:00:00.000Z", "ki')
    elif verb == "wait":
        while not (ROOT / rest).exists():
            time.sleep(0.01)
    elif verb == "exit":
        sys.exit(int(rest))
    elif verb == "kill":
        os.kill(os.getpid(), int(rest))
    elif verb == "say":
        print(rest, flush=True)
    elif verb == "env":
        (ROOT / "env.json").write_text(json.dumps(dict(os.environ)))
    else:
        raise ValueError(step)


def main() -> None:
    lock = (ROOT / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    with (ROOT / "runs").open("a+") as runs:
        runs.write(f"{os.getpid()}\n")
        runs.seek(0)
        run = len(runs.readlines())
    script = json.loads(json.loads((ROOT / "spec.json").read_text())["hyperparameters"]["script"])
    for step in script[min(run, len(script)) - 1]:
        act(step) if isinstance(step, str) else emit(step)


main()
