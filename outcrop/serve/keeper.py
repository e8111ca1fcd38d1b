"""Keeps a vLLM for the server as the server expects an engine of ours to be: python -m outcrop.serve.keeper.

    python -m outcrop.serve.keeper --weights DIR --name NAME --ready FILE -- vllm serve --dtype bfloat16

Starts it on a socket in a folder that nobody else may enter, writes the ready file, JSON {"socket", "pid"}, once
/health says so, and ends it when standard input ends: vLLM itself would outlive whoever started it, and its engine
would outlive vLLM and hold the GPU. So all of them share the keeper's process group, which is swept at the end. At
SIGTERM it ends at once. The key of OUTCROP_ENGINE_KEY goes on as VLLM_API_KEY. What vLLM writes is passed on; the
lines of it that name an error are said again at the end of a long output, with the command and the exit status, as
the reason of a failed start often stands thousands of lines before its last. Knows one command; nothing of models or
requests.
"""

import argparse
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Final

import httpx
import msgspec

from outcrop.catalog.engine import SERVE
from outcrop.children import ENGINE_KEY
from outcrop.durable import replace_file

OURS: Final = {
    "max-loras": "16",
    "max-cpu-loras": "256",
    "max-lora-rank": "64",
    "generation-config": "vllm",
}
"""What it is told where the row's own words say nothing of it: adapters in one batch, adapters known at all, the
largest rank (jobs here train 16 where nobody asks for more), and no sampling but what the request says."""

LOOK_SECONDS: Final = 0.1
"""Between two looks whether it is healthy."""

HEALTH_SECONDS: Final = 5.0

GRACE_SECONDS: Final = 3.0
"""To end by itself, once asked; whoever asked the keeper waits little longer."""

ERRORS: Final = re.compile(rb"\b\w*(Error|Exception)\b|\berror:", re.ASCII)
ERRORS_KEPT: Final = 3
LONGEST_ERROR: Final = 300
"""Of what it wrote: lines and bytes that fit into a failureMessage beside the command."""

SHORT: Final = 700
"""Bytes of output that stand in a failureMessage as they are, behind the command: then nothing is said again."""

LONGEST_FOLDER: Final = 60
"""Characters of a folder for sockets: the kernel takes paths of 107 bytes (unix(7))."""

NOT_FOUND: Final = 127
"""Exit status of a shell that finds no such program."""

SET_PARENT_DEATH_SIGNAL: Final = 1
"""prctl(2): PR_SET_PDEATHSIG."""


def command(words: Sequence[str], weights: Path, name: str, socket: Path) -> list[str]:
    """vLLM's whole command line: the weights behind `serve`, then ours, the row's own words, and what is not theirs."""
    place = words.index(SERVE, 1) + 1
    said = {word[2:].partition("=")[0].replace("_", "-") for word in words[place:] if word.startswith("--")}
    ours = [part for option, value in OURS.items() if option not in said for part in (f"--{option}", value)]
    lora = [] if said & {"enable-lora", "no-enable-lora"} else ["--enable-lora"]
    last = ["--served-model-name", name, "--uds", str(socket)]
    return [*words[:place], str(weights), *lora, *ours, *words[place:], *last]


def environment(key: str) -> dict[str, str]:
    """The key where no list of processes shows it, adapters that come and go, and nothing told to anyone outside."""
    ours = {name: value for name, value in os.environ.items() if name != ENGINE_KEY}
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return {**ours, **quiet, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", **({"VLLM_API_KEY": key} if key else {})}


class Kept:
    """A vLLM that runs; it is started by making one. Raises OSError when the program cannot be started."""

    def __init__(self, line: Sequence[str], key: str) -> None:
        self._errors: deque[bytes] = deque(maxlen=ERRORS_KEPT)
        self.written = 0
        """Bytes that it has written."""
        self._process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(key),
            # There are no threads yet. Without this, a keeper that is killed would leave it behind.
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> None:
        """Let it end, and see to it that it does."""
        self._process.terminate()
        time.sleep(GRACE_SECONDS)
        self._process.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def pass_on(self) -> None:
        """All that it writes onto our own output, until it ends."""
        output: IO[bytes] | None = self._process.stdout
        assert output is not None
        for line in output:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            self.written += len(line)
            if ERRORS.search(line):
                self._errors.append(line.strip())

    def errors(self) -> list[str]:
        """The last lines that named errors."""
        return [line[-LONGEST_ERROR:].decode("utf-8", "replace") for line in list(self._errors)]

    def wait(self) -> int:
        """Its exit status as a shell has it, once it has ended."""
        code = self._process.wait()
        return code if code >= 0 else 128 - code


def follow_parent(kept: Kept, unwanted: threading.Event) -> None:
    """End it when our standard input ends."""
    while os.read(0, 4096):
        pass
    unwanted.set()
    kept.stop()


def tell_when_healthy(socket: Path, ready: Path, pid: int) -> None:
    """Write the ready file once it answers; until then its socket may be there, and takes no connection."""
    transport = httpx.HTTPTransport(uds=str(socket), verify=False, trust_env=False)
    with httpx.Client(transport=transport, base_url="http://vllm", timeout=HEALTH_SECONDS) as client:
        while True:
            try:
                if client.get("/health").is_success:
                    break
            except httpx.HTTPError:
                pass  # It loads; that it has ended is seen where it is waited for.
            time.sleep(LOOK_SECONDS)
    replace_file(ready, msgspec.json.encode({"socket": str(socket), "pid": pid}).decode())


def keep(line: Sequence[str], socket: Path, ready: Path, unwanted: threading.Event) -> int:
    """Run it to its end; our exit status. unwanted: set once nobody wants it any more."""
    shown = shlex.join(line)
    try:
        kept = Kept(line, os.environ.get(ENGINE_KEY, ""))
    except OSError as fault:
        print(f"`{shown}` cannot be started: {fault}", flush=True)
        return NOT_FOUND
    print(shown, flush=True)
    try:
        for work in (partial(follow_parent, kept, unwanted), partial(tell_when_healthy, socket, ready, kept.pid)):
            threading.Thread(target=work, daemon=True).start()
        output = threading.Thread(target=kept.pass_on, daemon=True)
        output.start()
        # Its own end, not its output's: what it started may hold that open, and is ended with it.
        code = kept.wait()
    finally:
        kept.kill()
    output.join(GRACE_SECONDS)
    if kept.written > SHORT:
        print(*kept.errors(), f"`{shown}` ended with {code}", sep="\n", flush=True)
    return code


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def main(argv: Sequence[str] | None = None) -> int:
    """Keep one until it ends."""
    parser = argparse.ArgumentParser(prog="outcrop.serve.keeper", description="Keep one vLLM for the server.")
    parser.add_argument("--weights", type=Path, required=True, help="folder in Hugging Face layout")
    parser.add_argument("--name", required=True, help="what the base is called in requests")
    parser.add_argument("--ready", type=Path, required=True, help="file to write once it serves")
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="vllm serve, and its options")
    told = parser.parse_args(argv)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    unwanted = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        unwanted.set()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
    # Nobody but us may enter, as vLLM asks for its key at some verbs only.
    usual = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="outcrop-vllm-", dir=usual if len(usual) <= LONGEST_FOLDER else "/tmp"))  # noqa: S108
    socket = folder / "vllm.sock"
    try:
        return keep(command(told.words, told.weights, told.name, socket), socket, told.ready, unwanted)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if unwanted.is_set():
            # Ourselves among them: nobody asks for our exit status. Where somebody does, it sweeps the group itself.
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
