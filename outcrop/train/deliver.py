"""What a job leaves under its output URI, and how it gets there while training goes on.

Names every object (facts 4.1), makes the metric files from the events, and carries them in a thread of its own, so that
storage that is slow or away for a while costs no training. Knows s3:// and the files' form; nothing of torch or models.
"""

import math
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from outcrop.errors import OutcropError
from outcrop.objects.destination import Destination

PERIOD: Final = 5.0
"""Seconds between uploads of the metric files while training runs, at least."""
PACE: Final = 100_000
"""Bytes a second that the metric files of a long run may take on the mean: they are written whole each time."""

LONGEST_WAIT: Final = 30.0
"""Seconds between two tries at the end, when storage stays away."""

TRAINING_HEADER: Final = "step_number,epoch_number,training_loss,perplexity"
VALIDATION_HEADER: Final = "step_number,epoch_number,validation_loss,perplexity"

VALIDATION_KEYS: Final = (
    "validation_artifacts/post_fine_tuning_validation/validation_metrics.csv",
    "validation_artifacts/post_fine_tuning_validation/validation/validation_metrics.csv",
    "validation_artifacts/validation_metrics.csv",
)
"""The three places where clients were seen to look for one and the same file (facts 4.1)."""

DETAILS_KEY: Final = "run_details/steps.csv"
"""Apart from AWS's files: some clients take the first CSV file that they find beside those."""
DETAILS: Final = (
    "learning_rate", "gradient_norm", "tokens", "scored_tokens", "examples", "seconds", "tokens_per_second",
    "examples_per_second", "utilisation",
)  # fmt: skip
DETAILS_HEADER: Final = ",".join(
    ["step_number,epoch_number,training_loss,smoothed_loss", *DETAILS, "seconds_left_low,seconds_left_high"]
)
"""Of a file of our own: clients read the columns of AWS's by their place, so that nothing may be added there."""

Tell = Callable[[str], None]
"""Gets a sentence for the person who follows the job."""

Result = TypeVar("Result")


class Store(Protocol):
    """The part of the object client that a job's output needs."""

    def put(self, uri: str, content: bytes) -> None:
        """Write an object of these bytes."""
        ...

    def upload(self, path: Path, uri: str) -> None:
        """Write an object of a file's bytes."""
        ...


class Curves:
    """The loss curves, fed with events and written as AWS's two CSV files, and in detail as one of ours.

    Threads may read while another feeds.

    Rows are kept by step, so a step that a resumed run did again counts once, with its later value.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._training: dict[int, str] = {}
        self._details: dict[int, str] = {}
        self._validation: dict[tuple[int, int], str] = {}
        self._version = 0

    def feed(self, event: Mapping[str, Any]) -> None:
        """Take in an event; those that are no measurement are passed over."""
        with self._lock:
            if event["kind"] == "step":
                self._training[event["step"]] = _row(event)
                if "smoothed_loss" in event:
                    self._details[event["step"]] = _detail(event)
            elif event["kind"] == "eval":
                self._validation[event["step"], event["validator"]] = _row(event)
            else:
                return
            self._version += 1

    @property
    def version(self) -> int:
        """Grows with every row."""
        return self._version

    def files(self) -> dict[str, bytes]:
        """File name in the job's folder to content; validators share a file, with one row each at every evaluation."""
        with self._lock:
            training = [self._training[step] for step in sorted(self._training)]
            details = [self._details[step] for step in sorted(self._details)]
            validation = [self._validation[place] for place in sorted(self._validation)]
        found = {}
        if training:
            found["training_artifacts/step_wise_training_metrics.csv"] = _csv(TRAINING_HEADER, training)
        if details:
            found[DETAILS_KEY] = _csv(DETAILS_HEADER, details)
        if validation:
            found |= dict.fromkeys(VALIDATION_KEYS, _csv(VALIDATION_HEADER, validation))
        return found


