"""Weights from the Hugging Face hub, through huggingface_hub: its token, its cache, its endpoint, its progress.

A revision is resolved to its commit, and the commit is what is kept. Only data are fetched; code that lies beside
weights stays where it is. Knows the hub's client and folders.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from huggingface_hub import HfApi, constants, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # httpx's or httpx2's, whichever the hub's client stands on
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from outcrop.errors import OutcropError
from outcrop.sources.bucket import require_disk
from outcrop.sources.choice import LEFT, TAKEN, choose
from outcrop.sources.names import HubRepo

INNER: Final = "*/*"
"""Folders of a repository: other layouts and languages of the same weights."""


class HubAway(OutcropError):
    """Nobody answered at the hub's address."""


def fetch(source: HubRepo, place: Callable[[HubRepo], Path], weigh: Callable[[Path, int], None]) -> HubRepo:
    """Bring a repository's files here and link them at `place(pinned name)`; returns that name.

    weigh: called with config.json and the bytes of all safetensors files before they are fetched; may raise. Raises
    OutcropError for a repository that is gated, missing or no model, for a hub that does not answer (unless its cache
    has everything), and for a full disk.
    """
    if source.pinned and (place(source) / "config.json").is_file():
        return source
    try:
        pinned, snapshot = _download(source, weigh)
    except HubAway:
        cached = _cached(source)
        if cached is None:
            raise
        pinned, snapshot = cached
    link(snapshot, place(pinned))
    return pinned


def link(snapshot: Path, folder: Path) -> None:
    """Make a folder of links to a snapshot's files, whole or not at all; one that dangles is made anew."""
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for path in sorted(snapshot.iterdir()):
        if path.is_file():
            (draft / path.name).symlink_to(path)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def _download(source: HubRepo, weigh: Callable[[Path, int], None]) -> tuple[HubRepo, Path]:
    with _in_words(source):
        info = HfApi().model_info(source.repo, revision=source.revision, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        taken = choose(sizes, str(source))
        cache = Path(constants.HF_HUB_CACHE)
        cache.mkdir(parents=True, exist_ok=True)
        config = Path(hf_hub_download(source.repo, "config.json", revision=info.sha))
        weigh(config, sum(sizes[name] for name in taken if name.endswith(".safetensors")))
        absent = [name for name in taken if not (config.parent / name).exists()]
        require_disk(cache, sum(sizes[name] for name in absent), str(source))
        # By the branch's own name, so that the cache learns which commit it is: offline it is found by that.
        snapshot = Path(snapshot_download(source.repo, revision=source.revision, allow_patterns=taken))
        return HubRepo(source.repo, snapshot.name), snapshot


def _cached(source: HubRepo) -> tuple[HubRepo, Path] | None:
    """The repository as the cache has it whole; None where it has not."""
    try:
        snapshot = Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                local_files_only=True,
                allow_patterns=list(TAKEN),
                ignore_patterns=[*LEFT, INNER],
            )
        )
    except (LocalEntryNotFoundError, IncompleteSnapshotError):
        return None
    return HubRepo(source.repo, snapshot.name), snapshot


@contextmanager
def _in_words(source: HubRepo) -> Iterator[None]:
    """The hub's errors as sentences with the way out."""
    page = f"{constants.ENDPOINT}/{source.repo}"
    try:
        yield
    except HFValidationError as fault:
        raise OutcropError(f"weights {source}: {fault}") from fault
    except GatedRepoError as fault:
        raise OutcropError(f"weights {source} are gated: {_gated(page)}") from fault
    except RevisionNotFoundError as fault:
        raise OutcropError(
            f"weights {source}: {source.repo} has no revision {source.revision!r}; its branches and tags are listed at "
            f"{page}/tree/main"
        ) from fault
    except EntryNotFoundError as fault:
        raise OutcropError(f"weights {source}: a file went away while it was fetched: {_first(fault)}") from fault
    except RepositoryNotFoundError as fault:
        raise OutcropError(f"weights {source}: {_missing(source, page)}") from fault
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as fault:
        raise HubAway(f"weights {source}: {_first(fault)}") from fault
    except HfHubHTTPError as fault:
        _refuse(source, fault)
    except HTTPError as fault:
        raise HubAway(
            f"weights {source}: the hub at {constants.ENDPOINT} cannot be reached ({_first(fault)}). Without a "
            "network, copy the model's folder here and give its path"
        ) from fault
    except OSError as fault:
        if fault.errno != errno.ENOSPC:
            raise
        raise OutcropError(
            f"weights {source}: the disk of {constants.HF_HUB_CACHE} is full; make room there or set HF_HOME to a "
            "folder on another disk. What is here already is not fetched again"
        ) from fault


def _refuse(source: HubRepo, fault: HfHubHTTPError) -> None:
    status = fault.response.status_code
    if status >= 500:
        raise HubAway(f"weights {source}: the hub at {constants.ENDPOINT} answers {status}: {_first(fault)}") from fault
    if status == 401:
        raise OutcropError(
            f"weights {source}: the hub refuses the token ({_whose()}): it is wrong or ran out. Make one at "
            f"{constants.ENDPOINT}/settings/tokens, then `hf auth login`"
        ) from fault
    raise OutcropError(
        f"weights {source}: the hub answers {status}: {fault.server_message or _first(fault)}"
    ) from fault


def _gated(page: str) -> str:
    if get_token() is None:
        return f"accept their terms at {page}, then give a token of that account: `hf auth login`, or HF_TOKEN=…"
    return f"the account of the token ({_whose()}) has no access yet: accept their terms at {page} and wait for the yes"


def _missing(source: HubRepo, page: str) -> str:
    if get_token() is None:
        return (
            f"the hub shows no model {source.repo} ({page}). If the name is right it is private: give a token that may "
            "read it, `hf auth login` or HF_TOKEN=…"
        )
    return f"the hub shows no model {source.repo} ({page}) to the account of the token ({_whose()})"


def _whose() -> str:
    """Where the token came from, never the token."""
    return "of HF_TOKEN" if os.environ.get("HF_TOKEN") else f"of {constants.HF_TOKEN_PATH}"


def _first(fault: BaseException) -> str:
    lines: list[Any] = [line for line in str(fault).splitlines() if line.strip()]
    return str(lines[0]).strip() if lines else type(fault).__name__
