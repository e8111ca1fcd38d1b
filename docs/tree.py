"""The tree of ARCHITECTURE.md, made from the first line of every file's docstring: `make docs` writes it anew.

A test compares the page with the disk, so a file that is added, moved or renamed shows up there.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "ARCHITECTURE.md"
START: Final = "<!-- tree: written by `make docs` -->\n```\n"
END: Final = "```\n<!-- end of tree -->"
ROOMS: Final = ("outcrop", "foundry")


def first_line(path: Path) -> str:
    """The first line of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return text.split("\n", 1)[0]


def lines(folder: Path, depth: int = 0) -> Iterator[str]:
    """One line a file and a folder, files first, as `ls` would tell them."""
    indent = "  " * depth
    about = folder / "__init__.py"
    yield f"{indent}{folder.name + '/':<{26 - len(indent)}} {first_line(about) if about.exists() else ''}".rstrip()
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            yield f"{indent}  {path.name:<{24 - len(indent)}} {first_line(path)}".rstrip()
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and any(inner.rglob("*.py")):
            yield from lines(inner, depth + 1)


def tree() -> str:
    """The tree of all rooms."""
    return "\n".join(line for room in ROOMS for line in lines(ROOT / room)) + "\n"


def placed(page: str) -> str:
    """The page with today's tree in its place."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return before + START + tree() + END + after


if __name__ == "__main__":
    PAGE.write_text(placed(PAGE.read_text("utf-8")), "utf-8")
    sys.exit(0)
