"""A job rehearsed: its data read with its role's rights, checked and estimated, and nothing left behind.

What the API's dry run answers. Goes through the same front door as a job's child, with credentials that end with it, so
a role's missing right shows here as it would there. Knows rooms by argument; nothing of requests, rows or loops.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import boto3
import botocore.session

from outcrop.catalog.rows import FoundationModel
from outcrop.errors import OutcropError, ServiceError, ThrottlingException
from outcrop.estimate.estimate import Estimate, Terms, estimate
from outcrop.estimate.proposal import Proposal, document
from outcrop.estimate.survey import Input, Survey, survey
from outcrop.objects.client import ObjectClient, StorageError, StorageRefused, cannot_get, cannot_put, connected
from outcrop.objects.destination import Destination
from outcrop.records import Arn, Job, Key, TrainSpec

PREFIX: Final = "rehearsal-"
"""Of the folders in the spool; what a killed server left of them goes at the next start."""
SESSION: Final = "bedrock-customization"
"""As a job's: policies may name sessions."""
DURATION: Final = timedelta(minutes=15)
BUDGET: Final = 4 << 20
"""Bytes of each file that are tokenised: some seconds. Every line is checked all the same."""
CALIBRATION_SECONDS: Final = 20.0
"""Callers wait for their answer, boto3 for a minute."""
TURN_SECONDS: Final = 20.0
"""How long a rehearsal waits for the one before it: two at once would spoil each other's times."""
MOST_AT_ONCE: Final = 4
"""The one whose turn it is and those that wait for theirs; each holds a thread."""
STORAGE_SECONDS: Final = 5.0


class Roles(Protocol):
    """Who gives a job its role's credentials, and takes them back (identity.Identity)."""

    def assume_for_service(
        self, role_arn: str, *, source_arn: str, source_account: str, session_name: str, duration: timedelta
    ) -> Key:
        """Fresh session credentials, or ValidationException."""
        ...

    def end(self, access_key: str) -> None:
        """End session credentials before their time."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a rehearsal needs to know of the server that it runs in."""

    endpoint: str
    """The S3 that jobs use."""
    spool: Path
    place: Path
    """A folder on the disk that jobs use."""
    kept: Path
    """Where calibrations are kept."""
    environment: Mapping[str, str]
    """The calibration's."""
    machine_hour: float | None = None


class Rehearsal:
    """Rehearses jobs, one at a time."""

    def __init__(
        self,
        specify: Callable[[Job], tuple[TrainSpec, str | None]],
        row_of: Callable[[str], FoundationModel | None],
        roles: Roles,
        surroundings: Surroundings,
    ) -> None:
        """specify: as the scheduler's; row_of: the catalogue's row of a long id."""
        self._specify, self._row_of, self._roles = specify, row_of, roles
        self._surroundings = surroundings
        self._places, self._turn = threading.BoundedSemaphore(MOST_AT_ONCE), threading.BoundedSemaphore(1)

    def __call__(self, job: Job) -> dict[str, Any]:
        """What the job would do, or what it would fail for, as JSON's types; the job itself is kept nowhere.

        Raises ThrottlingException while others are rehearsed, ValidationException for a role that cannot be assumed.
        """
        with _held(self._places, 0), _held(self._turn, TURN_SECONDS):
            return self._rehearse(job)

    def _rehearse(self, job: Job) -> dict[str, Any]:
        row = self._row_of(job.base_model_id)
        assert row is not None, "the create has just found it"
        proposal, checked = _proposal(job, row), None
        try:
            spec, warning = self._specify(job)
            proposal = replace(proposal, warnings=(warning,) if warning else ())
            with self._session(job) as key, TemporaryDirectory(prefix=PREFIX, dir=self._surroundings.spool) as folder:
                scratch = Path(folder)
                client = client_for(key, job.region, self._surroundings.endpoint)
                storage = ObjectClient(client, patience=STORAGE_SECONDS)
                inputs = _fetched(spec, storage, scratch)
                _require_writable(spec, storage)
                checked = survey(inputs, spec.format, spec.limits)
                found = self._estimated(spec, row, checked, scratch) if checked.passed else None
        except ServiceError:
            raise
        except OutcropError as fault:
            # Weights that are not there, data that may not be read, a template that teaches no stop token.
            return document(proposal, checked, None, failure=str(fault))
        return document(proposal, checked, found)

    @contextmanager
    def _session(self, job: Job) -> Iterator[Key]:
        """The role's credentials, as the job would get them."""
        key = self._roles.assume_for_service(
            job.request["roleArn"],
            source_arn=job.arn,
            source_account=Arn.parse(job.arn).account,
            session_name=f"{SESSION}-{job.id}",
            duration=DURATION,
        )
        try:
            yield key
        finally:
            self._roles.end(key.access_key)

    def _estimated(self, spec: TrainSpec, row: FoundationModel, checked: Survey, scratch: Path) -> Estimate:
        around, work = self._surroundings, scratch / "work"
        work.mkdir()
        terms = Terms(
            scratch=work,
            place=around.place,
            environment=around.environment,
            prices=row.prices,
            kept=around.kept,
            budget=BUDGET,
            patience=CALIBRATION_SECONDS,
            machine_hour=around.machine_hour,
        )
        return estimate(spec, checked, terms)


