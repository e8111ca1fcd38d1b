"""A whole block of lines judged at once: which of them are good beyond doubt, and where their texts stand.

A line is good here when its bytes are the literal joints of its format (see joints) with JSON strings between them. All
other lines are left to the reader of single lines, which has the last word: nothing is refused here. Same answers, a
tenth of the time. Knows numpy and the tables of joints; nothing of files and limits.
"""

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets import escapes, joints
from outcrop.datasets.conversations import VERSION
from outcrop.datasets.joints import GRAMMARS, KINDS, START
from outcrop.datasets.match import NONE, PAD, Bytes, Places, Strings, Words, words
from outcrop.datasets.texts import Texts

Marks = NDArray[np.bool_]

_QUOTE: Final = 34
_FEED: Final = 10
_COLON: Final = 58


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What a block turned out to hold."""

    starts: Places
    """Where each line starts, and where its line feed stands."""
    ends: Places
    good: Marks
    """Of each line: whether it is a record beyond doubt."""
    texts: Texts
    """Those of the good lines, in their order."""


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """A format's joints in the form in which a block is compared with them."""

    joints: Strings
    tails: Strings
    follows: Marks
    """[code, kind]: whether this joint may follow a text of this kind."""
    leads: NDArray[np.int64]
    """[code]: the kind of text that the joint leads to; KINDS for no joint."""
    ends: Marks
    """[code, kind]: whether this tail may follow a text of this kind."""


@dataclass(frozen=True, slots=True, eq=False)
class _Values:
    """The strings of a block's hopeful lines that are no members' names."""

    opens: Places
    closes: Places
    lines: Places
    firsts: Marks
    """Whether each is its line's first."""
    kinds: NDArray[np.int64]


_ROLES: Final = Strings.of(((b'"user"', 0), (b'"assistant"', 1)))
_VERSION: Final = Strings.of(((f'"{VERSION}"'.encode(), 0),))


