"""Weights from s3://: every file whole, the set as it was listed, taken up again where it broke off.

Knows the object client and folders. Endpoint and credentials come from the environment, as for any AWS client.
"""

import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from outcrop.durable import settle, sync
from outcrop.errors import OutcropError
from outcrop.objects.client import Entry, ObjectClient
from outcrop.sources.choice import choose
from outcrop.sources.memory import gigabytes
from outcrop.sources.names import BucketPrefix

Watch = Callable[[int, int], None]
"""Told how many bytes of how many are here."""

ROOM: Final = 256 << 20
"""Bytes of disk that stay free: the database and logs share it."""


def fetch(
    connect: Callable[[], ObjectClient], source: BucketPrefix, place: Callable[[BucketPrefix], Path], watch: Watch
) -> BucketPrefix:
    """Bring what lies under a prefix now to `place(pinned name)`; returns that name.

    Files that an interrupted try has brought whole are not fetched again. Raises OutcropError for a prefix that is no
    model, that changes meanwhile, or that does not fit on the disk.
    """
    if source.pinned and place(source).is_dir():
        return source
    client = connect()
    listed = entries(client, source)
    pinned = pin(source, listed)
    if source.pinned and pinned != source:
        raise OutcropError(f"weights {source}: the objects under this prefix are others by now ({pinned})")
    folder = place(pinned)
    if folder.is_dir():
        return pinned
    draft = folder.with_name(f".{folder.name}.draft")
    draft.mkdir(parents=True, exist_ok=True)
    there = {name: draft / name for name in listed if _whole(draft / name, listed[name])}
    done, total = sum(listed[name].size for name in there), sum(entry.size for entry in listed.values())
    require_disk(draft, total - done, str(source))
    watch(done, total)
    for name, entry in listed.items():
        if name not in there:
            done = _bring(
                client, f"s3://{source.bucket}/{entry.key}", draft / name, done, lambda now: watch(now, total)
            )
            if not _whole(draft / name, entry):
                raise OutcropError(f"weights {source}: {entry.key} has another size than was listed; try again")
    if pin(source, entries(client, source)) != pinned:
        shutil.rmtree(draft)
        raise OutcropError(f"weights {source} changed while they were fetched; try again")
    settle(draft, folder)
    return pinned


def entries(client: ObjectClient, source: BucketPrefix) -> dict[str, Entry]:
    """The model's files under a prefix, by their names in it."""
    start = f"{source.prefix}/" if source.prefix else ""
    found = {entry.key.removeprefix(start): entry for entry in client.entries(f"s3://{source.bucket}/{start}")}
    if not found:
        raise OutcropError(f"weights {source}: nothing lies under s3://{source.bucket}/{start}")
    return {name: found[name] for name in choose(found, str(source))}


def pin(source: BucketPrefix, listed: Mapping[str, Entry]) -> BucketPrefix:
    """The name that means these very objects."""
    lines = [f"{name}\0{entry.size}\0{entry.etag}\n" for name, entry in sorted(listed.items())]
    return BucketPrefix(source.bucket, source.prefix, hashlib.sha256("".join(lines).encode()).hexdigest()[:16])


def require_disk(folder: Path, wanted: int, name: str) -> None:
    """Raise OutcropError unless so many bytes fit beside what is there."""
    free = shutil.disk_usage(folder).free
    if wanted and wanted + ROOM > free:
        raise OutcropError(
            f"weights {name} need {gigabytes(wanted)} more on the disk of {folder}, which has {gigabytes(free)} free; "
            "make room there, or keep them on another disk"
        )


def _bring(client: ObjectClient, uri: str, path: Path, done: int, tell: Callable[[int], None]) -> int:
    draft = path.with_name(f".{path.name}.part")
    with draft.open("wb") as file:
        for data in client.read(uri):
            file.write(data)
            done += len(data)
            tell(done)
    # Its size says later that the file is whole, which is true of what is on the disk only.
    sync(draft)
    draft.rename(path)
    return done


def _whole(path: Path, entry: Entry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size
