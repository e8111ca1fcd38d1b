"""The pages of docs/reference that are made from the catalogue: `make docs` writes them anew.

A test compares the pages with what this makes.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.models_page import models_page
from docs.quotas_page import quotas_page
from outcrop.catalog.catalog import Catalog

FOLDER: Final = Path(__file__).parent / "reference"
NOTE: Final = "<!-- made by `make docs` from outcrop/catalog/models.toml: change that, not this page -->\n\n"


PAGES: Final[Mapping[str, Callable[[Catalog], str]]] = {"models.md": models_page, "quotas.md": quotas_page}


def page(name: str, catalog: Catalog) -> str:
    """The whole text of one page."""
    return NOTE + PAGES[name](catalog)


if __name__ == "__main__":
    for name in PAGES:
        (FOLDER / name).write_text(page(name, Catalog.load()), "utf-8")
    sys.exit(0)
