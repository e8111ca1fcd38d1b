"""outcrop models: which foundation models there are, which weights stand behind them, and how to change that."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from outcrop.commands.options import FLAG, Data, error_console, open_store, settings_from
from outcrop.commands.start import NoModels, find_row
from outcrop.directory import DataDirectory

if TYPE_CHECKING:
    from outcrop.catalog.catalog import WeightsChoice
    from outcrop.sources.bucket import Watch

models = typer.Typer(help="The foundation models, and the weights that stand behind them.", no_args_is_help=True)


@models.command("list")
def list_models(
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print JSON and nothing else.")] = False,
) -> None:
    """Every foundation model, and the weights that really run behind it."""
    from outcrop.catalog.catalog import Catalog
    from outcrop.commands.models_view import listed, show_list

    settings = settings_from(data=data)
    catalog = Catalog.load(settings.catalog, fetched=DataDirectory(settings.data.absolute()).weights)
    with _choices(data) as choices:
        rows = [listed(row, choices, catalog) for row in catalog.rows]
    if as_json:
        print(json.dumps([row.document() for row in rows], ensure_ascii=False, indent=2))
    else:
        show_list(Console(highlight=False), rows)


@models.command("use")
def use_weights(
    model_id: Annotated[
        str, typer.Argument(metavar="ID", help="A foundation model's id, as `outcrop models list` has it.")
    ],
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help=r"A folder in Hugging Face layout, s3://bucket/prefix, hf:org/repo\[@revision], or bundled:text.",
        ),
    ],
    data: Data = None,
) -> None:
    """Put other weights behind a foundation model's id; custom models keep those that they were trained on.

    They are fetched where they are not here, looked at and tried before anything is stored.

    hf: uses the Hugging Face hub's own token and cache (`hf auth login`, HF_TOKEN, HF_HOME).

    s3:// uses the keys and the endpoint of the AWS environment.
    """
    from outcrop.catalog.catalog import Catalog
    from outcrop.commands.models_view import show_accepted
    from outcrop.sources.accept import accept
    from outcrop.sources.fetch import fetch
    from outcrop.sources.names import parse
    from outcrop.sources.shelf import Shelf

    console, settings = Console(highlight=False), settings_from(data=data)
    directory = DataDirectory(settings.data.absolute())
    catalog = Catalog.load(settings.catalog, fetched=directory.weights)
    row = find_row(catalog, model_id)
    with open_store(data) as store:
        source = parse(weights, relative_to=Path.cwd())
        with _progress(weights) as watch:
            fetched = fetch(source, Shelf(catalog.bases, directory.weights), watch)
        with error_console().status("trying the weights in a process of their own …"):
            formats = {way.format for way in row.customizations.values() if not way.beyond_aws}
            accepted = accept(fetched, formats)
        store.models.use_weights(row.long_id, None if fetched.name == row.weights else fetched.name)
    console.print(f"{row.long_id} now runs {escape(fetched.name)}", soft_wrap=True)
    show_accepted(console, accepted)


@contextmanager
def _choices(data: Path | None) -> "Iterator[WeightsChoice]":
    """What was chosen in the data directory; before a server was ever started there, nothing."""
    directory = DataDirectory(settings_from(data=data).data.absolute())
    if data is None and not directory.credentials.exists():
        error_console().print(
            f"note: {escape(str(directory.root))} is no data directory yet; the catalogue's own weights"
        )
        yield NoModels()
        return
    with open_store(data) as store:
        yield store.models


@contextmanager
def _progress(what: str) -> "Iterator[Watch]":
    """A bar that appears with the first bytes."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=error_console()) as bar:
        task = bar.add_task(escape(what), total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
