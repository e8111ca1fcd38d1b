"""The pages of --help on a terminal: nothing of their texts is taken for markup."""

from typer.testing import CliRunner

from outcrop.cli import commands


def test_square_brackets_of_a_help_text_are_shown() -> None:
    shown = CliRunner().invoke(commands, ["models", "use", "--help"], terminal_width=200, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "hf:org/repo[@revision]" in " ".join(shown.output.split())
