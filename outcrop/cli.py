"""The commands. Reads settings, calls app; a fault that has a message for a person is shown as that message alone."""

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.settings import SETTINGS_FILE, Settings, check_names

if TYPE_CHECKING:  # SQLAlchemy is not worth waiting for before a help text
    from outcrop.store.store import Store

SPIN_COUNT = "1000"
"""How long OpenMP's threads spin for each other before they sleep: docs/decisions/spinning.md has the measurements."""

commands = typer.Typer(
    name="outcrop",
    help="Amazon Bedrock model customization on your own machines: the same API, with real training behind it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
models_commands = typer.Typer(
    help="The foundation models, and the weights that stand behind them.", no_args_is_help=True
)
commands.add_typer(models_commands, name="models")

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Data directory: keys, buckets, models, jobs. Default: ./outcrop-data", show_default=False
    ),
]
Host = Annotated[
    str | None, typer.Option("--host", help="Address to listen on. Default: 127.0.0.1", show_default=False)
]
Port = Annotated[int | None, typer.Option("--port", help="Port; 0 for any free one. Default: 4580", show_default=False)]


def settings_from(**given: Any) -> Settings:
    """Settings with the command line's values on top; raises OutcropError that names the wrong setting."""
    try:
        check_names(os.environ)
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except (TOMLDecodeError, UnicodeDecodeError, OSError) as fault:
        raise OutcropError(f"cannot read {SETTINGS_FILE} in the working directory: {fault}") from fault
    except ValidationError as fault:
        lines = [f"{'.'.join(map(str, error['loc']))} = {error['input']!r}: {error['msg']}" for error in fault.errors()]
        raise OutcropError(
            "wrong settings (command line, OUTCROP_… or outcrop.toml):\n  " + "\n  ".join(lines)
        ) from None


@commands.command()
def serve(data: Data = None, host: Host = None, port: Port = None) -> None:
    """Serve Bedrock, S3, STS and IAM on one port until interrupted."""
    from outcrop.app import build
    from outcrop.logs import configure

    # Children inherit it; whoever set it, or OpenMP's own wait policy, knows better.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    # The database holds keys and the buckets hold training data: what the server makes is its user's alone.
    os.umask(0o077)
    settings = settings_from(data=data, host=host, port=port)
    configure(settings.log_level)
    asyncio.run(_serve(lambda: build(settings)))


async def _serve(make: Callable[[], Any]) -> None:
    """Run a service until SIGINT or SIGTERM; a second one ends it at once."""
    asked = asyncio.Event()

    def ask(number: int) -> None:
        if asked.is_set():
            # Nothing is lost by it: whatever was answered is on disk, and engines end with their parent.
            os._exit(128 + number)
        asked.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ask, number)
    service = make()
    await service.start()
    _banner(service)
    await asked.wait()
    _error_console().print(
        "stopping: requests in work end, then engines; a training job goes on and is taken up at the next start "
        "(Ctrl-C again: stop at once)"
    )
    await service.stop()


def _banner(service: Any) -> None:
    """Say where the service is and how to reach it."""
    console = Console(highlight=False, soft_wrap=True)  # what is copied from here must stay in one piece
    root = service.directory.root
    console.print(f"[bold]outcrop[/bold] serves Bedrock, S3, STS and IAM at [bold]{service.endpoint}[/bold]")
    console.print(
        f"  data      {escape(str(root))}"
        + ("  [green](new: keys, first role and database were made)[/green]" if service.new else "")
    )
    console.print(f"  account   {service.settings.account}, every region; the first role is BedrockCustomizationRole")
    console.print("  weights   the bundled base stands in for every model until `outcrop models use` names others")
    console.print(f'  use it    eval "$(outcrop env --data {escape(shlex.quote(str(root)))})"')
    console.print("  stop it   Ctrl-C")


@commands.command()
def env(data: Data = None) -> None:
    """Print the exports that point AWS's SDKs and CLI at the server: eval "$(outcrop env)"."""
    from outcrop.listen import endpoint_at

    settings = settings_from(data=data)
    directory = DataDirectory(settings.data.absolute())
    credentials = directory.read_credentials()
    running = directory.running()
    if running is None:
        _error_console().print(
            f"note: no server runs on {escape(str(directory.root))}; the endpoint is the one it would have"
        )
    endpoint = running.endpoint if running else endpoint_at(settings.host, settings.port)
    exports = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret,
        "AWS_DEFAULT_REGION": credentials.region,
    }
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}")
    # A profile or a session token of another account would win over the keys, or be sent beside them.
    print("unset AWS_PROFILE AWS_SESSION_TOKEN AWS_BEARER_TOKEN_BEDROCK")


@models_commands.command("list")
def list_models(data: Data = None) -> None:
    """Every foundation model, and the weights that really run behind it."""
    from outcrop.catalog.catalog import Catalog, effective_weights

    table = Table(title="foundation models")
    for column in ("id", "name", "customizations", "weights that really run"):
        table.add_column(column, overflow="fold")
    with _store(data) as store:
        for row in Catalog.load().rows:
            weights = effective_weights(row, store.models)
            stands_in = " (stands in)" if weights.startswith("bundled:") else ""
            table.add_row(row.long_id, row.name, ", ".join(row.customizations), escape(weights) + stands_in)
    Console().print(table)


@models_commands.command("use")
def use_weights(
    model_id: Annotated[
        str, typer.Argument(metavar="ID", help="A foundation model's id, as `outcrop models list` has it.")
    ],
    weights: Annotated[str, typer.Argument(help="A folder in Hugging Face layout, or bundled:text.")],
    data: Data = None,
) -> None:
    """Put other weights behind a foundation model's id; custom models keep those that they were trained on."""
    from outcrop.catalog.catalog import Catalog

    catalog = Catalog.load()
    row = catalog.find(model_id)
    if row is None:
        known = ", ".join(row.long_id for row in catalog.rows)
        raise OutcropError(f"{model_id!r} is not a foundation model of the catalogue; there are {known}")
    name = weights if weights.startswith("bundled:") else str(Path(weights).absolute())
    folder = catalog.weights_folder(name)
    with _store(data) as store:
        store.models.use_weights(row.long_id, name)
    Console(highlight=False).print(f"{row.long_id} now runs {escape(name)} ({escape(str(folder))})")


@contextmanager
def _store(data: Path | None) -> Iterator["Store"]:
    """The store of a data directory that a server has made, whether one runs now or not; a mistyped one is refused."""
    from outcrop.migrations import opened
    from outcrop.store.store import Store

    settings = settings_from(data=data)
    directory = DataDirectory(settings.data.absolute())
    directory.read_credentials()
    database = opened(settings.database or f"sqlite:///{directory.database}")
    try:
        yield Store.over(database)
    finally:
        database.close()


@commands.command()
def demo(data: Data = None) -> None:
    """Run the documented flow end to end: dataset, fine-tuning, throughput, base against custom."""
    from outcrop.demo.run import run

    settings = settings_from(data=data)
    run(DataDirectory(settings.data.absolute()), Console())


def main() -> None:
    """Entry point: a person's message and exit code 1 for every fault that has one."""
    try:
        commands()
    except OutcropError as fault:
        _error_console().print(f"[bold red]outcrop:[/bold red] {escape(str(fault))}")
        sys.exit(1)


def _error_console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
