"""All verbs of the store in one value; the verbs themselves stand in one file a noun."""

from dataclasses import dataclass

from outcrop.store.access import AccessStore
from outcrop.store.buckets import BucketStore
from outcrop.store.capacities import CapacityStore
from outcrop.store.database import Database
from outcrop.store.deployments import DeploymentStore
from outcrop.store.jobs import JobStore
from outcrop.store.models import ModelStore
from outcrop.store.objects import ObjectStore
from outcrop.store.tags import TagStore
from outcrop.store.throughputs import ThroughputStore
from outcrop.store.uploads import UploadStore


@dataclass(frozen=True, slots=True)
class Store:
    """The verbs of all nouns over one database."""

    database: Database
    access: AccessStore
    buckets: BucketStore
    capacities: CapacityStore
    deployments: DeploymentStore
    jobs: JobStore
    models: ModelStore
    objects: ObjectStore
    tags: TagStore
    throughputs: ThroughputStore
    uploads: UploadStore

    @classmethod
    def over(cls, database: Database) -> "Store":
        """All verbs over this database."""
        return cls(
            database=database,
            access=AccessStore(database),
            buckets=BucketStore(database),
            capacities=CapacityStore(database),
            deployments=DeploymentStore(database),
            jobs=JobStore(database),
            models=ModelStore(database),
            objects=ObjectStore(database),
            tags=TagStore(database),
            throughputs=ThroughputStore(database),
            uploads=UploadStore(database),
        )
