"""Instants as AWS writes them: ISO 8601, RFC 822, seconds since 1970. Pure; values are aware datetimes in UTC."""

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal, get_args

Format = Literal["iso8601", "rfc822", "unixTimestamp"]

_FORMATS: Final = get_args(Format)


def parse(value: object, wanted: Format) -> datetime:
    """Return the instant; `wanted` is the model's format, and the other two are read where it does not fit.

    AWS's own servers read all three. Raises ValueError for anything else.
    """
    for form in (wanted, *_FORMATS):
        found = _read(value, form)
        if found is not None:
            return found
    raise ValueError(f"{value!r} is no timestamp")


def _read(value: object, form: str) -> datetime | None:
    try:
        if form == "unixTimestamp":
            seconds = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
            # Built from whole milliseconds, because a float of today's seconds is not exact in the sixth decimal.
            return datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
        if not isinstance(value, str):
            return None
        found = datetime.fromisoformat(value.strip()) if form == "iso8601" else parsedate_to_datetime(value)
    except (ValueError, OverflowError, OSError):
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def text(value: datetime, form: Format, *, milliseconds: bool = True) -> str:
    """Return the instant in a text format. Raises ValueError for a naive datetime: whose zone would it be?"""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    value = value.astimezone(UTC)
    if form == "iso8601":
        if not milliseconds and not value.microsecond:
            return value.strftime("%Y-%m-%dT%H:%M:%SZ")
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if form == "rfc822":
        days, months = (
            ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"],
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
        )
        # Not strftime's names: they follow the process's locale.
        return f"{days[value.weekday()]}, {value.day:02d} {months[value.month - 1]} {value:%Y %H:%M:%S} GMT"
    return str(number(value))


def number(value: datetime) -> float | int:
    """Return seconds since 1970, whole ones as an int."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    milliseconds = round(value.timestamp() * 1000)
    return milliseconds // 1000 if milliseconds % 1000 == 0 else milliseconds / 1000
