"""Weights proven by a child process: they load, serving and training agree on them, and how large they really are.

Starts the child and reads its one JSON object. Knows its command line; torch is only in there.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec

from outcrop.errors import OutcropError

PROVE: Final = ("-m", "outcrop.train.prove")
CONVERT: Final = ("-m", "outcrop.train.convert")
PATIENCE: Final = 900.0
"""Seconds: weights of tens of gigabytes are read from a slow disk."""


class Proof(msgspec.Struct, frozen=True):
    """What outcrop.train.prove found."""

    architecture: str
    parameters: int
    """Numbers of the model; tied tensors count once."""
    dtype: str
    """What it computes in on this machine."""
    linear_layers: int
    """Those that LoRA adapts."""
    loaded: bool
    """Whether the weights themselves were run; else the architecture, and every tensor's name and shape."""
    slower: str | None
    """What training loses of the speed that others have, and why; None: nothing, or nobody could try it."""
    device: str
    device_memory: int | None
    embedding: int
    """Tokens that the model has a vector for."""

    @property
    def number_bytes(self) -> int:
        """Bytes of one weight in the dtype that it computes in."""
        return 4 if self.dtype == "float32" else 2


def prove(folder: Path, name: str, limit: int) -> Proof:
    """Prove a folder; weights of more than `limit` bytes are not loaded. OutcropError has the child's reason."""
    return msgspec.json.decode(_ask([*PROVE, str(folder), str(limit)], name).splitlines()[-1], type=Proof)


def convert_tokenizer(folder: Path, target: Path, name: str) -> None:
    """Write tokenizer.json into `target` from a folder's older tokenizer files; OutcropError where nobody can."""
    _ask([*CONVERT, str(folder), str(target)], name)


def _ask(arguments: list[str], name: str) -> str:
    # One thread: the server beside us may be training. No bars of others between our lines.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as fault:
        raise OutcropError(f"weights {name}: trying them took more than {PATIENCE:.0f} seconds") from fault
    if done.returncode == -signal.SIGKILL:
        raise OutcropError(f"weights {name}: the system ended the process that tried them; most likely memory ran out")
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise OutcropError(f"weights {name}: {said[-1] if said else f'trying them ended with {done.returncode}'}")
    return done.stdout.strip()
