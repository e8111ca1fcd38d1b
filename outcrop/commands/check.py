"""outcrop check: a dataset against a model's format and quotas, before anything is paid for or started."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from outcrop.commands.dataset import (
    FAULTS,
    AsJson,
    File,
    Model,
    Type,
    Validation,
    brought,
    find_kind,
    find_row,
    usage,
    watched,
)
from outcrop.commands.options import settings_from
from outcrop.errors import OutcropError

if TYPE_CHECKING:
    from outcrop.datasets.formats import Fault
    from outcrop.estimate.survey import Input


def check(
    file: File,
    *,
    model: Model = None,
    type: Type = "FINE_TUNING",
    validation: Validation = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="The job's batchSize: quotas of some models depend on it."),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option("--faults", metavar="FILE", help="Write every fault to this file, one JSON object a line."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a dataset: every fault with line and column, quotas, lengths, duplicates, leakage.

    Ends with status 0 for a dataset that a job would take, 1 for one with faults, 2 where it could not be checked.
    """
    from outcrop.catalog.catalog import Catalog
    from outcrop.catalog.hyperparameters import echo, plain_numbers
    from outcrop.commands.report_view import show_survey

    with usage():
        settings = settings_from()
        catalog = Catalog.load(settings.catalog)
        row = find_row(catalog, model)
        kind = find_kind(row, type)
        way = row.customizations[kind]
        # Only this one: check has no --hyper, so a row's other required values cannot be asked for here.
        rules = {name: rule for name, rule in way.hyperparameters.items() if name == "batchSize"}
        given = {} if batch_size is None else {"batchSize": str(batch_size)}
        batch = int(plain_numbers(rules, echo(row.long_id, rules, given)).get("batchSize", "1"))
        limits = catalog.limits(row, batch, kind, enforce_advice=settings.advised_minima == "enforce")
        with brought(file, validation or (), Console(stderr=True)) as (inputs, _), _written(faults) as write:
            checked = watched(inputs, way.format, limits, write)
    if as_json:
        document = {"model": row.long_id, "customizationType": kind, "format": way.format, **checked.document()}
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        show_survey(Console(highlight=False), checked, row.long_id, way.format)
    if not checked.passed:
        raise typer.Exit(FAULTS)


@contextmanager
def _written(path: Path | None) -> "Iterator[Callable[[Input, Fault], object]]":
    """What writes faults as they are found; without a file, nowhere."""
    try:
        file = path.open("w", encoding="utf-8") if path else nullcontext()
    except OSError as fault:
        raise OutcropError(f"--faults {path}: {fault.strerror}") from fault
    with file as out:
        if out is None:
            yield lambda _given, _fault: None
        else:
            yield lambda given, fault: out.write(
                json.dumps({"file": given.uri, **asdict(fault)}, ensure_ascii=False) + "\n"
            )
