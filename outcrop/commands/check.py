"""outcrop check: a dataset against a model's format and quotas, before anything is paid for or started."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from outcrop.commands.dataset import FAULTS, AsJson, File, Validation, brought, usage, watched
from outcrop.commands.options import Data, settings_from
from outcrop.commands.start import Model, Type, find_kind, find_start, known_models
from outcrop.errors import OutcropError
from outcrop.terminal import harmless_json

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
        typer.Option(
            "--batch-size", min=1, metavar="N", help="The job's batchSize: quotas of some models depend on it."
        ),
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option("--faults", metavar="FILE", help="Write every fault to this file, one JSON object a line."),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Check a dataset: every fault with line and column, quotas, lengths, duplicates, leakage.

    Ends with status 0 for a dataset that a job would take, 1 for one with faults, 2 where it could not be checked.
    """
    from outcrop.catalog.catalog import Catalog
    from outcrop.catalog.hyperparameters import echo, plain_numbers
    from outcrop.commands.report_view import show_survey
    from outcrop.estimate.proposal import Proposal, check_document

    with usage():
        settings = settings_from(data=data)
        catalog = Catalog.load(settings.catalog)
        with known_models(settings) as models:
            start = find_start(catalog, models, model, settings.region)
        row = start.row
        kind = find_kind(row, type)
        way = row.customizations[kind]
        # Only this one: check has no --hyper, so a row's other required values cannot be asked for here.
        rules = {name: rule for name, rule in way.hyperparameters.items() if name == "batchSize"}
        given = {} if batch_size is None else {"batchSize": str(batch_size)}
        echoed = echo(row.long_id, rules, given)
        batch = int(plain_numbers(rules, echoed).get("batchSize", "1"))
        limits = catalog.limits(row, batch, kind, enforce_advice=settings.advised_minima == "enforce")
        with brought(file, validation or (), Console(stderr=True)) as (inputs, _), _written(faults, inputs) as write:
            checked = watched(inputs, way.format, limits, write)
    if as_json:
        asked = Proposal(row.long_id, row.name, start.arn, kind, way.format, echoed)
        print(harmless_json(json.dumps(check_document(asked, checked), ensure_ascii=False, indent=2)))
    else:
        show_survey(Console(highlight=False), checked, row.long_id, way.format)
    if not checked.passed:
        raise typer.Exit(FAULTS)


@contextmanager
def _written(path: Path | None, inputs: "Sequence[Input]") -> "Iterator[Callable[[Input, Fault], object]]":
    """What writes faults as they are found; without a file, nowhere."""
    if path is not None and path.exists() and any(path.samefile(each.path) for each in inputs):
        raise OutcropError(f"--faults {path}: this is a file of the dataset, which would be lost; name another")
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
