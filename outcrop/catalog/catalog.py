"""The catalogue: which foundation models there are, what they take, and which weights stand behind them.

Answers questions about the rows that `tables` read. Knows no store, no wire and no job; whoever asks brings the id,
the weights' name or the hyperparameters.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from outcrop.catalog.hyperparameters import echo, plain_numbers
from outcrop.catalog.rows import Customization, FoundationModel, Method, Quotas, TokenQuota, WeightsRow
from outcrop.catalog.tables import read, unreadable
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
    """All rows of the catalogue; built by `load`."""

    def __init__(
        self,
        rows: tuple[FoundationModel, ...],
        weights: Mapping[str, WeightsRow],
        bases: Path,
        fetched: Path | None = None,
    ) -> None:
        """bases: the folder of the bundled weights; fetched: the data directory's folder of fetched ones.

        Raises ValueError that names the row whose id is taken.
        """
        if OTHER not in weights:
            raise ValueError(f"there is no [weights.{OTHER}]")
        self.rows: Final = rows
        self.weights: Final = weights
        self.bases: Final = bases
        self.fetched: Final = fetched
        self._by_id: Final = _by_id(rows)

    @classmethod
    def load(
        cls, extra: Path | None = None, *, models: Path = MODELS, bases: Path = BASES, fetched: Path | None = None
    ) -> "Catalog":
        """Read and check our catalogue and the user's own file over it.

        Raises OutcropError that names file, row, field and what is allowed.
        """
        tables = read(models, extra)
        try:
            return cls(tables.rows, tables.weights, bases, fetched)
        except ValueError as fault:
            raise unreadable(extra or models, fault) from fault

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

    def plain_hyperparameters(
        self, row: FoundationModel, customization: Customization, echoed: Mapping[str, str]
    ) -> dict[str, str]:
        """What `hyperparameters` gave, with each `auto` as the number that it stands for."""
        return plain_numbers(row.customizations[customization].hyperparameters, echoed)

    def limits(
        self,
        row: FoundationModel,
        batch_size: int,
        customization: Customization = "FINE_TUNING",
        *,
        enforce_advice: bool = False,
    ) -> Limits:
        """Quotas of one dataset for this model at this batch size.

        enforce_advice: the minima that the customization guide only advises fail a dataset too.
        """
        quotas = row.customizations[customization].quotas
        tokens = _token_quota(quotas, batch_size)
        return Limits(
            max_input_tokens=tokens.input,
            max_output_tokens=tokens.output,
            max_total_tokens=tokens.total,
            characters_per_token=quotas.characters_per_token,
            min_records=quotas.min_records,
            max_records=quotas.max_records,
            min_validation_records=quotas.min_validation_records,
            max_validation_records=quotas.max_validation_records,
            min_sum_records=quotas.min_sum_records,
            max_sum_records=quotas.max_sum_records,
            max_training_bytes=quotas.max_training_bytes,
            max_validation_bytes=quotas.max_validation_bytes,
            reserved=quotas.reserved,
            advised_records=quotas.advised_records,
            advised_tokens=quotas.advised_tokens,
            enforce_advice=enforce_advice,
        )

    def effective_learning_rate(
        self,
        row: FoundationModel,
        method: Method,
        asked: float,
        weights: str | None = None,
        customization: Customization = "FINE_TUNING",
    ) -> tuple[float, str | None]:
        """The rate on the weights' scale for a rate on AWS's, and a warning when it had to be capped.

        A rate is read relative to the row's default: the default lands on the rate that suits the weights (those named,
        else the row's own) and the method.
        """
        name = weights or row.weights
        kind = self.rates_of(name)
        way = row.customizations[customization]
        default = float(way.hyperparameters[way.rate].default or 1.0)
        rate, ceiling = asked / default * kind.learning_rate[method], kind.learning_rate_ceiling[method]
        if rate <= ceiling:
            return rate, None
        suited = kind.learning_rate_steps.get(method)
        length = "" if suited is None else f" in runs of {suited:,} steps"
        return ceiling, (
            f"{way.rate} {asked:g} means {rate:.3g} for {method} on {name}{length}, where training diverges: "
            f"it is lowered to the ceiling, {ceiling:g}"
        )

    def rates_of(self, weights: str) -> WeightsRow:
        """The learning rates of weights by their name."""
        return self.weights.get(weights) or self.weights.get(unpinned(weights)) or self.weights[OTHER]


def unpinned(name: str) -> str:
    """The name of fetched weights without what pins it: rates belong to a model, not to one of its revisions."""
    return re.sub(r"^(hf:[^@]*)@.*$|^(s3://[^#]*)#[0-9a-f]{16}$", r"\1\2", name)


def _token_quota(quotas: Quotas, batch_size: int) -> TokenQuota:
    """The quota of a batch size; a larger batch than the table's last is held to the last."""
    for quota in quotas.tokens:
        if quota.up_to_batch is None or batch_size <= quota.up_to_batch:
            return quota
    return quotas.tokens[-1] if quotas.tokens else TokenQuota()


def _by_id(rows: tuple[FoundationModel, ...]) -> dict[str, FoundationModel]:
    found: dict[str, FoundationModel] = {}
    for row in rows:
        for model_id in row.ids:
            if model_id in found:
                raise ValueError(f"model {row.id}: the id {model_id} is taken by {found[model_id].id}")
            found[model_id] = row
    return found
