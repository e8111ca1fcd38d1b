"""The documented flow through AWS's JavaScript SDK v3, which sends runtime calls as cleartext HTTP/2."""

import fcntl
import json
import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.acceptance.server import Server

FOLDER = Path(__file__).parent / "javascript"


@pytest.fixture(scope="session")
def packages() -> Path:
    """The SDK's packages, as the lock file pins them; installed once, by one worker at a time."""
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = FOLDER / "node_modules" / ".package-lock.json"
        if not stamp.is_file() or stamp.stat().st_mtime < (FOLDER / "package-lock.json").stat().st_mtime:
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, capture_output=True)
    return FOLDER


@pytest.mark.skipif(
    shutil.which("node") is None or shutil.which("npm") is None,
    reason="needs Node.js 18 or newer with npm: install both",
)
def test_the_flow_through_the_javascript_sdk(packages: Path, server: Server, pairs: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    run = subprocess.run(
        ["node", "flow.mjs", str(pairs), uuid.uuid4().hex[:8]],
        cwd=packages,
        env={**kept, **server.environment, "AWS_REGION": server.environment["AWS_DEFAULT_REGION"]},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["models"] >= 3
    assert seen["job"]["status"] == "Completed", seen["job"]
    assert seen["job"]["loss"] > 0
    assert seen["dates"] is True
    assert seen["throughput"]["status"] == "InService", seen["throughput"]
    assert "".join(seen["pieces"]) == seen["whole"]
    assert len(seen["pieces"]) > 1
    assert seen["metrics"]["outputTokenCount"] > 0
    assert seen["refusal"]["name"] == "ValidationException"
    assert seen["refusal"]["status"] == 400
    assert "Malformed input request" in seen["refusal"]["message"]
    assert seen["csv"] == "step_number,epoch_number,training_loss,perplexity"
