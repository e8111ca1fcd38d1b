"""Filters, order and pages of the list operations: the request's members to a store's Listing, and nextToken.

A token tells where the next page starts and belongs to one list with one set of filters; it is opaque to callers and
holds nothing that they could not see.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from outcrop.api.call import Call
from outcrop.errors import ValidationException
from outcrop.store.listing import Cursor, Listing

DEFAULT_PAGE: Final = 100
"""Rows of a page when maxResults is not given; AWS's own figure is unverified (facts C10)."""
FREE: Final = frozenset({"nextToken", "maxResults"})
"""Members that may change from page to page."""


def listing(call: Call, params: Mapping[str, Any], equals: Mapping[str, str | None]) -> Listing:
    """The page that a list request asks for; `equals` are its exact filters by column, None where not given.

    Raises ValidationException for a nextToken that this list with these filters never gave.
    """
    token = params.get("nextToken")
    return Listing(
        equals={column: value for column, value in equals.items() if value is not None},
        name_contains=params.get("nameContains"),
        # Deployments have names of their own for these two.
        created_after=params.get("creationTimeAfter") or params.get("createdAfter"),
        created_before=params.get("creationTimeBefore") or params.get("createdBefore"),
        ascending=params.get("sortOrder") == "Ascending",
        limit=params.get("maxResults") or DEFAULT_PAGE,
        after=None if token is None else _read(token, _mark(call, params)),
    )


def page(
    call: Call, params: Mapping[str, Any], member: str, rows: list[Any], following: Cursor | None
) -> dict[str, Any]:
    """The answer of a list operation."""
    if following is None:
        return {member: rows}
    return {member: rows, "nextToken": _write(following, _mark(call, params))}


def _mark(call: Call, params: Mapping[str, Any]) -> str:
    """What a token belongs to: service, operation, region and filters, in short."""
    filters = {name: str(value) for name, value in params.items() if name not in FREE and value is not None}
    parts = [call.signed.service, call.signed.operation, call.region, sorted(filters.items())]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _write(cursor: Cursor, mark: str) -> str:
    document = [mark, int(cursor.created.timestamp() * 1000 + 0.5), cursor.arn]
    return base64.urlsafe_b64encode(json.dumps(document, separators=(",", ":")).encode()).decode().rstrip("=")


def _read(token: str, mark: str) -> Cursor:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        given, milliseconds, arn = json.loads(raw)
        cursor = Cursor(datetime.fromtimestamp(milliseconds / 1000, UTC), str(arn))
    except (binascii.Error, UnicodeError, ValueError, TypeError, OverflowError, OSError) as fault:
        raise ValidationException(
            f"The provided nextToken is invalid: {token[:64]!r} was not given by a list."
        ) from fault
    if given != mark:
        raise ValidationException(
            "The provided nextToken is invalid: it belongs to another list, or to this one with other filters."
        )
    return cursor
