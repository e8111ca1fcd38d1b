"""Which code this is: the package's version, and the commit where that can be known. Knows the package's own files."""

import json
import subprocess
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

PACKAGE = "outcrop"


def code() -> dict[str, Any]:
    """Version, commit, and whether files differ from it; commit is None for a package that no repository is behind."""
    known = _installed_from() or checked_out(Path(__file__).parents[2])
    return {"version": version(PACKAGE), "commit": None, "changed": None, **known}


def _installed_from() -> dict[str, Any]:
    """What pip wrote down of a package that it built from a repository (PEP 610)."""
    told = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
    commit = told.get("vcs_info", {}).get("commit_id")
    return {"commit": commit, "changed": False} if commit else {}


def checked_out(root: Path) -> dict[str, Any]:
    """What git says of the folder that holds the package; only where that folder is the repository itself, as a
    virtual environment may well lie inside somebody else's."""
    if not (root / ".git").exists():
        return {}
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        return {"commit": commit, "changed": bool(_git(root, "status", "--porcelain", "--", PACKAGE))}
    except (OSError, subprocess.SubprocessError):
        # No git on this machine, or a folder that is another user's: the version alone is told.
        return {}


def _git(root: Path, *words: str) -> str:
    told = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10
    )
    return told.stdout
