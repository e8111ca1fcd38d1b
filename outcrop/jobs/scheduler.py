"""The first of the two loops: makes true what the API wrote about jobs. Pure `moves` on top, the thread under it.

Knows the store, an executor, the job directories and who gives a role's credentials; nothing of HTTP, torch or data.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from outcrop.jobs.executor import Executor
from outcrop.records import Job, Key, TrainSpec
from outcrop.store.store import Store


class Roles(Protocol):
    """Who gives a job its role's credentials (identity.Identity)."""

    def assume_for_service(self, role_arn: str, *, source_arn: str, source_account: str, session_name: str) -> Key:
        """Fresh session credentials, or ValidationException."""
        ...


class Scheduler:
    """Runs the jobs of the store, oldest first, from `start()` to `stop()`."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        roles: Roles,
        specify: Callable[[Job], tuple[TrainSpec, str | None]],
        work: Path,
        models: Path,
        endpoint: str,
        now: Callable[[], datetime],
        environment: Mapping[str, str] | None = None,
        capacity: int = 1,
        attempts: int = 3,
        grace: timedelta = timedelta(seconds=30),
        keep_children: bool = True,
    ) -> None:
        """specify: a job's TrainSpec and a warning for its log; endpoint: the S3 that children use."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the loop's thread."""
        raise NotImplementedError

    def wake(self) -> None:
        """Look at the store now."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the loop; children go on and are adopted at the next start, unless keep_children is false."""
        raise NotImplementedError
