"""The columns of a catalogue row, typed: what is known of one foundation model, as data.

Knows nothing of files, stores or wires. A new model is a new table of TOML: behaviour follows these columns and never a
model's name.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

Method = Literal["lora", "full"]
Customization = Literal["FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION", "REINFORCEMENT_FINE_TUNING"]
Modality = Literal["TEXT", "IMAGE", "EMBEDDING"]
Inference = Literal["ON_DEMAND", "PROVISIONED"]
Format = Literal["prompt-completion", "text", "messages", "conversation"]
Body = Literal["titan-text", "cohere-command", "llama", "claude-messages", "nova"]
Feature = Literal["chat", "stream", "system", "documents", "vision", "tools", "streamed_tools"]
Positive = Annotated[int, Meta(ge=1)]
Price = Annotated[float, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]
Name = Annotated[str, Meta(min_length=1)]
ModelId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,63}[.][a-z0-9-]{1,63}(:[a-z0-9-]{1,63}){0,2}$")]
"""As the ARNs of jobs and custom models can carry it (patterns of the service model)."""

ON_DEMAND: Final[tuple[Inference, ...]] = ("ON_DEMAND",)
PROVISIONED: Final[tuple[Inference, ...]] = ("PROVISIONED",)


class Parameter(Struct, frozen=True, forbid_unknown_fields=True):
    """One hyperparameter: its type and range; values travel as strings."""

    type: Literal["int", "float", "word"]
    """Values travel as strings; word: one of `words`."""
    min: float | None = None
    """Least value; a number has both."""
    max: float | None = None
    """Largest value."""
    default: str | None = None
    """As AWS prints it (Java's way for floats, 1.0E-5); none: nothing is filled in."""
    required: bool = False
    """Must be given: there is no default."""
    words: tuple[str, ...] = ()
    """Words taken besides numbers, in any letter case (auto, Auto); for the type word the only values, as written."""
    auto: str | None = None
    """The number that a word besides numbers stands for when the job runs; none: the default."""


class TokenQuota(Struct, frozen=True, forbid_unknown_fields=True):
    """Tokens that one record may have, up to a batch size; None where AWS names no bound."""

    up_to_batch: Positive | None = None
    """The largest batch size that it holds for; none: any."""
    input: Positive | None = None
    """All that comes before the answers."""
    output: Positive | None = None
    """The answers."""
    total: Positive | None = None
    """Both together."""


class Quotas(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the datasets of one kind of customization; None where AWS names none."""

    tokens: tuple[TokenQuota, ...] = ()
    """In ascending order of batch size; a larger batch than the last one's is held to the last."""
    characters_per_token: Positive = 6
    """How AWS counts: 6 for most models, 3 for Claude."""
    min_records: Positive | None = None
    """Fewest records of the training file."""
    max_records: Positive | None = None
    """Most records of the training file."""
    min_validation_records: Positive | None = None
    """Fewest records of the validation files, where there are any."""
    max_validation_records: Positive | None = None
    """Most records of the validation files."""
    min_sum_records: Positive | None = None
    """Fewest records of training and validation files together."""
    max_sum_records: Positive | None = None
    """Most records of training and validation files together."""
    max_training_bytes: Positive | None = None
    """Largest training file."""
    max_validation_bytes: Positive | None = None
    """Largest validation file."""
    reserved: tuple[Name, ...] = ()
    """Words that no text of a record may contain."""
    advised_records: Positive | None = None
    """Fewest training records that the customization guide advises: told, enforced only where a setting says so."""
    advised_tokens: Positive | None = None
    """As advised_records, in tokens as AWS counts them."""


class CustomizationRow(Struct, frozen=True, forbid_unknown_fields=True):
    """One way in which a model can be customized."""

    format: Format
    """Of its datasets' lines."""
    hyperparameters: dict[str, Parameter]
    """By their names; or the name of a table [hyperparameters.NAME]."""
    quotas: Quotas = Quotas()
    """Or the name of a table [quotas.NAME]."""
    rate: str = "learningRate"
    """The hyperparameter that carries the learning rate; its default lands on the weights' own good rate."""
    beyond_aws: bool = False
    """AWS does not customize this model so; it works here, and Get and ListFoundationModel do not tell of it."""


class InferenceLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of one inference request, where they differ between models of one body family."""

    max_tokens: Positive
    """Largest number of tokens that a request may ask for."""


class Prices(Struct, frozen=True, forbid_unknown_fields=True):
    """US list prices in dollars; None where no reliable source names one."""

    training_per_1k_tokens: Price | None = None
    """A thousand trained tokens: those of the file times epochs."""
    storage_per_month: Price | None = None
    """Keeping one custom model for a month."""
    unit_hour: Price | None = None
    """One model unit of Provisioned Throughput for an hour, without commitment."""
    unit_hour_one_month: Price | None = None
    """As unit_hour, with a commitment of one month."""
    unit_hour_six_months: Price | None = None
    """As unit_hour, with a commitment of six months."""


class FoundationModel(Struct, frozen=True, forbid_unknown_fields=True):
    """One foundation model: its ids, what Bedrock says of it, and what stands behind it here."""

    id: ModelId
    """The id that is invoked on demand: the name of the row's table."""
    long_id: ModelId
    """The id with its context variant: what is customized, and what stands in the ARNs of its jobs and models."""
    name: Name
    """For people: modelName."""
    provider: Name
    """For people: providerName."""
    weights: Name
    """What runs: bundled:text, a folder, or a name that `outcrop models use` has fetched; that command overrides it."""
    body: Body
    """Family of its request and response bodies."""
    inference: InferenceLimits
    """Bounds of one request."""
    tokens_per_minute_per_unit: Positive
    """What one model unit of Provisioned Throughput admits."""
    provisioned_ids: tuple[ModelId, ...]
    """Ids that throughput can be provisioned for; the long id is one of them."""
    customizations: dict[Customization, CustomizationRow]
    """The ways in which it can be customized."""
    engine: str = ""
    """What serves it: a command that starts vLLM, as `vllm serve --dtype bfloat16`; empty: our own engine."""
    prices: Prices = Prices()
    """AWS's list prices, for estimates."""
    input_modalities: tuple[Modality, ...] = ("TEXT",)
    """inputModalities."""
    output_modalities: tuple[Modality, ...] = ("TEXT",)
    """outputModalities."""
    streaming: bool = True
    """responseStreamingSupported."""
    on_demand: bool = True
    """Whether `id` is told to be invoked on demand."""
    deployable: bool = False
    """Whether AWS deploys its custom models on demand. Here all can be, unless a setting holds to AWS's list."""
    lifecycle: Literal["ACTIVE", "LEGACY"] = "ACTIVE"
    """modelLifecycle."""
    regions: tuple[str, ...] = ()
    """Where AWS offers its customization: told to people, never enforced. Every region is served here."""
    converse: frozenset[Feature] = frozenset()
    """What Converse can do with it on AWS; empty: nothing. Without `chat` it answers one message, no conversation."""

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
        """What AWS lists as customizable is the long id alone; what is ours beyond AWS is not listed."""
        if model_id != self.long_id:
            return ()
        return tuple(kind for kind, way in self.customizations.items() if not way.beyond_aws)


class WeightsRow(Struct, frozen=True, forbid_unknown_fields=True):
    """Learning rates that suit one kind of weights, by method.

    The scale belongs to what really runs, not to the Bedrock id in front of it: a caller's rate is read relative to
    its model's default, and that default lands on `learning_rate`.
    """

    learning_rate: dict[Method, Rate]
    """Where a model's default rate lands, by method: lora, full."""
    learning_rate_ceiling: dict[Method, Rate]
    """By method: a higher rate is lowered to it, and the job's log says so."""
    learning_rate_steps: dict[Method, Positive] = {}
    """By method: the optimizer steps of a run that both rates suit. Longer runs take less, by the square root, and
    shorter ones more, but at most 5/3 of it; none: every run takes the same."""
