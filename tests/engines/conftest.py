"""Tiny models on disk, made once."""

from pathlib import Path

import pytest
import torch

from tests.engines.tiny import write_adapter, write_llama, write_qwen


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen(tmp_path_factory.mktemp("qwen"))


@pytest.fixture(scope="session")
def adapters(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two adapters of the Llama, by name."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: write_adapter(tiny_llama, folder / name, seed) for seed, name in enumerate(("red", "blue"), 7)}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are slower on two cores, and much slower on two busy ones."""
    torch.set_num_threads(1)
