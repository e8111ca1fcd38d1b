"""The names of weights: what a person types, and the name that is kept, which always means the same bytes.

Pure text. Knows the four forms and nothing of disks or networks.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from outcrop.errors import OutcropError

_BUNDLED: Final = re.compile(r"bundled:([a-z0-9-]+)")
_HUB: Final = re.compile(r"hf:(?://)?((?:[\w-][\w.-]*/)?[\w-][\w.-]*)(?:@([\w./-]+))?")
_BUCKET: Final = re.compile(r"s3://([^/]+)(?:/(.*?))?(?:#([0-9a-f]{16}))?")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Bundled:
    """Weights that come with the package."""

    name: str

    def __str__(self) -> str:
        return f"bundled:{self.name}"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of this machine, absolute; whoever owns it may change what lies in it."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class HubRepo:
    """A model repository of the Hugging Face hub."""

    repo: str
    """org/repo."""
    revision: str | None = None
    """A branch, tag or commit; None: the main branch as it is now."""

    def __str__(self) -> str:
        return f"hf:{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit, which never changes."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None


@dataclass(frozen=True, slots=True)
class BucketPrefix:
    """The objects under a prefix of a bucket."""

    bucket: str
    prefix: str
    """Without a slash at its end; empty for the whole bucket."""
    digest: str | None = None
    """First 16 hex digits of SHA-256 over names, sizes and ETags of the objects, once they were seen."""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" + (f"#{self.digest}" if self.digest else "")

    @property
    def pinned(self) -> bool:
        """Whether the name says which bytes were there."""
        return self.digest is not None


Source = Bundled | Folder | HubRepo | BucketPrefix


def parse(text: str, *, relative_to: Path | None = None) -> Source:
    """Read a name of weights.

    relative_to: where a relative folder is looked for (the working directory of who typed it); None: a folder must be
    absolute. Raises OutcropError that shows the forms.
    """
    if found := _BUNDLED.fullmatch(text):
        return Bundled(found[1])
    if text.startswith(("hf:", "https://huggingface.co/", "https://hf.co/")):
        return _hub(text)
    if text.startswith("s3:"):
        if not (found := _BUCKET.fullmatch(text)):
            raise OutcropError(f"weights {text!r}: an S3 prefix is spelled s3://bucket/prefix")
        return BucketPrefix(found[1], (found[2] or "").strip("/"), found[3])
    path = Path(text).expanduser()
    if relative_to is not None and text and not text.startswith("bundled:"):
        return Folder((relative_to / path).absolute())
    if not path.is_absolute():
        raise OutcropError(f"weights {text!r}: give bundled:<name>, the absolute path of a folder, s3://… or hf:…")
    return Folder(path)


def _hub(text: str) -> HubRepo:
    """hf:org/repo@revision; a page's address, as people copy it, gets its spelling told."""
    found = _HUB.fullmatch(text)
    if found and ".." not in found[1]:
        return HubRepo(found[1], found[2])
    page = re.match(r"https://[^/]+/([^/]+/[^/?#]+)", text)
    hint = f"; for that page: hf:{page[1]}" if page else ""
    raise OutcropError(f"weights {text!r}: a Hugging Face model is spelled hf:org/repo or hf:org/repo@revision{hint}")
