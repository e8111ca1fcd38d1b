"""The columns of a catalogue row, typed: what is known of one foundation model, as data.

Knows nothing of files, stores or wires. A new model is a new row in models.toml: behaviour follows these columns and
never a model's name.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

Method = Literal["lora", "full"]
Customization = Literal["FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION", "REINFORCEMENT_FINE_TUNING"]
Modality = Literal["TEXT", "IMAGE", "EMBEDDING"]
Inference = Literal["ON_DEMAND", "PROVISIONED"]
Positive = Annotated[int, Meta(ge=1)]
Price = Annotated[float, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]

ON_DEMAND: Final[tuple[Inference, ...]] = ("ON_DEMAND",)
PROVISIONED: Final[tuple[Inference, ...]] = ("PROVISIONED",)


class Parameter(Struct, frozen=True, forbid_unknown_fields=True):
    """One hyperparameter: its type and range; values travel as strings."""

    type: Literal["int", "float", "word"]
    min: float | None = None
    max: float | None = None
    default: str | None = None
    """As AWS prints it (Java's way for floats, 1.0E-5); None: nothing is filled in."""
    required: bool = False
    """Must be given: there is no default."""
    words: tuple[str, ...] = ()
    """Words taken besides numbers, in any letter case (auto, Auto); for the type word the only values, as written."""


class CustomizationRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One way in which a model can be customized."""

    format: str
    """Of its dataset's lines: prompt-completion, …"""
    hyperparameters: dict[str, Parameter]
    rate: str = "learningRate"
    """The hyperparameter that carries the learning rate; its default lands on the weights' own good rate."""


class Quota(Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens that one record may have, up to a batch size; None where AWS names no bound."""

    up_to_batch: Positive
    input: Positive | None = None
    output: Positive | None = None
    total: Positive | None = None


class Dataset(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the datasets that train this model."""

    tokens: tuple[Quota, ...] = ()
    """In ascending order of batch size; a larger batch than the last one's is held to the last."""
    characters_per_token: Positive = 6
    min_records: Positive | None = None
    max_records: Positive | None = None
    max_training_bytes: Positive | None = None
    max_validation_bytes: Positive | None = None


class InferenceLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one inference request, where they differ between models of one body family."""

    max_tokens: Positive
    """Largest number of tokens that a request may ask for."""


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """US list prices in dollars; None where no reliable source names one."""

    training_per_1k_tokens: Price | None = None
    storage_per_month: Price | None = None
    unit_hour: Price | None = None
    """One model unit of provisioned throughput for an hour, without commitment."""


class FoundationModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One foundation model: its ids, what Bedrock says of it, and what stands behind it here."""

    id: str
    """The id that is invoked on demand."""
    long_id: str
    """The id with its context variant: what is customized, and what stands in the ARNs of its jobs and models."""
    name: str
    provider: str
    weights: str
    """bundled:<name> or an absolute folder; `outcrop models use` overrides it."""
    body: str
    """Family of its request and response bodies."""
    inference: InferenceLimits
    tokens_per_minute_per_unit: Positive
    """What one model unit of provisioned throughput admits."""
    provisioned_ids: tuple[str, ...]
    """Ids that throughput can be provisioned for; the long id is one of them."""
    customizations: dict[Customization, CustomizationRow] = {}
    dataset: Dataset = Dataset()
    prices: Prices = Prices()
    input_modalities: tuple[Modality, ...] = ("TEXT",)
    output_modalities: tuple[Modality, ...] = ("TEXT",)
    streaming: bool = True
    on_demand: bool = True
    lifecycle: Literal["ACTIVE", "LEGACY"] = "ACTIVE"
    regions: tuple[str, ...] = ()
    """Where AWS offers its customization: told to people, never enforced. Every region is served here."""
    converse: frozenset[Literal["chat", "stream", "system", "documents", "vision", "tools", "streamed_tools"]] = (
        frozenset()
    )
    """What Converse can do with it."""

    @property
    def ids(self) -> tuple[str, ...]:
        """Every id it answers to, the provisioned ones first, as AWS lists them."""
        return (*self.provisioned_ids, self.id) if self.id not in self.provisioned_ids else self.provisioned_ids

    def inference_types(self, model_id: str) -> tuple[Inference, ...]:
        """How one of its ids may be invoked: a context variant only through provisioned throughput."""
        if model_id not in self.provisioned_ids:
            return ON_DEMAND
        return (*ON_DEMAND, *PROVISIONED) if self.on_demand and model_id == self.id else PROVISIONED

    def customizations_of(self, model_id: str) -> tuple[Customization, ...]:
        """What AWS lists as customizable is the long id alone."""
        return tuple(self.customizations) if model_id == self.long_id else ()


class WeightsRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Learning rates that suit one kind of weights, by method.

    The scale belongs to what really runs, not to the Bedrock id in front of it: a caller's rate is read relative to
    its model's default, and that default lands on `learning_rate`.
    """

    learning_rate: dict[Method, Rate]
    learning_rate_ceiling: dict[Method, Rate]


def decode(kind: str, name: str, document: object, row_type: type[Struct]) -> Struct:
    """Turn one TOML table into a row; raises ValueError that names row, field and reason."""
    try:
        return msgspec.convert(document, row_type)
    except msgspec.ValidationError as fault:
        raise ValueError(f"{kind} {name}: {fault}") from fault
