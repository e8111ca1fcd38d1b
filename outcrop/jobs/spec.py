"""From a stored job to what its child is told: TrainSpec, and spec.json in the job directory.

Pure but for reading and writing that one file; knows nothing of processes, credentials or events.
"""

from pathlib import Path

from outcrop.records import Job, Limits, TrainSpec


def train_spec(
    job: Job,
    *,
    base: Path,
    base_name: str,
    learning_rate: float,
    limits: Limits,
    checkpoint_seconds: float = 60.0,
) -> TrainSpec:
    """What the child of this job is told."""
    raise NotImplementedError


def save(spec: TrainSpec, path: Path) -> None:
    """Write spec.json whole or not at all."""
    raise NotImplementedError


def load(path: Path) -> TrainSpec:
    """Read spec.json; raises OutcropError when it is missing or broken."""
    raise NotImplementedError
