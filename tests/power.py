"""What a power cut would leave: which files were brought to the disk, and in what order with the renames.

Watches the real system calls of this process; nothing is held back or made up.
"""

import os
from pathlib import Path
from typing import Any

import pytest


class PowerWatch:
    """Every fsync and rename since it was made, in their order; a path is as it was called then."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, Path]] = []
        fsync = os.fsync

        def synced(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            self.seen.append(("sync", Path(f"/proc/self/fd/{number}").readlink()))
            fsync(file)

        def renaming(move: Any) -> Any:
            def renamed(source: Any, target: Any, **options: Any) -> None:
                move(source, target, **options)
                self.seen.append(("rename", Path(target)))

            return renamed

        patch.setattr(os, "fsync", synced)
        patch.setattr(os, "rename", renaming(os.rename))
        patch.setattr(os, "replace", renaming(os.replace))

    def unsafe(self, folder: Path, draft: str) -> set[str]:
        """Names of a settled folder's files whose bytes a power cut after the rename may take; empty: none.

        draft: the folder's name before. Raises AssertionError unless the rename itself was brought to the disk, too.
        """
        at = self.seen.index(("rename", folder))
        assert ("sync", folder.parent) in self.seen[at:], "the folder's new name may be lost"
        before = self.seen[:at]
        assert ("sync", folder.with_name(draft)) in before, "the files' names may be lost"
        return {path.name for path in folder.iterdir() if ("sync", folder.with_name(draft) / path.name) not in before}
