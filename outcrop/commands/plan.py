"""outcrop plan: what a customization job will do, take and cost on this machine, before anything runs.

Asks the same functions as the job itself: its hyperparameters, its spec, its shards, its training loop for a few steps.
"""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from outcrop.commands.dataset import FAULTS, AsJson, File, Validation, brought, usage, watched
from outcrop.commands.options import FLAG, Data, settings_from, spin_briefly
from outcrop.commands.start import Model, Models, Start, Type, find_kind, find_start, known_models
from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.records import Job, TrainSpec
from outcrop.settings import Settings
from outcrop.terminal import harmless_json

if TYPE_CHECKING:
    from outcrop.catalog.catalog import Catalog
    from outcrop.catalog.rows import Customization, Prices
    from outcrop.estimate.estimate import Terms
    from outcrop.estimate.survey import Input

EXACT_BYTES = 64 << 20
"""Of a larger file a sample is tokenised; --exact tokenises all of it."""


def plan(
    file: File,
    *,
    model: Model = None,
    type: Type = "FINE_TUNING",
    validation: Validation = None,
    hyper: Annotated[
        list[str] | None,
        typer.Option(
            "--hyper",
            metavar="NAME=VALUE",
            help="A hyperparameter as in the job, such as epochCount=3; may be given several times.",
        ),
    ] = None,
    calibration: Annotated[
        bool,
        typer.Option(
            "--calibration/--no-calibration",
            metavar=FLAG,
            help="Take a few real training steps to know the time and the memory.",
        ),
    ] = True,
    exact: Annotated[
        bool,
        typer.Option("--exact", metavar=FLAG, help="Tokenise every line of a big file instead of a sample of 64 MB."),
    ] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Say what a job will do, take and cost before it runs: steps, tokens, time, memory, disk, price.

    Ends with status 0 for a plan, 1 for a dataset that a job would refuse, 2 where nothing could be said.
    """
    from outcrop.catalog.catalog import Catalog
    from outcrop.commands.plan_view import show_plan, steps_shown
    from outcrop.commands.report_view import show_survey
    from outcrop.estimate.estimate import estimate
    from outcrop.estimate.proposal import Proposal, document

    told = Console(stderr=True, highlight=False)
    with usage():
        settings = settings_from(data=data)
        catalog = Catalog.load(settings.catalog, fetched=DataDirectory(settings.data.absolute()).weights)
        with brought(file, validation or (), told) as (inputs, scratch):
            with known_models(settings) as models:
                start = find_start(catalog, models, model, settings.region)
                row, kind = start.row, find_kind(start.row, type)
                given = catalog.hyperparameters(row, kind, _pairs(hyper or ()))
                spec, warning = _spec(settings, catalog, models, start=start, kind=kind, given=given, inputs=inputs)
            warnings = (warning,) if warning else ()
            job = Proposal(row.long_id, row.name, start.arn, kind, spec.format, given, warnings)
            checked = watched(inputs, spec.format, spec.limits)
            found = None
            if checked.passed:
                terms = _terms(settings, scratch, prices=row.prices, exact=exact, calibration=calibration)
                with steps_shown(told) as progress:
                    found = estimate(spec, checked, terms, progress)
    passed = found is not None and found.fits
    if as_json:
        print(harmless_json(json.dumps(document(job, checked, found), ensure_ascii=False, indent=2)))
    elif found is None:
        show_survey(Console(highlight=False), checked, row.long_id, spec.format)
    else:
        show_plan(Console(highlight=False), job, checked, found)
    if not passed:
        raise typer.Exit(FAULTS)


def _pairs(hyper: Sequence[str]) -> dict[str, str]:
    """Name and value of every --hyper; raises OutcropError for one without a name or a sign between."""
    found: dict[str, str] = {}
    for pair in hyper:
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise OutcropError(f"--hyper {pair}: give NAME=VALUE, as epochCount=3")
        if name in found:
            raise OutcropError(f"--hyper {name} is given twice: {found[name]} and {value}")
        found[name] = value
    return found


def _spec(
    settings: Settings,
    catalog: "Catalog",
    models: Models,
    *,
    start: Start,
    kind: "Customization",
    given: dict[str, str],
    inputs: "Sequence[Input]",
) -> tuple[TrainSpec, str | None]:
    """What the child of such a job would be told: made by the function that makes it of a real one."""
    from outcrop.jobs.spec import specifier

    now, row = datetime.now(UTC), start.row
    request = {
        "baseModelIdentifier": start.arn,
        "customizationType": kind,
        "hyperParameters": given,
        "trainingDataConfig": {"s3Uri": inputs[0].uri},
        "validationDataConfig": {"validators": [{"s3Uri": each.uri} for each in inputs[1:]]},
        "outputDataConfig": {"s3Uri": "s3://nowhere/"},
        "customModelName": "plan",
    }
    job = Job(
        arn=f"arn:aws:bedrock:{settings.region}:{settings.account}:model-customization-job/{row.long_id}/plan",
        id="plan",
        name="plan",
        region=settings.region,
        status="InProgress",
        base_model_id=row.long_id,
        request=request,
        created=now,
        modified=now,
    )
    specify = specifier(
        catalog,
        models,
        DataDirectory(settings.data.absolute()).models,
        settings.checkpoint_seconds,
        enforce_advice=settings.advised_minima == "enforce",
    )
    return specify(job)


def _terms(settings: Settings, scratch: Path, *, prices: "Prices", exact: bool, calibration: bool) -> "Terms":
    """What an estimate goes by on this machine; what a calibration finds is kept where there is a data directory."""
    from outcrop.estimate.estimate import Terms

    directory = DataDirectory(settings.data.absolute())
    there = directory.root.exists()
    return Terms(
        scratch=scratch,
        place=directory.root if there else Path.cwd(),
        environment=_environment(settings),
        prices=prices,
        kept=directory.calibrations if there else None,
        budget=sys.maxsize if exact else EXACT_BYTES,
        calibrated=calibration,
        machine_hour=settings.machine_cost_per_hour,
    )


def _environment(settings: Settings) -> dict[str, str]:
    """The variables of the child that takes the steps: those that a job's child would have."""
    spin_briefly()
    threads = {"OMP_NUM_THREADS": str(settings.training_threads)} if settings.training_threads else {}
    return {**os.environ, **threads}
