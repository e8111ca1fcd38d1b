"""Pages of sorted keys: S3's grouping by prefix and delimiter, over rows that come in batches.

Knows order and text only; the rows are fetched by whoever asks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True)
class Query:
    """What a list operation asks for."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""
    """Keys and common prefixes up to and with this one were given before."""
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Bound:
    """Where a batch of keys starts."""

    key: str
    inclusive: bool


@dataclass(frozen=True, slots=True)
class Page(Generic[Entry]):
    """One answer: entries and common prefixes, both in the order of their keys."""

    entries: Sequence[Entry]
    prefixes: Sequence[str]
    last: str | None
    """The key or common prefix after which the next page starts; None when this is the last page."""


def successor(prefix: str) -> str | None:
    """The first text that is greater than every text beginning with `prefix`; None when there is none.

    Order is that of code points, which UTF-8's bytes keep.
    """
    while prefix:
        point = ord(prefix[-1])
        if point < 0x10FFFF:
            # The surrogates are no characters: UTF-8 has no bytes for them.
            return prefix[:-1] + chr(0xE000 if point == 0xD7FF else point + 1)
        prefix = prefix[:-1]
    return None


def gather(fetch: Callable[[Bound, int], Sequence[Entry]], key: Callable[[Entry], str], query: Query) -> Page[Entry]:
    """One page of the keys that `fetch(bound, n)` gives: the first n in order within the prefix, from the bound on."""
    entries: list[Entry] = []
    prefixes: list[str] = []
    last: str | None = None
    bound = _start(query)
    while bound is not None and query.limit > 0:
        asked = query.limit - len(entries) - len(prefixes) + 1
        batch = fetch(bound, asked)
        for entry in batch:
            group = _group(key(entry), query)
            if group is not None and prefixes and prefixes[-1] == group:
                continue
            if len(entries) + len(prefixes) == query.limit:
                return Page(entries, prefixes, last)
            if group is None:
                entries.append(entry)
                last = key(entry)
            else:
                prefixes.append(group)
                last = group
        if len(batch) < asked:
            break
        bound = _behind(key(batch[-1]), query)
    return Page(entries, prefixes, None)


def _start(query: Query) -> Bound | None:
    """Where the first batch starts; None when nothing can follow."""
    if query.after < query.prefix or not query.after:
        return Bound(query.prefix, inclusive=True)
    # A common prefix as the marker stands for all the keys that it stood for.
    if _group(query.after, query) == query.after:
        return _behind(query.after, query)
    return Bound(query.after, inclusive=False)


def _behind(key: str, query: Query) -> Bound | None:
    """The bound behind a key, and behind its whole group if it is in one."""
    group = _group(key, query)
    if group is None:
        return Bound(key, inclusive=False)
    following = successor(group)
    return None if following is None else Bound(following, inclusive=True)


def _group(key: str, query: Query) -> str | None:
    """The common prefix that stands for this key, if one does."""
    if not query.delimiter or not key.startswith(query.prefix):
        return None
    end = key.find(query.delimiter, len(query.prefix))
    return None if end < 0 else key[: end + len(query.delimiter)]
