"""What a class says of its attributes in the text below each. Knows source code; nothing of what it is about."""

import ast
from itertools import pairwise
from pathlib import Path
from types import ModuleType


def attributes(module: ModuleType, name: str) -> dict[str, str]:
    """Attributes of a class of a module to what is written below them, in their order; others are left out."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    body = next(one.body for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name)
    return {
        here.target.id: " ".join(str(below.value.value).split())
        for here, below in pairwise(body)
        if isinstance(here, ast.AnnAssign) and isinstance(here.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }
