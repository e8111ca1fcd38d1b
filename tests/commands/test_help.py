"""The pages of --help on a terminal: nothing of their texts is taken for markup, nothing misleads, nothing is cut."""

from importlib import metadata

import pytest
from typer.testing import CliRunner

from outcrop.cli import commands


def test_square_brackets_of_a_help_text_are_shown() -> None:
    shown = CliRunner().invoke(commands, ["models", "use", "--help"], terminal_width=200, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "hf:org/repo[@revision]" in " ".join(shown.output.split())


@pytest.mark.parametrize(
    "command", ["", "serve", "env", "check", "plan", "watch", "demo", "models list", "models show"]
)
def test_no_option_without_a_value_looks_as_if_it_took_one(command: str) -> None:
    shown = CliRunner().invoke(commands, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert shown.exit_code == 0, shown.output
    assert "…" not in shown.output
    told = [line for line in shown.output.splitlines() if "<bool>" in line]
    assert all("--help" in line for line in told), told


def test_what_is_to_be_copied_stands_on_one_line() -> None:
    for asked in (["--help"], ["env", "--help"]):
        assert 'eval "$(outcrop env)"' in CliRunner().invoke(commands, asked, env={"COLUMNS": "80"}).output


def test_the_version_is_told() -> None:
    assert CliRunner().invoke(commands, ["--version"]).output == f"outcrop {metadata.version('outcrop')}\n"
