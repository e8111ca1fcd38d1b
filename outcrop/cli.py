"""The command line: puts the commands together and shows a fault that has a message for a person as that message."""

import sys
from importlib import metadata
from typing import Annotated

import typer
from rich.markup import escape

from outcrop.commands.check import check
from outcrop.commands.demo import demo
from outcrop.commands.env import env
from outcrop.commands.models import models
from outcrop.commands.options import FLAG, error_console
from outcrop.commands.plan import plan
from outcrop.commands.serve import serve
from outcrop.commands.show import show_model
from outcrop.commands.watch import watch
from outcrop.errors import OutcropError
from outcrop.terminal import harmless


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"outcrop {metadata.version('outcrop')}")
        raise typer.Exit


commands = typer.Typer(
    name="outcrop",
    help="Amazon Bedrock model customization on your own machines: the same API, with real training behind it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@commands.callback()
def outcrop(
    version: Annotated[
        bool, typer.Option("--version", metavar=FLAG, is_eager=True, callback=_tell_version, help="Show the version.")
    ] = False,
) -> None:
    """What stands before any command."""


commands.command()(serve)
commands.command()(env)
models.command("show")(show_model)
commands.add_typer(models, name="models")
commands.command()(check)
commands.command()(plan)
commands.command()(watch)
commands.command()(demo)


def main() -> None:
    """Entry point: a person's message and exit code 1 for every fault that has one."""
    try:
        commands()
    except OutcropError as fault:
        error_console().print(f"[bold red]outcrop:[/bold red] {escape(harmless(str(fault)))}")
        sys.exit(1)


if __name__ == "__main__":
    main()
