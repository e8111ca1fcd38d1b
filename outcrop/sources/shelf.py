"""Where weights lie on this machine, by their names: the bundled ones, folders, and what was fetched.

Knows paths. It looks up and never fetches: jobs and engines must not wait for a network, nor get other bytes than those
that were chosen.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outcrop.errors import OutcropError
from outcrop.sources.names import BucketPrefix, Bundled, Folder, HubRepo, Source, parse

NEEDED: Final = ("config.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class Shelf:
    """bases: the folder of the bundled weights; fetched: the data directory's folder of what was fetched."""

    bases: Path
    fetched: Path | None = None

    def folder(self, name: str) -> Path:
        """Folder of weights by the name that was kept for them, in Hugging Face layout.

        Raises OutcropError that says what is missing, and the way to it.
        """
        source = parse(name)
        folder = self.place(source)
        if isinstance(source, HubRepo | BucketPrefix) and not (folder / "config.json").is_file():
            raise OutcropError(
                f"weights {name!r} are not on this machine (any more): `outcrop models use ID {_fetchable(source)}` "
                "fetches them"
            )
        require_layout(folder, name)
        return folder

    def place(self, source: Source) -> Path:
        """Where these weights lie, or will once they were fetched; OutcropError for an unpinned name."""
        match source:
            case Bundled(name):
                return self.bases / name
            case Folder(path):
                return path
        if not source.pinned or self.fetched is None:
            raise OutcropError(
                f"weights '{source}' must be fetched before they can run: `outcrop models use ID {_fetchable(source)}`"
            )
        return self.fetched / hashlib.sha256(str(source).encode()).hexdigest()[:16]


def require_layout(folder: Path, name: str) -> None:
    """Raise OutcropError unless a folder holds the files that training and serving read."""
    missing = [part for part in NEEDED if not (folder / part).is_file()]
    if not any(folder.glob("*.safetensors")):
        missing.append("*.safetensors")
    if missing:
        raise OutcropError(f"weights {name!r}: {folder} has no {', no '.join(missing)} (Hugging Face layout)")


def _fetchable(source: HubRepo | BucketPrefix) -> str:
    """The name as a person types it: a prefix is fetched as it is now."""
    return f"s3://{source.bucket}/{source.prefix}" if isinstance(source, BucketPrefix) else str(source)
