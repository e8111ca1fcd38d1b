"""The training child: python -m outcrop.train.run DIR does the job that DIR/spec.json tells of, once.

It knows its directory, the object store and its role's credentials, and nothing of who started it. What it says is
events.jsonl; what it prints goes to whoever caught its output. Started again in the same directory it goes on where it
was; started twice at once, the second one leaves. torch is imported only once the data is known to be good.
"""

import fcntl
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from safetensors import SafetensorError

from outcrop.children import AGAIN, read_spec
from outcrop.datasets.plan import Plan, plan_document
from outcrop.datasets.shards import Damaged
from outcrop.durable import settle
from outcrop.errors import OutcropError
from outcrop.garbage import lasting
from outcrop.objects.client import CredentialsExpired, ObjectClient, StorageAway
from outcrop.objects.destination import Destination
from outcrop.records import TrainSpec
from outcrop.train import repeatable
from outcrop.train.deliver import Courier, Curves, export, patiently
from outcrop.train.disk import full, wait_for_room
from outcrop.train.ear import listening
from outcrop.train.events import Events, StartAgain, StopAsked
from outcrop.train.intake import Dataset, take_in, taken_in
from outcrop.train.leave import leave
from outcrop.train.memory import out_of_memory, ran_out, require_memory, usage
from outcrop.train.room import make_room, unreckoned
from outcrop.train.start import course, gauge, load, open_plan, require_disk, work_key

if TYPE_CHECKING:
    from outcrop.train.gauge import Gauge
    from outcrop.train.loop import Progress
    from outcrop.train.text import TextLearner

Result = TypeVar("Result")

UNEXPECTED: Final = "Encountered an unexpected error when processing the request, please try again"
"""AWS's sentence for a fault of its own (facts 5.4)."""

BESIDE_WEIGHTS: Final = 16 << 20
"""Bytes of room for what lies beside the finished weights: their story, and a tokenizer."""

PARTING_SECONDS: Final = 3.0
"""What a run that is stopped or fails takes at most to bring its last metrics to storage."""

PASSING: Final = (StorageAway, CredentialsExpired)


