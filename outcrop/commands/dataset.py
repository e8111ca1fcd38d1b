"""What check and plan have in common: a dataset named on the command line.

Brings files and s3:// objects to this machine; every mistake of the person at the terminal is told with the way out and
ends the command with status 2, as usage errors do.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from outcrop.commands.options import FLAG, error_console
from outcrop.errors import OutcropError
from outcrop.records import VALIDATION_FILES
from outcrop.terminal import harmless

if TYPE_CHECKING:
    from outcrop.datasets.faults import Fault
    from outcrop.estimate.survey import Input, Survey
    from outcrop.records import Limits

FAULTS, USAGE = 1, 2
"""Exit statuses beside 0: the dataset has faults; the command was used wrongly, or a file could not be had."""

STDIN: Final = "-"
PATIENCE: Final = 10.0
"""Seconds that an S3 which does not answer is waited for."""
SHOWN: Final = 8 << 20
"""Smallest file in bytes that gets a progress bar: the others are done before one could look."""
ENVIRONMENT: Final = (
    'Keys, region and endpoint come from the environment as for any AWS client: eval "$(outcrop env)" for the server '
    "of this machine; AWS_PROFILE or AWS_ACCESS_KEY_ID and its kin for AWS"
)

File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="The training file: a path, an s3:// URI, or - for standard input."),
]
Validation = Annotated[
    list[str] | None,
    typer.Option(
        "--validation",
        metavar="FILE",
        help=f"A validation file; may be given up to {VALIDATION_FILES} times.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", metavar=FLAG, help="Print the report as JSON and nothing else.")]


@contextmanager
def usage() -> Iterator[None]:
    """What goes wrong in here before there is a report is told on one line and ends the command with status 2."""
    try:
        yield
    except OutcropError as fault:
        error_console().print(f"[bold red]outcrop:[/bold red] {escape(harmless(str(fault)))}")
        raise typer.Exit(USAGE) from fault


@contextmanager
def brought(training: str, validation: Sequence[str], console: Console) -> Iterator[tuple[list["Input"], Path]]:
    """The files of a dataset on this machine, and an empty folder beside them; what was fetched is gone at the end."""
    from outcrop.estimate.survey import Input

    if [training, *validation].count(STDIN) > 1:
        raise OutcropError("only one file can come from standard input")
    if len(validation) > VALIDATION_FILES:
        raise OutcropError(f"{len(validation)} validation files are more than the {VALIDATION_FILES} that a job takes")
    with tempfile.TemporaryDirectory(prefix="outcrop-") as name:
        scratch = Path(name)
        (scratch / "fetched").mkdir()
        (scratch / "work").mkdir()
        inputs = []
        for index, given in enumerate([training, *validation]):
            path = _bring(given, scratch / "fetched" / str(index), console)
            inputs.append(Input(given, path, "validation" if index else "train"))
        yield inputs, scratch / "work"


def _bring(given: str, draft: Path, console: Console) -> Path:
    if given == STDIN:
        with draft.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        return draft
    if given.startswith("s3://"):
        _fetch(given, draft, console)
        return draft
    if "://" in given:
        raise OutcropError(f"{given}: only paths, s3:// URIs and - for standard input can be read; fetch it first")
    path = Path(given).expanduser()
    if path.is_dir():
        lines = sorted(path.glob("*.jsonl"))
        hint = f"; did you mean {lines[0]}?" if lines else "; name one file of JSON lines"
        raise OutcropError(f"{given} is a folder{hint}")
    if not path.exists():
        near = get_close_matches(path.name, [each.name for each in path.parent.glob("*")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else f" (looked in {path.parent.absolute()})"
        raise OutcropError(f"{given}: there is no such file{hint}")
    try:
        path.open("rb").close()
    except OSError as fault:
        raise OutcropError(f"{given} cannot be read: {fault.strerror}") from fault
    return path


def _fetch(uri: str, draft: Path, console: Console) -> None:
    """Download an object; raises OutcropError that tells what may be missing in the environment."""
    from outcrop.objects.client import AccessRefused, BucketMissing, ObjectClient, StorageAway, StorageError

    if not uri.removeprefix("s3://").partition("/")[2] or uri.endswith("/"):
        raise OutcropError(f"{uri} names no object; give s3://bucket/key of one file")
    try:
        client = ObjectClient(patience=PATIENCE)
        size = client.size(uri)
        if size is None:
            raise OutcropError(f"{uri}: the bucket has no such key")
        free = shutil.disk_usage(draft.parent).free
        if size > free:
            raise OutcropError(f"{uri} has {size:,} bytes; the disk under {draft.parent} has {free:,} free (TMPDIR)")
        with draft.open("wb") as file, moving(console, f"fetching {uri}", size) as move:
            for data in client.read(uri):
                file.write(data)
                move(len(data))
    except StorageAway as fault:
        raise OutcropError(f"{fault}. Does AWS_ENDPOINT_URL name a server that runs?") from fault
    except (AccessRefused, BucketMissing) as fault:
        raise OutcropError(f"{fault}. {ENVIRONMENT}") from fault
    except StorageError as fault:
        hint = f". {ENVIRONMENT}" if "redentials" in str(fault) or "region" in str(fault) else ""
        raise OutcropError(f"{fault}{hint}") from fault


@contextmanager
def moving(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with bytes and their speed, on standard error; none for what is done at once."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=total < SHOWN or not console.is_terminal,
    ) as progress:
        task = progress.add_task(escape(what), total=total)
        yield lambda count: progress.update(task, advance=count)


def watched(
    inputs: "Sequence[Input]",
    format: str,
    limits: "Limits",
    sink: "Callable[[Input, Fault], object]" = lambda _given, _fault: None,
) -> "Survey":
    """Check the files with a bar on standard error while it takes long."""
    from outcrop.estimate.survey import survey

    total = sum(given.path.stat().st_size for given in inputs)
    with moving(Console(stderr=True), "checking", total) as move:
        return survey(inputs, format, limits, sink, move)
