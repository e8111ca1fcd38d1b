"""What every command starts with: the shared options, the settings behind them, the store of a data directory.

Reads settings; knows nothing of what a command does with them.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError
from rich.console import Console

from outcrop.directory import DataDirectory
from outcrop.errors import OutcropError
from outcrop.settings import SETTINGS_FILE, Settings, check_names

if TYPE_CHECKING:  # SQLAlchemy is not worth waiting for before a help text
    from outcrop.store.store import Store

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Data directory: keys, buckets, models, jobs. Default: ./outcrop-data",
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    typer.Option("--host", metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1", show_default=False),
]
Port = Annotated[
    int | None,
    typer.Option("--port", metavar="PORT", help="Port; 0 for any free one. Default: 4580", show_default=False),
]
FLAG: Final = ""
"""The metavar of an option that takes no value: typer would write <bool> behind it, as if it took one."""

SPIN_COUNT = "1000"
"""How long OpenMP's threads spin for each other before they sleep: docs/decisions/spinning.md has the measurements."""


def settings_from(**given: Any) -> Settings:
    """Settings with the command line's values on top; raises OutcropError that names the wrong setting."""
    try:
        check_names(os.environ)
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except (TOMLDecodeError, UnicodeDecodeError, OSError) as fault:
        raise OutcropError(f"cannot read {SETTINGS_FILE} in the working directory: {fault}") from fault
    except ValidationError as fault:
        lines = [
            f"{'.'.join(map(str, error['loc']))} = {_shown(error['input'])}: {error['msg']}" for error in fault.errors()
        ]
        raise OutcropError(
            "wrong settings (command line, OUTCROP_… or outcrop.toml):\n  " + "\n  ".join(lines)
        ) from None


def _shown(value: object) -> str:
    """A wrong value as its author wrote it in TOML, or nearly so."""
    return repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def spin_briefly() -> None:
    """Let this process's children not spin; whoever set it, or OpenMP's own wait policy, knows better."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


@contextmanager
def open_store(data: Path | None) -> Iterator["Store"]:
    """The store of a data directory that a server has made, whether one runs now or not; a mistyped one is refused.

    Raises OutcropError for a running server of an older outcrop: its tables stay as it knows them.
    """
    from outcrop.migrations import visited
    from outcrop.store.store import Store

    settings = settings_from(data=data)
    directory = DataDirectory(settings.data.absolute())
    directory.read_credentials()
    database = visited(settings.database or f"sqlite:///{directory.database}", directory.lock)
    try:
        yield Store.over(database)
    finally:
        database.close()


def error_console() -> Console:
    """Where notes and faults go: not into what a person pipes on."""
    return Console(stderr=True, highlight=False, soft_wrap=True)
