"""Custom models, the names they hold, and which weights a person chose for a foundation model."""

from typing import Any, Final

from sqlalchemy import JSON, Column, Connection, Row, String, Table, delete, insert, select

from outcrop.records import CUSTOM_MODEL, Arn, Model, kind_of
from outcrop.store.database import Database, Instant, metadata
from outcrop.store.listing import Cursor, Listing, cut, page_of
from outcrop.store.refusals import Gone, InUse
from outcrop.store.tags import TAGS

MODELS: Final = Table(
    "custom_models",
    metadata,
    Column("arn", String, primary_key=True),
    Column("id", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    Column("region", String, nullable=False, index=True),
    Column("status", String, nullable=False),
    Column("base_model_id", String, nullable=False),
    Column("base_arn", String, nullable=False),
    Column("job_arn", String, unique=True),
    Column("document", JSON, nullable=False),
    Column("method", String, nullable=False),
    Column("base_weights", String, nullable=False),
    Column("created", Instant, nullable=False),
)

# A name is held from the job's creation until its model is deleted, or the job ends without one: the primary key
# refuses a second holder on every database, however many clients ask at once.
MODEL_NAMES: Final = Table(
    "custom_model_names",
    metadata,
    Column("region", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("holder", String, nullable=False, index=True),
)

WEIGHTS: Final = Table(
    "chosen_weights",
    metadata,
    Column("model_id", String, primary_key=True),
    Column("weights", String, nullable=False),
)


def model_row(model: Model) -> dict[str, Any]:
    """The row of a model."""
    return {
        "arn": model.arn,
        "id": model.id,
        "name": model.name,
        "region": model.region,
        "status": model.status,
        "base_model_id": model.base_model_id,
        "base_arn": model.document["baseModelArn"],
        "job_arn": model.job_arn,
        "document": dict(model.document),
        "method": model.method,
        "base_weights": model.base_weights,
        "created": model.created,
    }


def _model(row: Row[Any]) -> Model:
    return Model(
        arn=row.arn,
        id=row.id,
        name=row.name,
        region=row.region,
        status=row.status,
        base_model_id=row.base_model_id,
        job_arn=row.job_arn,
        document=row.document,
        method=row.method,
        base_weights=row.base_weights,
        created=row.created,
    )


def name_of(identifier: str) -> str | None:
    """The name in an identifier that is no full ARN: a plain name, or the documents' …:custom-model/<name>."""
    if not identifier.startswith("arn:"):
        return identifier
    try:
        kind, _, rest = Arn.parse(identifier).resource.partition("/")
    except ValueError:
        return None
    return rest if kind == CUSTOM_MODEL and rest and "/" not in rest else None


class ModelStore:
    """Every question and change about custom models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, region: str, identifier: str) -> Model | None:
        """The model of this name, ARN or …:custom-model/<name> in this region."""
        if identifier.startswith("arn:") and f":{region}:" not in identifier:
            return None
        name = name_of(identifier)
        wanted = MODELS.c.arn == identifier if name is None else MODELS.c.name == name
        with self._database.read() as connection:
            row = connection.execute(select(MODELS).where(MODELS.c.region == region, wanted)).first()
        return _model(row) if row else None

    def by_arn(self, arn: str) -> Model | None:
        """The model of this ARN, in whatever region."""
        with self._database.read() as connection:
            row = connection.execute(select(MODELS).where(MODELS.c.arn == arn)).first()
        return _model(row) if row else None

    def named(self, identifier: str) -> list[Model]:
        """The models of this name, id, ARN or …:custom-model/<name>, of all regions, newest first."""
        name = name_of(identifier)
        wanted = MODELS.c.arn == identifier if name is None else (MODELS.c.name == name) | (MODELS.c.id == name)
        with self._database.read() as connection:
            rows = connection.execute(select(MODELS).where(wanted).order_by(MODELS.c.created.desc())).all()
        return [_model(row) for row in rows if not identifier.startswith("arn:") or f":{row.region}:" in identifier]

    def names(self) -> list[str]:
        """Names of all models of all regions, sorted."""
        with self._database.read() as connection:
            return sorted(set(connection.execute(select(MODELS.c.name)).scalars()))

    def page(self, region: str, listing: Listing) -> tuple[list[Model], Cursor | None]:
        """One page of the region's models, and where the next one starts."""
        with self._database.read() as connection:
            rows, following = cut(connection.execute(page_of(MODELS, region, listing)).all(), listing.limit)
        return [_model(row) for row in rows], following

    def ids(self) -> set[str]:
        """Ids of all models of all regions; another folder may be that of a job which is just being completed."""
        with self._database.read() as connection:
            return set(connection.execute(select(MODELS.c.id)).scalars())

    def delete(self, arn: str) -> None:
        """Delete a model, its tags and its hold on the name; raises InUse while something needs it, Gone."""
        with self._database.write() as connection:
            row = connection.execute(select(MODELS).where(MODELS.c.arn == arn)).first()
            if row is None:
                raise Gone(arn)
            _refuse_if_used(connection, arn)
            connection.execute(delete(MODELS).where(MODELS.c.arn == arn))
            connection.execute(
                delete(MODEL_NAMES).where(MODEL_NAMES.c.region == row.region, MODEL_NAMES.c.name == row.name)
            )
            connection.execute(delete(TAGS).where(TAGS.c.arn == arn))

    def use_weights(self, model_id: str, weights: str | None) -> None:
        """Let these weights stand behind a foundation model's long id from now on; None: the catalogue's own again."""
        with self._database.write() as connection:
            connection.execute(delete(WEIGHTS).where(WEIGHTS.c.model_id == model_id))
            if weights is not None:
                connection.execute(insert(WEIGHTS).values(model_id=model_id, weights=weights))

    def weights_of(self, model_id: str) -> str | None:
        """The weights chosen for a foundation model's long id, or None."""
        with self._database.read() as connection:
            return connection.execute(select(WEIGHTS.c.weights).where(WEIGHTS.c.model_id == model_id)).scalar()


def require_model(connection: Connection, arn: str) -> None:
    """Raise Gone where a custom model was deleted; a foundation model is always there."""
    if kind_of(arn) == CUSTOM_MODEL:
        row = connection.execute(select(MODELS.c.arn).where(MODELS.c.arn == arn)).first()
        if row is None:
            raise Gone(arn)


def _refuse_if_used(connection: Connection, arn: str) -> None:
    """Raise InUse for the first throughput, deployment or unfinished job that needs the model."""
    # These tables know this file (they write models and hold them), so they are found by name, not by import.
    throughputs, deployments, jobs = (
        metadata.tables[name] for name in ("throughputs", "deployments", "customization_jobs")
    )
    serving = (throughputs.c.model_arn == arn) | (throughputs.c.desired_model_arn == arn)
    becoming = (deployments.c.desired_model_arn == arn) & (deployments.c.update_status == "Updating")
    deployed = (deployments.c.model_arn == arn) | becoming
    starting = (jobs.c.base_arn == arn) & jobs.c.status.in_(("InProgress", "Stopping"))
    for table, needs in ((throughputs, serving), (deployments, deployed), (jobs, starting)):
        user = connection.execute(select(table.c.arn, table.c.name).where(needs).order_by(table.c.created)).first()
        if user is not None:
            raise InUse(arn, user.arn, user.name)
