"""The soak in short: a job through a real server, killed at random moments, the same bits. In full: `make soak`."""

from pathlib import Path

import pytest

from tests.soak.soak import soak


@pytest.mark.slow
def test_a_job_whose_child_and_server_are_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    said: list[str] = []
    assert soak(tmp_path, ["lora"], kills=3, seed=1, size=100, say=said.append) == [], "\n".join(said)
    assert sum(line.startswith("  kill") for line in said) >= 2
