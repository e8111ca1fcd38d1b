"""The second loop: wanted models become engine processes, and a caller gets a lease on one of them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from outcrop.catalog.catalog import Catalog
from outcrop.serve.line import Line
from outcrop.store.store import Store


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask one model once."""

    line: Line
    model: str
    charge: Callable[[int, int], None]


class Fleet:
    """Engine processes for every wanted model."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        models: Path,
        logs: Path,
        now: Callable[[], datetime],
        threads: int = 0,
        on_demand_wait: float = 60.0,
    ) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Start the loop."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the loop and every engine."""
        raise NotImplementedError

    def wake(self) -> None:
        """Look at the store now."""
        raise NotImplementedError

    def lease(self, target: str, region: str, estimate_tokens: int) -> AbstractContextManager[Lease]:
        """Wait for the model's engine and admit one request."""

        @contextmanager
        def entered() -> Iterator[Lease]:
            raise NotImplementedError
            yield

        return entered()
