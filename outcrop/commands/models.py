"""outcrop models: which foundation models there are, and which weights stand behind them."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from outcrop.commands.options import Data, open_store
from outcrop.errors import OutcropError

models = typer.Typer(help="The foundation models, and the weights that stand behind them.", no_args_is_help=True)


@models.command("list")
def list_models(data: Data = None) -> None:
    """Every foundation model, and the weights that really run behind it."""
    from outcrop.catalog.catalog import Catalog, effective_weights

    table = Table(title="foundation models")
    for column in ("id", "name", "customizations", "weights that really run"):
        table.add_column(column, overflow="fold")
    with open_store(data) as store:
        for row in Catalog.load().rows:
            weights = effective_weights(row, store.models)
            stands_in = " (stands in)" if weights.startswith("bundled:") else ""
            table.add_row(row.long_id, row.name, ", ".join(row.customizations), escape(weights) + stands_in)
    Console().print(table)


@models.command("use")
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
    with open_store(data) as store:
        store.models.use_weights(row.long_id, name)
    Console(highlight=False).print(f"{row.long_id} now runs {escape(name)} ({escape(str(folder))})")
