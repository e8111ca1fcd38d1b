"""The nouns that cross rooms and process walls: plain frozen values without behaviour beyond their own spelling.

They know nothing of databases, wires or torch. What is stored of a resource is its validated request document (a
mapping with AWS's own member names) plus the few fields that are asked for by name; both stand here side by side.
"""

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"

CUSTOM_MODEL: Final = "custom-model"
DEPLOYMENT: Final = "custom-model-deployment"
PROVISIONED_MODEL: Final = "provisioned-model"
"""Kinds of bedrock's resources, as their ARNs name them."""

LONGEST_FAILURE: Final = 2048
"""Characters of failureMessage (AWS's shapes)."""
VALIDATION_FILES: Final = 10
"""Most validation files of a job (CreateModelCustomizationJob's validationDataConfig.validators)."""


def new_id() -> str:
    """Return a fresh resource id: 12 of [a-z0-9], as at the end of AWS's ARNs."""
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(12))


@dataclass(frozen=True, slots=True)
class Arn:
    """An Amazon Resource Name: arn:partition:service:region:account:resource."""

    service: str
    region: str
    account: str
    resource: str
    partition: str = "aws"

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"

    @classmethod
    def parse(cls, text: str) -> "Arn":
        """Read an ARN; raises ValueError for anything else."""
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn":
            raise ValueError(f"not an ARN: {text!r}")
        return cls(partition=parts[1], service=parts[2], region=parts[3], account=parts[4], resource=parts[5])

    @property
    def id(self) -> str:
        """The last segment of the resource: the 12 characters of a job or model, or a role's name."""
        return self.resource.rsplit("/", 1)[-1]

    @property
    def kind(self) -> str:
        """The first segment of the resource: one of the kinds above, of bedrock's."""
        return self.resource.partition("/")[0]


def kind_of(identifier: str) -> str:
    """The kind of the resource that an identifier's ARN is of; empty for names and ids, which are no ARNs."""
    try:
        return Arn.parse(identifier).kind
    except ValueError:
        return ""


def shortened(message: str) -> str:
    """A failure's message within AWS's bound, and without the one character that PostgreSQL keeps in no text."""
    message = message.replace("\0", "\N{REPLACEMENT CHARACTER}")
    return message if len(message) <= LONGEST_FAILURE else message[: LONGEST_FAILURE - 1] + "…"


@dataclass(frozen=True, slots=True)
class Session:
    """What AssumeRole said of a session beyond its role: it may only take rights away, and it carries tags."""

    policies: tuple[str, ...] = ()
    """Policy documents, of which at least one must allow what the role allows."""
    tags: tuple[tuple[str, str], ...] = ()
    transitive: tuple[str, ...] = ()
    """Keys of the tags that go along when this session assumes a further role."""
    source_identity: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the account's user or a role's session."""

    arn: str
    """arn:aws:iam::<account>:user/<name> or arn:aws:sts::<account>:assumed-role/<role>/<session>."""
    account: str
    user_id: str
    """AIDA… of a user; AROA…:<session> of a role's session."""
    role: str | None = None
    """ARN of the role, for a session."""
    admin: bool = False
    """The key of the data directory: may do everything that no policy denies."""
    session: Session | None = None
    """For a role's session."""


@dataclass(frozen=True, slots=True)
class Key:
    """An access key with its secret; temporary ones carry a session token and an end."""

    access_key: str
    secret: str = field(repr=False)
    principal: Principal
    session_token: str | None = field(default=None, repr=False)
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A model customization job: what was asked, and how far it is."""

    arn: str
    id: str
    """The 12 characters at the end of the ARN; also the name of the work directory."""
    name: str
    region: str
    status: str
    base_model_id: str
    """The long id of the foundation model, e.g. amazon.titan-text-express-v1:0:8k."""
    request: Mapping[str, Any]
    """CreateModelCustomizationJob's validated parameters, AWS's names; hyperParameters with defaults filled in."""
    created: datetime
    modified: datetime
    ended: datetime | None = None
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """statusDetails: validationDetails, dataProcessingDetails, trainingDetails; instants as ISO strings."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """trainingMetrics and validationMetrics once the job is Completed, and `tokens`: what was trained."""
    failure: str | None = None
    model_arn: str | None = None
    handle: str | None = None
    """What the executor gave back when it started the child; None while nothing was started."""


@dataclass(frozen=True, slots=True)
class Model:
    """A custom model whose weights lie in the data directory under models/<id>/."""

    arn: str
    id: str
    name: str
    region: str
    status: str
    base_model_id: str
    job_arn: str | None
    document: Mapping[str, Any]
    """GetCustomModel's members that came with the job (hyperParameters, data configs, metrics, customizationType)."""
    method: str
    """lora: models/<id>/ holds a PEFT adapter; full: a whole Hugging Face model."""
    base_weights: str
    """The weights that really ran, as the catalogue or `outcrop models use` named them."""
    created: datetime


