"""One table of TOML to one typed row, or a fault that names the field and what may stand there.

Knows msgspec and its messages; nothing of which rows there are.
"""

import re
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct, inspect

Row = TypeVar("Row", bound=Struct)

PLACE: Final = re.compile(r"^(?P<reason>.*?)(?: - at (?P<key>`key` in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)
STEP: Final = re.compile(r"\.(?P<field>\w+)|\[[^\]]*\]")


WORD: Final = re.compile(r"`(int|float|str|bool|null|object|array)(?: \| null)?`")
WORDS: Final = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "null": "nothing",
    "object": "a table",
    "array": "a list",
}
"""What a person calls the types that msgspec names as Python does."""


def decode(place: str, document: object, row_type: type[Row]) -> Row:
    """The row of one table; raises ValueError that names place, field, reason and what is allowed."""
    try:
        return msgspec.convert(document, row_type)
    except msgspec.ValidationError as fault:
        raise ValueError(f"{place}: {_told(str(fault), row_type)}") from fault


def _told(message: str, row_type: type[Struct]) -> str:
    found = PLACE.match(message)
    assert found is not None
    path = found["path"] or ""
    reason = WORD.sub(lambda word: WORDS[word[1]], found["reason"])
    told = f"{path.removeprefix('.')}: {reason}" if path else reason
    allowed = _allowed(inspect.type_info(row_type), path, bool(found["key"]))
    return f"{told}; there are {', '.join(allowed)}" if allowed else told


def _allowed(type_info: inspect.Type, path: str, key: bool) -> tuple[str, ...]:
    """The fields, or the words, that may stand at a path of msgspec's; none where it is about something else."""
    here: Any = type_info
    for step in STEP.finditer(path):
        here = _below(_solid(here), step["field"])
        if here is None:
            return ()
    here = _solid(here)
    if key:
        here = _solid(here.key_type)
    if isinstance(here, inspect.StructType):
        return tuple(field.encode_name for field in here.fields)
    return tuple(str(value) for value in here.values) if isinstance(here, inspect.LiteralType) else ()


def _below(here: inspect.Type, field: str | None) -> inspect.Type | None:
    """One step down: into a struct's field, or into the items of a table or a list."""
    if isinstance(here, inspect.StructType):
        return next((one.type for one in here.fields if one.encode_name == field), None)
    if isinstance(here, inspect.DictType):
        return here.value_type
    return here.item_type if isinstance(here, (inspect.VarTupleType, inspect.FrozenSetType)) else None


def _solid(type_info: inspect.Type) -> inspect.Type:
    """A type without its None and without its notes."""
    if isinstance(type_info, inspect.Metadata):
        return _solid(type_info.type)
    if isinstance(type_info, inspect.UnionType):
        return next(one for one in type_info.types if not isinstance(one, inspect.NoneType))
    return type_info