def scan(data: bytes, format: str) -> Scan:
    """Judge whole lines of a format, each with its line feed and none with a carriage return before it."""
    padded = data + PAD
    block = np.frombuffer(padded, np.uint8)
    table = _table(format)
    found = escapes.find(block) if b"\\" in data else None
    marks = (block == _QUOTE) | (block == _FEED)
    if found is not None:
        escaped = found.at + 1
        marks[escaped[block[escaped] == _QUOTE]] = False
    places = np.flatnonzero(marks)
    feeds = block[places] == _FEED
    counts = np.diff(np.flatnonzero(feeds), prepend=-1) - 1
    ends = places[feeds]
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    good = (counts & 1) == 0
    _doubt_bytes(good, data, block, ends, found)
    quotes = places[~feeds] if good.all() else places[np.repeat(good, counts + 1) & ~feeds]
    values = _values(block, padded, quotes, np.where(good, counts, 0) // 2, starts, good, table)
    _doubt_tails(good, values, words(padded), ends, table)
    _doubt_conversations(good, values, words(padded))
    return Scan(starts, ends, good, _texts(padded, block, found, values, good))


@cache
def _table(format: str) -> _Table:
    grammar = GRAMMARS[format]
    follows = np.zeros((NONE + 1, KINDS), bool)
    leads = np.full(NONE + 1, KINDS, np.int64)
    ends = np.zeros((NONE + 1, KINDS), bool)
    for code, joint in enumerate(grammar.joints):
        follows[code, joint.before] = True
        leads[code] = joint.after
    spelled = sorted({joint.spelled for joint in grammar.tails})
    for joint in grammar.tails:
        ends[spelled.index(joint.spelled), joint.before] = True
    return _Table(
        joints=Strings.of([(text, code) for code, joint in enumerate(grammar.joints) for text in joint.spellings()]),
        tails=Strings.of([(text.encode(), code) for code, text in enumerate(spelled)]),
        follows=follows,
        leads=leads,
        ends=ends,
    )


def _doubt_bytes(good: Marks, data: bytes, block: Bytes, ends: Places, found: escapes.Escapes | None) -> None:
    """Lines with raw control characters, bytes that are not UTF-8, or escapes that are none, are not good here."""
    control = block[: len(data)] < 32
    if np.count_nonzero(control) != len(ends):
        good[np.searchsorted(ends, np.flatnonzero(control & (block[: len(data)] != _FEED)))] = False
    if found is not None and len(found.wrong):
        good[np.searchsorted(ends, found.wrong)] = False
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            good[:] = False  # rare, and the reader of single lines finds each place


def _values(
    block: Bytes, padded: bytes, quotes: Places, counts: Places, starts: Places, good: Marks, table: _Table
) -> _Values:
    """Find the strings that are values, and what each is by the joint before it; lines that break off are not good."""
    opens, closes = quotes[0::2], quotes[1::2]
    values = np.flatnonzero(block[closes + 1] != _COLON)
    before = np.searchsorted(values, np.cumsum(counts))
    each = np.diff(before, prepend=0)
    good &= each > 0
    opens, closes = opens[values], closes[values]
    lines = np.repeat(np.arange(len(counts)), each)
    firsts = np.ones(len(values), bool)
    firsts[1:] = lines[1:] != lines[:-1]
    begins = np.empty_like(opens)
    begins[1:] = closes[:-1]
    begins[firsts] = starts[lines[firsts]]
    codes = table.joints.find(words(padded), begins, opens - begins + 1)
    kinds = table.leads[codes]
    behind = np.empty_like(kinds)
    behind[1:] = kinds[:-1]
    behind[firsts] = START
    fits = table.follows[codes, np.minimum(behind, KINDS - 1)] & (behind < KINDS)
    fits &= closes > opens + 1
    if not fits.all():
        good[lines[~fits]] = False
    return _Values(opens, closes, lines, firsts, kinds)


def _doubt_tails(good: Marks, values: _Values, block: Words, ends: Places, table: _Table) -> None:
    last = np.flatnonzero(np.append(values.firsts[1:], True)) if len(values.firsts) else np.empty(0, np.int64)
    closes, lines = values.closes[last], values.lines[last]
    codes = table.tails.find(block, closes, ends[lines] - closes)
    fits = table.ends[codes, np.minimum(values.kinds[last], KINDS - 1)] & (values.kinds[last] < KINDS)
    if not fits.all():
        good[lines[~fits]] = False


def _doubt_conversations(good: Marks, values: _Values, block: Words) -> None:
    """Speakers take turns, the user first and the assistant last; the version is ours."""
    spoken = np.flatnonzero(values.kinds == joints.ROLE)
    if len(spoken):
        opens, lines = values.opens[spoken], values.lines[spoken]
        roles = _ROLES.find(block, opens, values.closes[spoken] - opens + 1)
        fresh = np.ones(len(spoken), bool)
        fresh[1:] = lines[1:] != lines[:-1]
        before = np.empty_like(roles)
        before[1:] = roles[:-1]
        before[fresh] = 1
        wrong = (roles == before) | (roles == NONE) | (np.append(fresh[1:], True) & (roles != 1))
        good[lines[wrong]] = False
    named = np.flatnonzero(values.kinds == joints.VERSION)
    if len(named):
        opens = values.opens[named]
        codes = _VERSION.find(block, opens, values.closes[named] - opens + 1)
        good[values.lines[named[codes == NONE]]] = False


def _texts(padded: bytes, block: Bytes, found: escapes.Escapes | None, values: _Values, good: Marks) -> Texts:
    """The texts of the good lines, with characters in place of escapes."""
    chosen = values.kinds > joints.VERSION
    if not good.all():
        chosen &= good[values.lines]
    kinds, lines = values.kinds[chosen], values.lines[chosen]
    starts, stops = values.opens[chosen] + 1, values.closes[chosen]
    data = padded
    if found is not None:
        text, gone = escapes.resolve(block, found)
        data = text.tobytes() + PAD  # a wrong escape may have eaten a part of the old one
        starts, stops = starts - gone[starts], stops - gone[stops]
    slots, answers = _slots(kinds, lines)
    return Texts(data, starts, stops - starts, slots, lines, answers)


_FLAT_SLOTS: Final = np.array([0, 0, 0, 0, 1, 2, 1, 2, 0], np.int64)
"""By kind: what a text is to its record; those of messages are counted."""


def _slots(kinds: NDArray[np.int64], lines: Places) -> tuple[NDArray[np.int64], Marks]:
    slots = _FLAT_SLOTS[kinds]
    messages = np.flatnonzero(kinds == joints.CONTENT)
    if not len(messages):
        return slots, slots == 2
    of = lines[messages]
    order = np.arange(len(messages))
    fresh = np.ones(len(messages), bool)
    fresh[1:] = of[1:] != of[:-1]
    slots[messages] = order - np.maximum.accumulate(np.where(fresh, order, 0)) + 1
    answers = np.ones(len(slots), bool)
    answers[:-1] = lines[1:] != lines[:-1]
    return slots, answers
