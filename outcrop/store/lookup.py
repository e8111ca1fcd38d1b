"""A record found by its name or ARN as every invocation asks for it: the statement is written once, and only run then.

SQLAlchemy takes some thirty times as long to write and run such a statement as SQLite to answer it. Knows a table with
the columns arn, region and name; nothing of what its rows mean.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy import Dialect, Select, Table, bindparam, select

from outcrop.store.database import Database

Record = TypeVar("Record")


class Lookup(Generic[Record]):
    """Finds the records of a table whose columns are the fields of `kind`, by their names."""

    def __init__(self, database: Database, table: Table, kind: type[Record]) -> None:
        fields = tuple(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        here = select(*(table.c[name] for name in fields)).where(table.c.region == bindparam("region"))
        self._database, self._kind, self._fields = database, kind, fields
        dialect = database.engine.dialect
        self._by_arn = _Question(dialect, here.where(table.c.arn == bindparam("identifier")))
        self._by_name = _Question(dialect, here.where(table.c.name == bindparam("identifier")))

    def find(self, region: str, identifier: str) -> Record | None:
        """The record of this name or ARN in this region, as of now."""
        return self._of(self._question(identifier).ask(self._database.first, region, identifier))

    def glance(self, region: str, identifier: str) -> Record | None:
        """As `find`, for an event loop; raises MustWait where the database could take long to answer."""
        return self._of(self._question(identifier).ask(self._database.glance, region, identifier))

    def _question(self, identifier: str) -> "_Question":
        return self._by_arn if identifier.startswith("arn:") else self._by_name

    def _of(self, values: list[Any] | None) -> Record | None:
        return None if values is None else self._kind(**dict(zip(self._fields, values, strict=True)))


class _Question:
    """One statement in the words of the database's driver, which takes texts as they are."""

    def __init__(self, dialect: Dialect, statement: Select[Any]) -> None:
        compiled = statement.compile(dialect=dialect)
        self._text = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup if compiled.positional else None
        self._readers: list[Callable[[Any], Any] | None] = [
            column.type.result_processor(dialect, None) for column in statement.selected_columns
        ]

    def ask(self, first: Callable[[str, Any], Any], region: str, identifier: str) -> list[Any] | None:
        """The first row's values as SQLAlchemy would give them."""
        given = {"region": region, "identifier": identifier}
        row = first(self._text, given if self._order is None else [given[name] for name in self._order])
        if row is None:
            return None
        return [value if read is None else read(value) for read, value in zip(self._readers, row, strict=True)]
