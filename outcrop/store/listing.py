"""What the list operations of jobs, models and throughputs ask of a table, and the statement that answers it.

Knows columns that the three tables share (arn, region, name, created); nothing of what their rows mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, Table, and_, func, or_, select


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the next page starts behind it, whatever was added or deleted meanwhile."""

    created: datetime
    arn: str


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list: filters, order, size and where it starts."""

    equals: Mapping[str, str] = field(default_factory=dict)
    """Column -> value."""
    name_contains: str | None = None
    """Letter case counts."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    ascending: bool = False
    """Newest first unless true; rows of the same millisecond follow their ARNs."""
    limit: int = 100
    after: Cursor | None = None


def page_of(table: Table, region: str, listing: Listing) -> Select[Any]:
    """The statement for one page and, by one row more than its limit, whether another follows."""
    columns = table.c
    statement = select(table).where(columns.region == region)
    for name, value in listing.equals.items():
        statement = statement.where(columns[name] == value)
    if listing.name_contains is not None:
        # LIKE minds letter case on PostgreSQL and not on SQLite; replacing what is not there changes nothing on both.
        statement = statement.where(func.replace(columns.name, listing.name_contains, "") != columns.name)
    if listing.created_after is not None:
        statement = statement.where(columns.created > listing.created_after)
    if listing.created_before is not None:
        statement = statement.where(columns.created < listing.created_before)
    created, arn = columns.created, columns.arn
    if (after := listing.after) is not None:
        beyond = (created > after.created) if listing.ascending else (created < after.created)
        behind = (arn > after.arn) if listing.ascending else (arn < after.arn)
        statement = statement.where(or_(beyond, and_(created == after.created, behind)))
    order = (created, arn) if listing.ascending else (created.desc(), arn.desc())
    return statement.order_by(*order).limit(listing.limit + 1)


def cut(rows: Sequence[Row[Any]], limit: int) -> tuple[Sequence[Row[Any]], Cursor | None]:
    """The page itself, and the cursor of the next one if there is one."""
    page = rows[:limit]
    return page, Cursor(page[-1].created, page[-1].arn) if len(rows) > limit else None
