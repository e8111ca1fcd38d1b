"""The column `engine` of a row: the command that starts vLLM for its weights, read into words.

Knows which words the server puts there itself; starts nothing.
"""

import shlex
from pathlib import Path
from typing import Final

SERVE: Final = "serve"
"""vLLM's subcommand; the weights stand behind it."""

HELD: Final = frozenset(
    {"api-key", "config", "headless", "host", "model", "port", "root-path", "served-model-name", "uds"}
)
"""Options that say where an engine answers, to whom and for what: the server chooses these."""


def words(engine: str) -> list[str]:
    """A command as `vllm serve --dtype bfloat16` in words; raises ValueError that says what is wrong with it."""
    try:
        found = shlex.split(engine)
    except ValueError as fault:
        raise ValueError(f"it is no command: {fault}") from fault
    if SERVE not in found[1:]:
        raise ValueError("it is a command that starts vLLM, as `vllm serve --dtype bfloat16`")
    options = found[found.index(SERVE, 1) + 1 :]
    if options and not options[0].startswith("-"):
        raise ValueError(f"`{options[0]}` stands where the server puts the weights: they have a column of their own")
    for word in options:
        if _name(word) in HELD or _name(word).startswith("ssl-"):
            raise ValueError(f"{word} is the server's own to choose")
    return found


def located(engine: str, folder: Path) -> str:
    """The command with a relative path of its program read from a folder; what is no command stays as it is."""
    try:
        program, *rest = words(engine)
    except ValueError:
        return engine
    if "/" not in program:
        return engine
    # Not resolved: the program of a virtual environment may be a link to one that knows nothing of it.
    return shlex.join([str(folder.absolute() / Path(program).expanduser()), *rest])


def _name(word: str) -> str:
    """An option's name as vLLM reads it, which takes _ for -; of any other word, nothing."""
    return word[2:].partition("=")[0].replace("_", "-") if word.startswith("--") else ""
