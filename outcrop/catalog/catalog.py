"""The catalogue: which foundation models there are, what they take, and which weights stand behind them.

Loads and checks models.toml and answers questions about its rows. Knows no store, no wire and no job; whoever asks
brings the id, the weights' name or the hyperparameters.
"""

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol, cast

from outcrop.catalog.hyperparameters import echo, own, refuse_default
from outcrop.catalog.rows import Customization, FoundationModel, Method, WeightsRow, decode
from outcrop.errors import OutcropError
from outcrop.records import Arn, Limits
from outcrop.sources.shelf import Shelf

MODELS: Final = Path(__file__).with_name("models.toml")
BASES: Final = Path(__file__).parent.parent / "bases"
OTHER: Final = "other"
"""Name of the weights row that stands for every folder without one of its own."""


class WeightsChoice(Protocol):
    """Whoever remembers which weights a person chose for a foundation model."""

    def weights_of(self, model_id: str) -> str | None:
        """The name chosen for this long id, or None."""
        ...


def effective_weights(row: FoundationModel, choices: WeightsChoice) -> str:
    """Name of the weights that really run for a model: the chosen ones, or the row's own."""
    return choices.weights_of(row.long_id) or row.weights


class Catalog:
    """All rows of one models.toml; built by `load`."""

    def __init__(
        self,
        rows: tuple[FoundationModel, ...],
        weights: Mapping[str, WeightsRow],
        bases: Path,
        fetched: Path | None = None,
    ) -> None:
        """bases: the folder of the bundled weights; fetched: the data directory's folder of fetched ones.

        Raises ValueError that names row and field.
        """
        if OTHER not in weights:
            raise ValueError(f"there is no [weights.{OTHER}]")
        for row in rows:
            _check(row)
        self.rows: Final = rows
        self.weights: Final = weights
        self.bases: Final = bases
        self.fetched: Final = fetched
        self._by_id: Final = _by_id(rows)

    @classmethod
    def load(cls, models: Path = MODELS, bases: Path = BASES, *, fetched: Path | None = None) -> "Catalog":
        """Read and check a models.toml; raises OutcropError that names file, row and field."""
        try:
            document = tomllib.loads(models.read_text("utf-8"))
            rows = tuple(_models(document.pop("models", {})))
            weights = dict(_weights(document.pop("weights", {})))
            if document:
                raise ValueError(f"unknown table [{next(iter(document))}]; there are models and weights")
            return cls(rows, weights, bases, fetched)
        except (OSError, ValueError) as fault:
            raise OutcropError(f"cannot read the catalogue {models}: {fault}") from fault

    def find(self, identifier: str) -> FoundationModel | None:
        """The row of a short id, a long id, a context variant, or a foundation model's ARN (of any region)."""
        if identifier.startswith("arn:"):
            try:
                arn = Arn.parse(identifier)
            except ValueError:
                return None
            kind, _, identifier = arn.resource.partition("/")
            if arn.service != "bedrock" or arn.account or kind != "foundation-model":
                return None
        return self._by_id.get(identifier)

    def weights_folder(self, name: str) -> Path:
        """Folder of weights by the name that was kept for them; raises OutcropError that says what is missing."""
        return Shelf(self.bases, self.fetched).folder(name)

    def hyperparameters(
        self, row: FoundationModel, customization: Customization, given: Mapping[str, str]
    ) -> dict[str, str]:
        """What was given, as typed, with the row's defaults filled in.

        Raises ValidationException that names every wrong value, its member and its range.
        """
        return echo(row.long_id, row.customizations[customization].hyperparameters, given)

    def limits(self, row: FoundationModel, batch_size: int) -> Limits:
        """Quotas of one dataset for this model at this batch size."""
        data = row.dataset
        fitting = [quota for quota in data.tokens if batch_size <= quota.up_to_batch]
        quota = fitting[0] if fitting else data.tokens[-1] if data.tokens else None
        return Limits(
            max_input_tokens=quota.input if quota else None,
            max_output_tokens=quota.output if quota else None,
            max_total_tokens=quota.total if quota else None,
            characters_per_token=data.characters_per_token,
            min_records=data.min_records,
            max_records=data.max_records,
            max_training_bytes=data.max_training_bytes,
            max_validation_bytes=data.max_validation_bytes,
        )

    def effective_learning_rate(
        self,
        row: FoundationModel,
        method: Method,
        asked: float,
        weights: str | None = None,
        customization: Customization = "FINE_TUNING",
    ) -> tuple[float, str | None]:
        """The rate that really runs for a rate on AWS's scale, and a warning when it had to be capped.

        A rate is read relative to the row's default: the default lands on the rate that suits the weights (those named,
        else the row's own) and the method.
        """
        name = weights or row.weights
        kind = self.weights.get(name, self.weights[OTHER])
        way = row.customizations[customization]
        default = float(way.hyperparameters[way.rate].default or 1.0)
        rate, ceiling = asked / default * kind.learning_rate[method], kind.learning_rate_ceiling[method]
        if rate <= ceiling:
            return rate, None
        return ceiling, (
            f"{way.rate} {asked:g} means {rate:.3g} for {method} on {name}, where training diverges: "
            f"it runs at the ceiling, {ceiling:g}"
        )


def _models(tables: Mapping[str, Mapping[str, object]]) -> Iterator[FoundationModel]:
    for model_id, table in tables.items():
        yield cast(FoundationModel, decode("model", model_id, {"id": model_id, **table}, FoundationModel))


def _weights(tables: Mapping[str, object]) -> Iterator[tuple[str, WeightsRow]]:
    for name, table in tables.items():
        yield name, cast(WeightsRow, decode("weights", name, table, WeightsRow))


def _by_id(rows: tuple[FoundationModel, ...]) -> dict[str, FoundationModel]:
    found: dict[str, FoundationModel] = {}
    for row in rows:
        for model_id in row.ids:
            if model_id in found:
                raise ValueError(f"model {row.id}: the id {model_id} is taken by {found[model_id].id}")
            found[model_id] = row
    return found


def _check(row: FoundationModel) -> None:
    """What the types cannot say: ids that must agree, and defaults that must keep their own rules."""
    if row.long_id not in row.provisioned_ids:
        raise ValueError(f"model {row.id}: long_id {row.long_id} is not among provisioned_ids")
    if not row.on_demand and row.id not in row.provisioned_ids:
        raise ValueError(f"model {row.id}: the id can be invoked neither on demand nor provisioned")
    batches = [quota.up_to_batch for quota in row.dataset.tokens]
    if batches != sorted(set(batches)):
        raise ValueError(f"model {row.id}: dataset.tokens: up_to_batch must ascend")
    for kind, way in row.customizations.items():
        place = f"model {row.id}: customizations.{kind}"
        if way.rate not in way.hyperparameters:
            raise ValueError(f"{place}: rate names {way.rate}, which is no hyperparameter of it")
        for name, parameter in way.hyperparameters.items():
            if name in own():
                raise ValueError(f"{place}.hyperparameters.{name}: the name is taken by our own hyperparameters")
            if reason := refuse_default(name, parameter):
                raise ValueError(f"{place}.hyperparameters.{name}: {reason}")
