"""The right to ask a model once, and its account: what it may use, what it used, how long it took.

Knows a bucket and a meter; nothing of engines, seats or the store.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from outcrop.errors import MustWait
from outcrop.serve.line import Line
from outcrop.serve.meter import Reading
from outcrop.serve.units import Bucket


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to ask one model once."""

    line: Line
    model: str
    """What the model is called on the line."""
    charge: Callable[[int, int], None]
    """Tells how many tokens the prompt and the answer really had; nothing told is nothing charged."""
    heard: Callable[[], None]
    """Tells that the first piece of a streamed answer is there."""


@dataclass(slots=True)
class Account:
    """One call's tokens and time. bucket: what its throughput may use; None: it is paid by the token."""

    reading: Reading
    bucket: Bucket | None
    read: int = 0
    made: int = 0

    def charge(self, prompt_tokens: int, completion_tokens: int) -> None:
        """What the prompt and the answer really had, so far."""
        self.read, self.made = prompt_tokens, completion_tokens

    def heard(self) -> None:
        """The first piece of the answer is there."""
        self.reading.first()

    @contextmanager
    def kept(self, estimate: int) -> Iterator[None]:
        """Set tokens aside, and at the end count what was really used; raises ThrottlingException over the units."""
        reserved = 0
        fault: BaseException | None = None
        try:
            reserved = self.bucket.take(estimate) if self.bucket else 0
            yield
        except BaseException as ended:
            fault = ended
            raise
        finally:
            if not isinstance(fault, MustWait):  # it is asked again, and counts then
                self.reading.end(fault, self.read, self.made)
            if self.bucket:
                self.bucket.settle(reserved, self.read + self.made)
