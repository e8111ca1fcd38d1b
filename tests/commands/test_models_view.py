"""The list of models tells what serves a row where that is not our own engine."""

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from outcrop.catalog.catalog import Catalog
from outcrop.commands.models_view import listed, show_list
from outcrop.commands.start import NoModels

ROWS = """
[models."my.support-v1"]
weights = "bundled:text"
body = "claude-messages"
engine = "vllm serve --dtype bfloat16"
"""


def test_the_engine_of_a_row_is_told(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(ROWS)
    catalog = Catalog.load(file)
    rows = {row.long_id: listed(row, NoModels(), catalog) for row in catalog.rows}
    own, vllm = rows["amazon.titan-text-express-v1:0:8k"], rows["my.support-v1"]
    assert (own.document()["engine"], vllm.document()["engine"]) == ("", "vllm serve --dtype bfloat16")
    screens = []
    for row in (own, vllm, replace(vllm, engine="[red]vllm serve")):
        screen = io.StringIO()
        show_list(Console(file=screen, width=120), [row])
        screens.append(screen.getvalue())
    assert " on " not in screens[0].partition("stands in:")[0]
    assert "on vllm serve --dtype bfloat16" in screens[1]
    assert "on [red]vllm serve" in screens[2]


def test_a_model_takes_two_lines_of_a_narrow_terminal() -> None:
    catalog = Catalog.load()
    screen = io.StringIO()
    show_list(Console(file=screen, width=80), [listed(row, NoModels(), catalog) for row in catalog.rows])
    heading, *table = screen.getvalue().partition("\n\n")[0].splitlines()
    assert heading.split() == ["model", "customized", "by", "what", "runs"]
    assert len(table) == 2 * len(catalog.rows)
    assert all(line.endswith("stands in") for line in table[1::2]), table
