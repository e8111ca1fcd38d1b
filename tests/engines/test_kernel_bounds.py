"""Kernels read and write what they are given and nothing beside it, down to a row of one number."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.engines.guard_pages", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="pages are shut as Linux does it")
def test_no_kernel_reads_or_writes_beside_its_tensors() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert run("beyond").returncode in (-signal.SIGSEGV, -signal.SIGBUS)