class Run:
    """One life of a job: its parts in order, each left out if an earlier life completed it."""

    def __init__(self, directory: Path, events: Events) -> None:
        self._directory, self._events = directory, events
        self._stop = directory / "stop"
        self._spec = read_spec(directory / "spec.json")
        # The client gives up soon, so that a request to stop is heard; `patiently` asks again for as long as it takes.
        self._client = ObjectClient(patience=10.0)
        self._destination = Destination(self._spec.output, self._spec.job_id)
        self._curves = Curves()
        self._trained: dict[int, int] = {}
        for event in events.past:
            self._take_in(event)

    def work(self) -> None:
        """Do the whole job; ends with its done event."""
        with self._listening():
            datasets = self._validate()
            with lasting():
                plan, learner = self._process()
                self._events.part("training", "InProgress")
                gauge = self._gauge(plan, learner)
        progress = self._train(plan, learner, gauge)
        with self._listening():
            self._deliver(plan, learner, datasets, progress)
        self._events.part("training", "Completed")
        # What really was needed, beside what an estimate foretold.
        self._events.emit("usage", usage())
        self._events.emit("done", progress.outcome(), **gauge.totals(progress.step))

    def _validate(self) -> list[Dataset]:
        """Part validation: fetch, check, tokenise; again where the disk lost what an earlier life made of the data."""
        if self._events.completed("validation"):
            try:
                return taken_in(self._directory)
            except Damaged as error:
                self._warn(f"{error}: the data are fetched, checked and tokenised anew")
        self._events.part("validation", "InProgress")
        require_memory(self._spec)
        datasets = self._patiently(
            lambda: take_in(
                self._spec,
                self._directory,
                self._client,
                self._pulse,
                self._warn,
                passing=PASSING,
                progress=lambda **members: self._events.emit("progress", part="validation", **members),
            )
        )
        self._events.part("validation", "Completed")
        return datasets

    def _process(self) -> tuple[Plan, "TextLearner"]:
        """Part dataProcessing: the plan, and the base made ready for it."""
        from outcrop.train.lineage import ancestors

        first = not self._events.completed("dataProcessing")
        if first:
            self._events.part("dataProcessing", "InProgress")
        ancestors(self._spec)  # a parent without a story is refused now, not after hours of training
        plan = open_plan(self._spec, self._directory / "plan")
        self._pulse()
        learner = load(self._spec, plan)
        if learner.layout.slower is not None:
            self._warn(learner.layout.slower)
        # A resumed run is not refused for what it has: its first life was not, and what it learnt is kept.
        if (said := make_room(self._spec, plan, learner, refuse=first)) is not None:
            self._warn(said)
        for fact in (learner.layout.told, unreckoned(self._spec)):
            if fact is not None and fact != learner.layout.slower:
                self._events.emit("log", level="info", message=fact)
        if (said := repeatable.tried(learner, plan)) is not None:
            self._warn(said)
        if first:
            trainable = sum(parameter.numel() for parameter in learner.parameters())
            result = learner.result_bytes(Path(self._spec.base))
            stops_early = self._spec.early_stopping_patience is not None
            require_disk(self._directory, trainable, result, early_stopping=stops_early)
            sizes = {"trainable_parameters": trainable, "total_parameters": learner.total_parameters()}
            rate = course(self._spec, plan).learning_rate
            self._events.emit("plan", plan_document(plan), learning_rate=rate, **sizes)
            if rate != self._spec.learning_rate:
                self._events.emit("log", level="info", message=_scaled(self._spec, plan, rate))
        shutil.rmtree(self._directory / "data", ignore_errors=True)
        if first:
            self._events.part("dataProcessing", "Completed")
        return plan, learner

    def _gauge(self, plan: Plan, learner: "TextLearner") -> "Gauge":
        """What adds to the events of training; where it knows what the machine can do, that is told first."""
        made = gauge(self._spec, plan, learner, self._events.past)
        if made.machine is not None:
            self._events.emit("machine", device=str(learner.device), matrix_flops_per_second=made.machine.rate)
        return made

    def _train(self, plan: Plan, learner: "TextLearner", gauge: "Gauge") -> "Progress":
        """Part training, up to the last step; the metric files follow it into storage."""
        from outcrop.train.checkpoint import Checkpoints
        from outcrop.train.loop import train

        checkpoints = Checkpoints(self._directory / "checkpoint", work_key(self._directory))
        courier = Courier(self._client, self._destination, self._curves, self._warn, away=StorageAway)

        def emit(kind: str, **members: Any) -> None:
            for event in gauge.read(kind, members):
                self._take_in(event)
                self._events.emit(event.pop("kind"), event)

        courier.start()
        try:
            progress = train(learner, course(self._spec, plan), checkpoints, emit, self._stop.exists)
            with self._listening():
                courier.finish(self._pulse)
        except OutcropError:
            # Stopped or failed: the curve up to here says more than any message.
            courier.leave(PARTING_SECONDS)
            raise
        finally:
            with self._listening():  # an upload that hangs must not keep a stopped run
                courier.close()
        return progress

    def _deliver(self, plan: Plan, learner: "TextLearner", datasets: list[Dataset], progress: "Progress") -> None:
        """The weights in model/, whole or not at all; their story, and with export all of them, also in storage."""
        from outcrop.train.lineage import LINEAGE_FILE, lineage, write

        folder = self._directory / "model"
        if not folder.exists():
            draft = self._directory / "model.draft"
            shutil.rmtree(draft, ignore_errors=True)
            # All the training is in the last checkpoint: what is missing is waited for, whoever took it meanwhile.
            needed = learner.result_bytes(Path(self._spec.base)) + BESIDE_WEIGHTS
            wait_for_room(self._directory, needed, "the finished weights", self._pulse, self._warn)
            try:
                learner.save(draft, Path(self._spec.base), self._spec.base_name)
                write(lineage(self._spec, plan, datasets, learner, progress, folder=draft), draft)
                settle(draft, folder)
            except (OSError, SafetensorError) as error:
                if not full(error):
                    raise
                shutil.rmtree(draft)
                # A model may be spent by its saving, so only a fresh life can save it again.
                raise StartAgain(f"The disk is full: {error}") from error
        told = self._destination.file(LINEAGE_FILE)
        self._patiently(lambda: self._client.upload(folder / LINEAGE_FILE, told))
        if self._spec.export:
            self._patiently(lambda: export(self._client, self._destination, folder, self._pulse))

    def _patiently(self, action: Callable[[], Result]) -> Result:
        return patiently(action, StorageAway, self._pulse, self._warn)

    def _pulse(self) -> None:
        if self._stop.exists():
            raise StopAsked(*self._so_far())

    def _listening(self) -> AbstractContextManager[None]:
        """While this is open a stop is obeyed at once, whatever this thread is doing."""

        def obey() -> None:
            _tell_stop(self._events, StopAsked(*self._so_far()))
            leave(0)

        return listening(self._stop.exists, obey)

    def _so_far(self) -> tuple[int, int]:
        """Steps that were done and the tokens of their examples, over all lives."""
        return max(self._trained, default=-1) + 1, sum(self._trained.values())

    def _take_in(self, event: Mapping[str, Any]) -> None:
        """Follow what is told of training, by this life and by those before it."""
        self._curves.feed(event)
        if event["kind"] == "step":
            self._trained[event["step"]] = event["tokens"]

    def _warn(self, sentence: str) -> None:
        self._events.emit("log", level="warning", message=sentence)


