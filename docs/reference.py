"""The pages of docs/reference that are made from the catalogue and the settings: `make docs` writes them anew.

A test compares the pages with what this makes.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.models_page import models_page
from docs.quotas_page import quotas_page
from docs.settings_page import settings_page
from outcrop.catalog.catalog import Catalog

FOLDER: Final = Path(__file__).parent / "reference"
CATALOGUE: Final = "outcrop/catalog/models.toml"

PAGES: Final[Mapping[str, tuple[str, Callable[[Catalog], str]]]] = {
    "models.md": (CATALOGUE, models_page),
    "quotas.md": (CATALOGUE, quotas_page),
    "settings.md": ("outcrop/settings.py", lambda _: settings_page()),
}
"""Each page with the file that it is made from."""


def page(name: str, catalog: Catalog) -> str:
    """The whole text of one page."""
    source, text = PAGES[name]
    return f"<!-- made by `make docs` from {source}: change that, not this page -->\n\n{text(catalog)}"


if __name__ == "__main__":
    for name in PAGES:
        (FOLDER / name).write_text(page(name, Catalog.load()), "utf-8")
    sys.exit(0)
