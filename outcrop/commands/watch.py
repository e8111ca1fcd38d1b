"""outcrop watch: a job as it goes, until it is over. Reads the store and the job's own files, and changes nothing.

Works beside a running server, and without one shows what is there.
"""

import difflib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from outcrop.commands.ctrl_c import ctrl_c
from outcrop.commands.options import FLAG, Data, error_console, open_store, settings_from
from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.lifecycle import JOB
from outcrop.records import Job
from outcrop.terminal import harmless, harmless_json

if TYPE_CHECKING:
    from outcrop.jobs.events import Event
    from outcrop.store.store import Store

POLL_SECONDS: Final = 0.2
STORE_SECONDS: Final = 0.6
"""Between two looks at the store, which is asked for the job's state alone."""
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is new since the last look."""

    job: Job
    events: tuple["Event", ...]
    weights: str | None
    """The name of the weights that really run; None while the job waits for its turn, and where its files are gone."""
    served: bool
    """Whether a server runs on the data directory."""

    @property
    def over(self) -> bool:
        """True if nothing more will come."""
        return not JOB[self.job.status]


def watch(
    identifier: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME|ARN|ID",
            help="A customization job's name, ARN, or 12-letter id. Default: the newest that is not over, else the "
            "newest of all.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    plain: Annotated[
        bool, typer.Option("--plain", metavar=FLAG, help="One line an event, as where the output is no terminal.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", metavar=FLAG, help="One JSON object an event, and the job at last.")
    ] = False,
) -> None:
    """Show a job as it goes: parts, loss, speed, time left, warnings.

    Ends with the job: status 0 for Completed, 1 for Failed or Stopped. Ctrl-C ends the watching only, with status 130.
    """
    settings = settings_from(data=data)
    directory = DataDirectory(settings.data.absolute())
    with open_store(data) as store, ctrl_c() as obey:
        job = _find(store, identifier, settings.region)
        looks = _looks(store, job, directory, obey)
        console = Console(highlight=False)
        try:
            if as_json:
                job = _stream(looks)
            elif plain or not console.is_terminal or console.options.ascii_only:
                job = _lines(looks)
            else:
                job = _screen(looks, console)
        except KeyboardInterrupt:
            error_console().print(f"no longer watching; the job {escape(job.name)} goes on")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read us has seen enough; Python would complain again when it flushes at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
    raise typer.Exit(0 if job.status == "Completed" else 1)


def _find(store: "Store", identifier: str | None, region: str) -> Job:
    """The job that is meant; of several of a name in different regions, that of the settings' region."""
    if identifier is None:
        job = store.jobs.newest()
        if job is None:
            raise OutcropError("there is no customization job in this data directory yet")
        return job
    found = store.jobs.named(identifier)
    here = [job for job in found if job.region == region] or found
    if len(here) == 1:
        return here[0]
    if here:
        raise OutcropError(f"{identifier!r} names {len(here)} jobs; give the ARN: {', '.join(job.arn for job in here)}")
    names = store.jobs.names()
    close = difflib.get_close_matches(identifier, names, n=3, cutoff=0.5)
    told = f"did you mean {', '.join(close)}?" if close else f"the newest are: {', '.join(names[:5]) or 'none yet'}"
    raise OutcropError(f"there is no customization job {identifier!r} in this data directory; {told}")


def _looks(store: "Store", job: Job, directory: DataDirectory, obey: Callable[[], None]) -> Iterator[Look]:
    """Look again and again until the job is over; the last look has its last events. `obey` may end it before."""
    from outcrop.jobs.events import Follower

    folder = directory.work / job.id
    follower = Follower(folder / "events.jsonl")
    weights, served, asked = _weights(store, job, folder), directory.running() is not None, time.monotonic()
    while True:
        # After the job's state: what its child told before it was over lies in the file by then.
        look = Look(job, tuple(follower.new()), weights, served)
        yield look
        if look.over:
            return
        time.sleep(POLL_SECONDS)
        obey()
        if time.monotonic() - asked >= STORE_SECONDS:
            job = store.jobs.by_arn(job.arn) or job
            weights = weights or _weights(store, job, folder)
            served, asked = directory.running() is not None, time.monotonic()


def _weights(store: "Store", job: Job, folder: Path) -> str | None:
    """The weights that the job's model was made from, or else those that its child was told."""
    model = store.models.by_arn(job.model_arn) if job.model_arn else None
    if model is not None:
        return model.base_weights
    try:
        name: str = json.loads((folder / "spec.json").read_text("utf-8"))["base_name"]
    except FileNotFoundError:
        return None
    return name


def _stream(looks: Iterator[Look]) -> Job:
    """Every event as it stands in the file, and the job when it is over."""
    job = None
    for look in looks:
        job = look.job
        for event in look.events:
            _say({"at": _instant(event.at), "kind": event.kind, **event.members})
    assert job is not None
    ended = _instant(job.ended) if job.ended else None
    _say(
        {
            "at": ended,
            "kind": "job",
            "arn": job.arn,
            "name": job.name,
            "status": job.status,
            "metrics": dict(job.metrics),
            "failureMessage": job.failure,
            "outputModelArn": job.model_arn,
        }
    )
    return job


def _say(document: Mapping[str, Any]) -> None:
    print(harmless_json(json.dumps(document, ensure_ascii=False)), flush=True)


def _instant(at: Any) -> str:
    return str(at.astimezone(UTC).isoformat(timespec="milliseconds")).replace("+00:00", "Z")


def _shown(event: "Event") -> "Event":
    """The event with its texts as a terminal may have them: messages quote records, and files have names."""
    members = {name: harmless(value) if isinstance(value, str) else value for name, value in event.members.items()}
    return replace(event, members=members)


def _lines(looks: Iterator[Look]) -> Job:
    from outcrop.commands.watch_view import ending, heading
    from outcrop.watch.story import Story
    from outcrop.watch.words import line

    job, story = None, Story()
    for look in looks:
        if job is None:
            for text in heading(look.job, look.weights):
                print(text, flush=True)
        job = look.job
        for event in map(_shown, look.events):
            story.add(event)
            print(f"{event.at.astimezone():%H:%M:%S}  {line(event, story.plan)}", flush=True)
    assert job is not None
    for text in ending(job, story):
        print(text, flush=True)
    return job


def _screen(looks: Iterator[Look], console: Console) -> Job:
    from outcrop.commands.watch_view import ending, heading, waiting
    from outcrop.watch.screen import Screen, live
    from outcrop.watch.story import Story

    screen, job = Screen(Story()), None
    with live(console, screen):
        for look in looks:
            job = look.job
            for event in map(_shown, look.events):
                screen.story.add(event)
            screen.heading, screen.status = heading(job, look.weights), job.status
            screen.footing = ending(job, screen.story) if look.over else waiting(job, screen.story, served=look.served)
    assert job is not None
    return job
