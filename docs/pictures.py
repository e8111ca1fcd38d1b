"""The pictures of README.md, of a demo that has run: python -m docs.pictures DATA_DIRECTORY.

Draws what `outcrop watch` showed in the middle of its newest job's training, from the events that the job left, and
takes the demo's own loss curve beside it. Writes docs/pictures.
"""

import re
import shutil
import sys
from pathlib import Path
from typing import Final

from rich.console import Console

from outcrop.commands.options import open_store
from outcrop.commands.watch_view import heading
from outcrop.jobs.events import Follower
from outcrop.watch.screen import Screen
from outcrop.watch.story import Story

FOLDER: Final = Path(__file__).parent / "pictures"
COLUMNS: Final = 100
LINES: Final = 22


def watched(data: Path) -> Console:
    """A terminal that shows the newest job of a data directory, half its steps done."""
    with open_store(data) as store:
        job = store.jobs.newest()
        if job is None or job.model_arn is None:
            raise SystemExit(f"the newest job of {data} did not end with a model: run a demo there first")
        model = store.models.by_arn(job.model_arn)
    events = list(Follower(data / "work" / job.id / "events.jsonl").new())
    steps = [place for place, event in enumerate(events) if event.kind == "step"]
    screen = Screen(Story(), heading(job, model.base_weights if model else None), "InProgress")
    shown = events[: steps[len(steps) // 2] + 1]
    for event in shown:
        screen.story.add(event)
    screen.now = lambda: shown[-1].at
    console = Console(width=COLUMNS, height=LINES, record=True, force_terminal=True, file=sys.stderr)
    console.print(screen)
    return console


def main(data: Path) -> None:
    """Write both pictures."""
    FOLDER.mkdir(exist_ok=True)
    drawn = watched(data).export_svg(title="outcrop watch")
    # Whoever looks at it fetches no font from anybody: any of fixed width will do.
    (FOLDER / "watch.svg").write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), "utf-8")
    shutil.copyfile(data / "demo" / "loss.png", FOLDER / "loss.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
