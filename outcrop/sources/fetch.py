"""From what a person names to a folder here, by the name that will always mean the same bytes.

Puts the hub, buckets and the shelf together. Knows no store and no catalogue.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import boto3

from outcrop.errors import OutcropError
from outcrop.objects.client import ObjectClient
from outcrop.sources import bucket, hub, memory
from outcrop.sources.bucket import Watch
from outcrop.sources.names import BucketPrefix, Bundled, Folder, HubRepo, Source
from outcrop.sources.proof import convert_tokenizer
from outcrop.sources.shelf import Shelf

PATIENCE: Final = 20.0
"""Seconds that an S3 which does not answer is waited for."""

OLDER: Final = ("tokenizer.model", "vocab.json", "vocab.txt")
"""Tokenizer files of before tokenizer.json."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """Weights on this machine."""

    name: str
    """What is kept: pinned."""
    folder: Path


def fetch(source: Source, shelf: Shelf, watch: Watch, connect: Callable[[], ObjectClient] | None = None) -> Fetched:
    """Bring weights here if they are not; raises OutcropError with the way out.

    watch: told the bytes of a bucket's files as they come; the hub's client shows its own progress. connect: makes the
    client for s3:// (by default the AWS environment's).
    """
    match source:
        case Bundled() | Folder():
            return _local(shelf.place(source), str(source))
        case HubRepo():
            pinned: HubRepo | BucketPrefix = hub.fetch(source, shelf.place, weigh)
        case BucketPrefix():
            pinned = bucket.fetch(connect or _client, source, shelf.place, watch)
    folder = shelf.place(pinned)
    if not (folder / "tokenizer.json").is_file():
        convert_tokenizer(folder, folder, str(pinned))
    return Fetched(str(pinned), folder)


def weigh(config: Path, size: int, here: memory.Memory | None = None) -> None:
    """Raise OutcropError for weights of `size` bytes that could not even be served here: before they are fetched."""
    there = here or memory.here()
    document = json.loads(config.read_text(encoding="utf-8"))
    stored = str(document.get("dtype") or document.get("torch_dtype") or "bfloat16")
    # At least two bytes a number, whatever the machine computes in; a GPU of its own may hold more than the machine.
    least = size // (4 if stored == "float32" else 2) * 2 + memory.PROCESS
    if least > there.total and not memory.GPU.exists():
        raise OutcropError(
            f"these weights need at least {memory.gigabytes(least)} of memory to be served, and this machine has "
            f"{memory.gigabytes(there.total)}: take smaller ones, or a larger machine"
        )


def _local(folder: Path, name: str) -> Fetched:
    older = any((folder / part).is_file() for part in OLDER)
    if (folder / "config.json").is_file() and older and not (folder / "tokenizer.json").is_file():
        raise OutcropError(
            f"weights {name}: there is no tokenizer.json, only an older form of it; write one beside it: "
            f"`python -m outcrop.train.convert {folder} {folder}`"
        )
    return Fetched(name, folder)


def _client() -> ObjectClient:
    # A client of its own: weights may lie in any region, where a job's data may not.
    return ObjectClient(boto3.session.Session().client("s3"), patience=PATIENCE)
