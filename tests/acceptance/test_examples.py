"""The example scripts as a customer runs them, and the README's script, which is one of them."""

import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.server import Server

ROOT = Path(__file__).parents[2]


def test_the_first_job(server: Server) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "first_job.py")],
        env={**kept, **server.environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    status, answer = run.stdout.strip().split("\n", 1)
    assert status.startswith("Completed {'trainingLoss': ")
    assert answer.strip()


def test_the_readme_quotes_the_first_job() -> None:
    script = (ROOT / "examples" / "first_job.py").read_text("utf-8")
    _, code = script.split("\n\n", 1)
    assert f"```python\n{code}```" in (ROOT / "README.md").read_text("utf-8")