def main(arguments: Sequence[str]) -> int:
    """Do the job of a directory. Exit status 0 once its end is told or another process is at it, else AGAIN or 2."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python -m outcrop.train.run DIR", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    with (directory / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        # Whoever started us may have died before it kept our pid: it is found here.
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        with closing(Events(directory / "events.jsonl")) as events:
            return 0 if events.over else _live(directory, events)


def _live(directory: Path, events: Events) -> int:
    """One life; its every end is an event, but for the one that can be mended by starting it again. Its exit status."""
    try:
        Run(directory, events).work()
    except StopAsked as stopped:
        _tell_stop(events, stopped)
    except CredentialsExpired as error:
        # After hours of training the work must not be lost to a session that ran out: all of it is in the checkpoint.
        print(f"the credentials ran out: {error}", file=sys.stderr)
        return AGAIN
    except StartAgain as error:
        print(error, file=sys.stderr)
        return AGAIN
    except OutcropError as error:
        _fail(events, str(error))
    except Exception as error:  # the border: whatever it is becomes a state and a sentence
        traceback.print_exc()
        if ran_out(error):
            # Others may have taken it, and be gone when the next life is there.
            print(out_of_memory(error), file=sys.stderr)
            return AGAIN
        if full(error):
            _fail(events, f"The disk is full: {error}")
        else:
            _fail(events, f"{UNEXPECTED} ({type(error).__name__}: {error})")
    return 0


def _scaled(spec: TrainSpec, plan: Plan, rate: float) -> str:
    return (
        f"the learning rate is {rate:.3g}: {spec.learning_rate:.3g} suits runs of {spec.rate_steps:,} steps on "
        f"{spec.base_name}, and this one has {plan.steps:,}"
    )


def _tell_stop(events: Events, stopped: StopAsked) -> None:
    events.close_open_part("Stopped")
    events.emit("stopped", step=stopped.step, tokens=stopped.tokens)


def _fail(events: Events, message: str) -> None:
    events.close_open_part("Failed")
    events.emit("failed", message=message)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