class Courier:
    """Carries the curves to storage now and then, in a thread; trouble on the way is told once and tried again.

    Every few seconds at first, and the more seldom the larger the files are.
    """

    def __init__(
        self,
        store: Store,
        destination: Destination,
        curves: Curves,
        tell: Tell,
        *,
        away: type[OutcropError],
        period: float = PERIOD,
    ) -> None:
        """`tell` gets a sentence when the files cannot be written; `away` is the store's error
        for storage that does not answer, which is waited for, where every other refusal ends the job in finish()."""
        self._store, self._destination, self._curves, self._tell = store, destination, curves, tell
        self._away, self._period = away, period
        self._carried, self._size = 0, 0
        self._closing, self._once_more = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def finish(self, pulse: Callable[[], None]) -> None:
        """Carry what is left, waiting for storage as long as it takes; `pulse` is called meanwhile and may raise.

        Raises the store's refusal (no rights, no bucket), which no waiting would mend.
        """
        self.close()
        patiently(self._carry, self._away, pulse, self._tell)

    def close(self) -> None:
        """End the thread; what was not carried yet stays where it is."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def leave(self, seconds: float) -> None:
        """Carry what is left, if that takes no longer than this; for a job that ends before its time."""
        self._once_more = True
        self._closing.set()
        self._thread.join(seconds)

    @property
    def pause(self) -> float:
        """Seconds until the files are carried again."""
        return max(self._period, self._size / PACE)

    def _run(self) -> None:
        troubled = False
        while not self._closing.wait(self.pause) or self._once_more:
            self._once_more = False
            try:
                self._carry()
            except Exception as error:  # the thread's own border: what ends it here would be heard by nobody
                if not isinstance(error, OutcropError):
                    traceback.print_exc()
                if not troubled:
                    what = str(error) if isinstance(error, OutcropError) else f"{type(error).__name__}: {error}"
                    self._tell(f"the metric files could not be written, which will be tried again: {what}")
                troubled = True
            else:
                troubled = False

    def _carry(self) -> None:
        """Upload the files if there are new rows."""
        version = self._curves.version
        if version == self._carried:
            return
        files = self._curves.files()
        self._size = sum(len(content) for content in files.values())
        for name, content in files.items():
            self._store.put(self._destination.file(name), content)
        self._carried = version


def patiently(action: Callable[[], Result], away: type[OutcropError], pulse: Callable[[], None], tell: Tell) -> Result:
    """Do what needs storage, again and again while storage does not answer; `pulse` is called between tries."""
    wait = 1.0
    while True:
        try:
            return action()
        except away as error:
            if wait == 1.0:
                tell(f"storage does not answer, which will be tried again: {error}")
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            pulse()
            time.sleep(0.2)
        wait = min(wait * 2, LONGEST_WAIT)


def export(store: Store, destination: Destination, folder: Path, pulse: Callable[[], None]) -> None:
    """Upload every file of the finished weights under model/ in the job's folder; `pulse` is called between files."""
    for path in sorted(folder.rglob("*")):
        pulse()
        if path.is_file():
            store.upload(path, destination.file(f"model/{path.relative_to(folder).as_posix()}"))


def manifest(rows: list[tuple[str, int, int]]) -> bytes:
    """manifest.report.csv of (file name, records, accepted records); no record is ever partially accepted."""
    header = "fileName,totalProcessedRecordCount,acceptedRecordCount,partiallyAcceptedRecordCount,rejectedRecordCount"
    lines = [f"{_quoted(name)},{records},{accepted},0,{records - accepted}" for name, records, accepted in rows]
    return _csv(header, lines)


def _row(event: Mapping[str, Any]) -> str:
    loss = float(event["loss"])
    assert math.isfinite(loss)
    return f"{event['step']},{event['epoch']},{loss!r},{float(event['perplexity'])!r}"


def _detail(event: Mapping[str, Any]) -> str:
    """A row of DETAILS_HEADER; what is not known is empty."""
    low, high = event.get("seconds_left", ("", ""))
    values = [event["step"], event["epoch"], event["loss"], event["smoothed_loss"]]
    values += [event.get(name, "") for name in DETAILS]
    return ",".join(value if isinstance(value, str) else repr(value) for value in [*values, low, high])


def _csv(header: str, rows: list[str]) -> bytes:
    return ("\n".join([header, *rows]) + "\n").encode("utf-8")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\n\r') else name
