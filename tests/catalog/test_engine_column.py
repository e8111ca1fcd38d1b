"""The column `engine`: a command that starts vLLM, refused where it says what the server says."""

from pathlib import Path

import pytest

from outcrop.catalog.catalog import Catalog
from outcrop.errors import OutcropError

ROW = "amazon.titan-text-express-v1"


def engine(folder: Path, line: str) -> str:
    file = folder / "own.toml"
    file.write_text(f"[models.\"{ROW}\"]\nengine = '{line}'\n")
    row = Catalog.load(file).find(ROW)
    assert row is not None
    return row.engine


def test_our_own_engine_stands_where_nothing_is_said() -> None:
    assert {row.engine for row in Catalog.load().rows} == {""}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("vllm serve", "vllm serve"),
        ("vllm serve --dtype bfloat16 --port-free=1", "vllm serve --dtype bfloat16 --port-free=1"),
        ("env CUDA_VISIBLE_DEVICES=1 vllm serve", "env CUDA_VISIBLE_DEVICES=1 vllm serve"),
        ("/opt/vllm/bin/vllm serve", "/opt/vllm/bin/vllm serve"),
        # As weights: from where the file lies.
        ("venv/bin/vllm serve --dtype half", "{folder}/venv/bin/vllm serve --dtype half"),
    ],
)
def test_a_command(tmp_path: Path, line: str, found: str) -> None:
    assert engine(tmp_path, line) == found.format(folder=tmp_path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("vllm", "it is a command that starts vLLM, as `vllm serve --dtype bfloat16`"),
        ("serve", "it is a command that starts vLLM"),
        ('vllm serve "', "it is no command: No closing quotation"),
        ("vllm serve /weights", "`/weights` stands where the server puts the weights"),
        ("vllm serve --api-key secret", "--api-key is the server.s own to choose"),
        ("vllm serve --dtype half --served_model_name=x", "--served_model_name=x is the server.s own to choose"),
        ("vllm serve --host 0.0.0.0", "--host is the server.s own to choose"),
        ("vllm serve --ssl-keyfile /k", "--ssl-keyfile is the server.s own to choose"),
    ],
)
def test_what_is_no_command_is_refused_with_its_row(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(OutcropError, match=f"own.toml: model {ROW}: engine: {reason}"):
        engine(tmp_path, line)
