"""The page docs/reference/settings.md: every setting of the server. Knows outcrop.settings and Markdown."""

import json
from typing import Any, Final, Literal, get_args, get_origin

from docs.attributes import attributes
from docs.markdown import table
from outcrop import settings
from outcrop.settings import PREFIX, SETTINGS_FILE, Settings

INTRODUCTION: Final = f"""\
# Settings

What a server is told at its start. A setting comes from, in this order: the command line (`outcrop serve` takes
`--data`, `--host` and `--port`), the environment ({PREFIX} and its name in capitals), `{SETTINGS_FILE}` in the working
directory, the default. A name that is none is refused, with those that there are.

```sh
{PREFIX}TRAINING_JOBS=2 outcrop serve
```

```toml
# {SETTINGS_FILE}
training_jobs = 2
```
"""


def settings_page() -> str:
    """Each setting with its default and what it means."""
    said = attributes(settings, Settings.__name__)
    rows = (
        (f"`{name}`", _default(field.default), f"{said[name]}{_choices(field.annotation)}")
        for name, field in Settings.model_fields.items()
    )
    return "\n".join([INTRODUCTION, *table(("Setting", "Default", "Meaning"), rows), ""])


def _choices(annotation: Any) -> str:
    """What a setting may be, where it is one of a few words."""
    if get_origin(annotation) is not Literal:
        return ""
    return f" One of {', '.join(f'`{word}`' for word in get_args(annotation))}."


def _default(value: Any) -> str:
    """As TOML would write it; nothing for none."""
    if value is None:
        return ""
    return f"`{json.dumps(value if isinstance(value, bool | int | float) else str(value))}`"
