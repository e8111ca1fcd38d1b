"""Small real weights, a data directory with a store, and the command line in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from outcrop.catalog.catalog import BASES
from outcrop.directory import Credentials, DataDirectory
from outcrop.migrations import opened

Outcrop = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """A data directory as a server's first start leaves it."""
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    directory.write_credentials(Credentials("AKIDEXAMPLE", "secret", "bearer", "us-east-1"))
    opened(f"sqlite:///{directory.database}").close()
    return directory


FETCH = """
import sys
from pathlib import Path
from outcrop.errors import OutcropError
from outcrop.sources.fetch import fetch
from outcrop.sources.names import parse
from outcrop.sources.shelf import Shelf
try:
    print(fetch(parse(sys.argv[1]), Shelf(Path("none"), Path(sys.argv[2])), lambda done, total: None).name)
except OutcropError as fault:
    sys.exit(str(fault))
"""


def started(arguments: list[str], folder: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HF_", "OUTCROP_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "COLUMNS": "120", "HF_HOME": str(folder / "hf"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def outcrop(tmp_path: Path) -> Outcrop:
    """Runs the command line; `environment` is what it finds beside the bare necessities."""
    return lambda *arguments, **environment: started(["-m", "outcrop.cli", *arguments], tmp_path, environment)


@pytest.fixture
def fetched(tmp_path: Path, data: DataDirectory) -> Outcrop:
    """Fetches weights alone, as `outcrop models use` does before it tries them, in a process of its own."""
    return lambda name, **environment: started(["-c", FETCH, name, str(data.weights)], tmp_path, environment)


@pytest.fixture(scope="session")
def bundled() -> Path:
    """The weights that come with the package: a small real Llama with a chat template."""
    return BASES / "text"
