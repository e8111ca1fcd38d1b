"""Every setting, with what it means under it. Read by the commands and app only; everybody else gets plain arguments.

A setting comes from, in this order: the command line, the environment (OUTCROP_ and its name), `outcrop.toml` in the
working directory, the default here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from outcrop.errors import OutcropError

SETTINGS_FILE = "outcrop.toml"
PREFIX = "OUTCROP_"


class Settings(BaseSettings):
    """What a server is told at its start."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, toml_file=SETTINGS_FILE)

    data: Path = Path("outcrop-data")
    """Directory of everything the server keeps: database, credentials, buckets, models, work, logs."""

    host: str = "127.0.0.1"
    """Address to listen on. Requests are signed but not encrypted: put TLS in front of any other address."""

    port: Annotated[int, Field(ge=0, le=65535)] = 4580
    """Port to listen on; 0 lets the kernel choose one, and `outcrop env` knows which."""

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]{1,2}$")] = "us-east-1"
    """Region that `outcrop env` exports and the first role's buckets live in; every region is served."""

    account: Annotated[str, Field(pattern=r"^\d{12}$")] = "123456789012"
    """Account id in every ARN; the default is the one of the documents' examples."""

    database: str | None = None
    """SQLAlchemy URL of the database; none means SQLite in the data directory. PostgreSQL is the other one that is
    known: postgresql+psycopg://user:password@host/name, with the extra `postgresql` installed."""

    catalog: Path | None = None
    """TOML file with models, quotas, hyperparameters of your own, laid over ours: docs/reference/models.md shows how.
    A relative path is read from the working directory."""

    advised_minima: Literal["advise", "enforce"] = "advise"
    """The guide's minima that AWS does not enforce (1,000 examples, 100,000 tokens): told in the report, or a fault."""

    s3_endpoint: str | None = None
    """Where training children read and write s3:// URIs; none means this server's own S3."""

    request_threads: Annotated[int, Field(ge=1)] = 64
    """Operations that may run at the same time; streams do not hold a thread."""

    training_jobs: Annotated[int, Field(ge=1)] = 1
    """Jobs trained at the same time; the others wait in their order."""

    training_attempts: Annotated[int, Field(ge=1)] = 3
    """Starts of a job's training process without progress between them, before the job fails for it."""

    training_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of a training child; 0 means one a core."""

    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest training time that a crash may cost."""

    engine_threads: Annotated[int, Field(ge=0)] = 0
    """Threads of an engine process; 0 means one a core."""

    stream_interval_ms: Annotated[float, Field(ge=0)] = 20.0
    """How long the pieces of a streamed answer are gathered before they are sent as one event, but for the first and
    the last one, which are never held back. Each event costs this machine as much as a small model's token does. 0: an
    event a token."""

    on_demand_wait_seconds: Annotated[float, Field(ge=0)] = 50.0
    """How long a call waits for its model to load; boto3 itself waits 60 s for an answer."""

    on_demand_keep_seconds: Annotated[float, Field(ge=0)] = 900.0
    """How long a model without provisioned throughput (a base, a deployment) stays loaded after its last call."""

    engine_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """Gigabytes of memory that all engines together may take: for a provisioned model that needs room, those which were
    not asked for the longest time end, but never a provisioned one. None: four fifths of the machine's memory or of its
    control group's, and no bound where there is a GPU, whose memory you set here yourself."""

    deployable_models: Literal["all", "as-aws"] = "all"
    """Whose custom models may be deployed on demand: every base's, or only those of the bases that AWS names."""

    deployments_in_progress: Annotated[int, Field(ge=1)] = 10
    """Custom model deployments that may be Creating at the same time (one account on AWS had a quota of 2)."""

    metrics: Literal["loopback", "everyone", "nobody"] = "loopback"
    """Who may read /metrics without a signature: callers on this machine, everyone who reaches the port, or nobody. It
    names models and tells how much they are used; behind a proxy on this machine every caller is on this machine."""

    model_units: Annotated[int, Field(ge=1)] = 10
    """Model units that may be provisioned in all (AWS's quota L-BE77399C is 0 until one asks)."""

    unit_capacity: Literal["trusted", "measured"] = "trusted"
    """Whether units are promised as asked, or only as far as this machine keeps them: an engine is measured once, when
    it first serves a provisioned model, and more than that is refused with the figures. Before you choose `measured`,
    say in a catalogue of your own what a unit is (tokens_per_minute_per_unit): AWS publishes no figure, and ours is
    more than a small machine does."""

    strict_stop_sequences: bool = False
    """Titan takes only runs of | and `User:` as stop sequences on AWS; true refuses others here too."""

    machine_cost_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What an hour of this machine costs you, in dollars: `outcrop plan` sets it beside AWS's price. None: nothing."""

    log_level: str = "info"
    """debug, info, warning or error."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line, environment, file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def check_names(names: Iterable[str]) -> None:
    """Raise OutcropError for a variable OUTCROP_… that is no setting: misspelt, it would be ignored in silence."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    for name in names:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            raise OutcropError(f"{name} is no setting; there are {', '.join(sorted(known))}")