@dataclass(frozen=True, slots=True)
class Throughput:
    """Provisioned throughput: model units promised for one model."""

    arn: str
    id: str
    name: str
    region: str
    status: str
    units: int
    desired_units: int
    model_arn: str
    """What serves now: a custom model's ARN or a foundation model's."""
    desired_model_arn: str
    base_model_id: str
    made_for: str
    """The ARN that it was created for. One made for a foundation model stays with it; one made for a custom model may
    go to the base and back."""
    created: datetime
    modified: datetime
    commitment: str | None = None
    commitment_ends: datetime | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """A custom model that is served on demand and paid by the token: nothing is kept ready for it."""

    arn: str
    id: str
    name: str
    region: str
    status: str
    model_arn: str
    """The custom model that answers now (or is to, while the deployment is Creating)."""
    desired_model_arn: str
    """The model of the last update; the same as `model_arn` where there was none, or it went well."""
    created: datetime
    modified: datetime
    description: str | None = None
    update_status: str | None = None
    """Of the last update; None: there was none."""
    failure: str | None = None
    """Why it, or its last update, failed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Quotas of one dataset for one model and batch size; None where AWS names none."""

    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_total_tokens: int | None = None
    characters_per_token: int = 6
    """AWS counts a token as six characters for Titan, Cohere and Llama quotas, as three for Claude (facts 3.1)."""
    min_records: int | None = None
    """Of the training file."""
    max_records: int | None = None
    """Of the training file."""
    min_validation_records: int | None = None
    """Of the validation files together."""
    max_validation_records: int | None = None
    min_sum_records: int | None = None
    """Of training and validation files together, as the next."""
    max_sum_records: int | None = None
    max_training_bytes: int | None = None
    max_validation_bytes: int | None = None
    reserved: tuple[str, ...] = ()
    """Words that no text of a record may contain (Human:, [EOS], …): the model gives them a meaning of its own."""
    advised_records: int | None = None
    """Advice of the guide, not a rule: fewer training records than this are told to the caller."""
    advised_tokens: int | None = None
    """As advised_records, in tokens as AWS counts them."""
    enforce_advice: bool = False
    """True: what the guide only advises fails a dataset."""


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """All that a training child is told: it finds this as spec.json in its directory and knows nothing else.

    Its endpoint and its role's credentials come in the environment as for any AWS client: AWS_ENDPOINT_URL_S3,
    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_DEFAULT_REGION.
    """

    job_arn: str
    job_id: str
    base_model_id: str
    base: str
    """Folder of the base weights, Hugging Face layout."""
    base_name: str
    """The name of those weights for people: bundled:text, a folder, …"""
    training: str
    """s3:// URI of the training file."""
    output: str
    """s3:// URI under which model-customization-job-<id>/ is written."""
    validation: tuple[str, ...] = ()
    format: str = "prompt-completion"
    limits: Limits = Limits()
    method: str = "lora"
    """lora or full."""
    epochs: int = 1
    batch_size: int = 1
    """Examples per optimizer step."""
    learning_rate: float = 1e-3
    """The rate of a run of `rate_steps` steps, after the catalogue's scale and ceiling; `rate_over` gives any run's."""
    warmup_steps: int = 5
    schedule: str = "linear"
    """linear, cosine or constant decay after warm-up."""
    lora_rank: int = 16
    lora_alpha: float = 32.0
    weight_decay: float = 0.0
    clip: float = 1.0
    """Largest norm of the gradient; larger ones are scaled down."""
    seed: int = 0
    max_sequence_length: int | None = None
    """Longest example in the model's own tokens; None: the model's context. Longer ones are refused, never cut."""
    export: bool = False
    """Also deliver the weights under the output URI."""
    checkpoint_seconds: float = 60.0
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    """As echoed to the caller, for lineage."""
    customization: str = "FINE_TUNING"
    """customizationType."""
    model_name: str = ""
    """customModelName, for lineage."""
    parent: str | None = None
    """Folder of the custom model that the job starts from; None: the base alone. A PEFT folder is an adapter on `base`;
    a whole model's folder stands in `base` itself, and then `whole_parent` is true."""
    parent_arn: str | None = None
    whole_parent: bool = False
    """The job starts from a custom model that is a whole model: the result is one too, whatever the method."""
    early_stopping_patience: int | None = None
    """Evaluations without an improvement after which the run ends with its best weights; None: never."""
    early_stopping_threshold: float = 0.0
    """Least improvement of the validation loss that counts."""
    evaluation_share: float | None = None
    """Share of the training file (0..1) that is held out for evaluation; only where no validation file is given."""
    rate_steps: int | None = None
    """Optimizer steps that `learning_rate` suits; None: any number."""


MOST_MORE: Final = 5 / 3
"""Times its rate that a run takes at most for being short: with more, runs of a few steps come apart."""


def rate_over(rate: float, suited: int | None, steps: int) -> float:
    """The highest learning rate of a run of so many optimizer steps, where `rate` suits one of `suited` steps.

    What many small steps add up to at random grows with the square root of their number, so a rate that is good for
    few of them is too much for many (docs/decisions/learning-rates.md). Without `suited` every run takes `rate`.
    """
    return rate if suited is None else rate * min(MOST_MORE, math.sqrt(suited / steps))


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to an engine, whatever dialect it came in: a text as it stands, or the turns of a conversation."""

    text: str = ""
    max_tokens: int = 512
    temperature: float = 1.0
    """0: greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    stop: tuple[str, ...] = ()
    seed: int | None = None
    turns: tuple[Turn, ...] = ()
    """The conversation, its last turn the user's (or an assistant's that is to be continued); then `text` is empty.
    The engine writes it with the chat template of its weights."""
    system: str | None = None
    truncate: Literal["START", "END"] | None = None
    """The end of a too long prompt that may be dropped; None: such a prompt is refused."""
    likelihoods: Literal["GENERATION", "ALL"] | None = None
    """Whose tokens' probabilities are wanted: the answer's, or the prompt's too."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer; the last one has `finish` and the counts."""

    text: str
    finish: str | None = None
    """None while more comes; then stop (end of text), stop_sequence or length."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """So far, where the engine says so before the end."""
    stopped_by: str | None = None
    """The stop sequence that ended the answer."""
    likelihoods: tuple[tuple[str, float], ...] = ()
    """Of a whole answer where they were asked for: each token's text and the natural log of its probability."""
