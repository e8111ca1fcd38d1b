"""JSON as plain values, read strictly: UTF-8, no NaN, no half characters, no number lost, no deep nesting.

Pure; knows no shape, no schema and no operation.
"""

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

MAX_DEPTH: Final = 200
"""Deeper than any shape or sensible document; far within the interpreter's own recursion limit."""

_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def read(body: bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The JSON value of a body; a number beyond all floats comes as a Decimal, so that a refusal can quote it.

    pairs: what makes an object of its keys and values; None for a dict in which the last of equal keys counts.
    Raises ValueError, which says what is wrong.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=_constant, parse_float=_float)
    except RecursionError as fault:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from fault
    _check_depth(value)
    if _SURROGATE.search(body):
        # Half a surrogate pair is legal JSON, but no text: it could be neither stored nor sent on.
        json.dumps(value, ensure_ascii=False, default=str).encode("utf-8")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float | Decimal:
    found = float(text)
    try:
        return Decimal(text) if math.isinf(found) else found
    except InvalidOperation as fault:  # beyond Decimal's own exponents, some 10**18
        raise ValueError(f"the exponent of {text[:64]} is too large") from fault


def _check_depth(value: Any) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
