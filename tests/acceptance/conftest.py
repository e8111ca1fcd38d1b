"""The server that acceptance tests talk to, and an environment that holds nothing but its address and key."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running server for all tests of this process."""
    running = Server(tmp_path_factory.mktemp("server") / "data").start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def loaded(server: Server) -> None:
    """The bundled weights' engine is up, and stays up: whoever provisions one model after another waits for it once."""
    runtime = server.client("bedrock-runtime")
    body = json.dumps({"inputText": "Hello", "textGenerationConfig": {"maxTokenCount": 1}})
    runtime.invoke_model(modelId="amazon.titan-text-express-v1", body=body)


@pytest.fixture
def client_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """This process as a customer's shell after `outcrop env`."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server.environment


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A small training file."""
    path = tmp_path / "train.jsonl"
    lines = [
        f'{{"prompt": "Customer: where is order {number}?\\nAgent:", "completion": " Order {number} is on its way."}}\n'
        for number in range(100, 116)
    ]
    path.write_text("".join(lines), "utf-8")
    return path
