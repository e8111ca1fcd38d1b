"""What the server and its children agree on: the words of a child's diary, exit statuses, variables, spec.json.

Spelled once, as the two sides never import each other. Knows nothing of either.
"""

from pathlib import Path
from typing import Final

import msgspec

from outcrop.durable import replace_file
from outcrop.errors import OutcropError
from outcrop.records import TrainSpec

PARTS: Final = ("validation", "dataProcessing", "training")
"""The parts of a job in their order, as a training child's events name them."""

TERMINAL: Final = frozenset({"done", "failed", "stopped"})
"""Kinds of events that end a job: the last line of events.jsonl, or the child died."""

AGAIN: Final = 75
"""Exit status (sysexits' EX_TEMPFAIL) of a life whose trouble a fresh one may be spared: start it again. The last line
of its log says what the trouble was."""

ENGINE_KEY: Final = "OUTCROP_ENGINE_KEY"
"""Environment variable with the bearer key that an engine asks of everyone: any user of the machine sees its port."""


def write_spec(spec: TrainSpec, path: Path) -> None:
    """Write spec.json whole or not at all."""
    replace_file(path, msgspec.json.encode(spec).decode() + "\n", mode=0o600)


def read_spec(path: Path) -> TrainSpec:
    """Read spec.json; raises OutcropError when it is missing or broken, OSError when it cannot be read now."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainSpec)
    except (FileNotFoundError, msgspec.MsgspecError) as fault:
        raise OutcropError(f"cannot read the job's {path}: {fault}") from fault