@contextmanager
def _held(place: threading.Semaphore, seconds: float) -> Iterator[None]:
    if not place.acquire(timeout=seconds):
        raise ThrottlingException("Other dry runs are under way on this server. Try again when they are done.")
    try:
        yield
    finally:
        place.release()


def _proposal(job: Job, row: FoundationModel) -> Proposal:
    kind = job.request["customizationType"]
    return Proposal(
        model_id=row.long_id,
        model_name=row.name,
        base_arn=job.request["baseModelIdentifier"],
        customization=kind,
        format=row.customizations[kind].format,
        hyperparameters=job.request["hyperParameters"],
    )


def _fetched(spec: TrainSpec, storage: ObjectClient, scratch: Path) -> list[Input]:
    """All input files; raises OutcropError in AWS's words for the first that may not be read or is not there."""
    inputs = []
    for index, uri in enumerate((spec.training, *spec.validation)):
        given = Input(uri, scratch / f"data-{index}", "validation" if index else "train")
        try:
            _require_room(_size(storage, uri), scratch)
            storage.download(uri, given.path)
        except StorageError as error:
            raise cannot_get(uri, error) from error
        inputs.append(given)
    return inputs


def _require_writable(spec: TrainSpec, storage: ObjectClient) -> None:
    """Raise OutcropError in AWS's words where the job could not write its output: storage itself is asked."""
    destination = Destination(spec.output, spec.job_id)
    try:
        storage.try_put(destination.probe)
    except StorageError as error:
        raise cannot_put(destination.prefix, error) from error


def client_for(key: Key, region: str, endpoint: str) -> Any:
    """boto3's S3 client of these credentials alone: no profile, no file and no proxy of this process reaches it."""
    bare = botocore.session.Session()
    for name in ("config_file", "credentials_file"):
        bare.set_config_variable(name, os.devnull)
    session = boto3.session.Session(
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret,
        aws_session_token=key.session_token,
        region_name=region,
        botocore_session=bare,
    )
    return connected(session, endpoint, direct=True)


def _size(client: ObjectClient, uri: str) -> int:
    """Bytes of an object; 0 where that may not be asked, for then the download says why in more words."""
    try:
        return client.size(uri) or 0
    except StorageRefused:
        return 0


def _require_room(size: int, folder: Path) -> None:
    """Raise OutcropError unless the file fits twice over: it, and what becomes of it."""
    free = shutil.disk_usage(folder).free
    if 2 * size > free:
        raise OutcropError(f"the file has {size:,} bytes; the disk under {folder} has {free:,} free")
