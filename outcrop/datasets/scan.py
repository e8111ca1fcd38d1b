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
from outcrop.datasets.match import NONE, PAD, Bytes, Padded, Places, Strings, Words, inside
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
class _Lines:
    """The lines of a block, and the strings in the hopeful ones that are no members' names: their values."""

    starts: Places
    ends: Places
    good: Marks
    """Of each line; set to false wherever a doubt arises."""
    opens: Places
    closes: Places
    lines: Places
    """Of each value: the line that it stands in."""
    kinds: NDArray[np.int64]


_ROLES: Final = Strings.of(((b'"user"', 0), (b'"assistant"', 1)))
_VERSION: Final = Strings.of(((f'"{VERSION}"'.encode(), 0),))


def scan(data: bytes, format: str) -> Scan:
    """Judge whole lines of a format, each with its line feed and none with a carriage return before it; PAD follows."""
    block = Padded.of(data)
    table = _table(format)
    found = escapes.find(block.each) if b"\\" in data else None
    marks = (block.each == _QUOTE) | (block.each == _FEED)
    if found is not None:
        escaped = found.at + 1
        marks[escaped[block.each[escaped] == _QUOTE]] = False
    places = np.flatnonzero(marks)
    lines = _uniform(block, places, table) or _various(block, places, table)
    _doubt_bytes(lines.good, data, block.each, lines.ends, found)
    _doubt_conversations(lines, block.words)
    return Scan(lines.starts, lines.ends, lines.good, _texts(block, found, lines))


@cache
def _table(format: str) -> _Table:
    grammar = GRAMMARS[format]
    follows = np.zeros((NONE + 1, KINDS + 1), bool)
    leads = np.full(NONE + 1, KINDS, np.int64)
    ends = np.zeros((NONE + 1, KINDS + 1), bool)
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
    control = block < 32
    if np.count_nonzero(control) != len(ends) + len(PAD):
        wrong = np.flatnonzero(control & (block != _FEED))[: -len(PAD)]
        good[np.searchsorted(ends, wrong)] = False
    if found is not None and len(found.doubtful):
        good[np.searchsorted(ends, found.doubtful)] = False
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            good[:] = False  # rare, and the reader of single lines finds each place


def _uniform(block: Padded, places: Places, table: _Table) -> _Lines | None:
    """The lines of a block whose lines all hold the same members in the same spelling; None for any other block."""
    each = int(np.searchsorted(places, block.data.find(b"\n"))) + 1
    count, left = divmod(len(places), each)
    if left or each % 2 == 0:
        return None
    grid = places.reshape(count, each)
    ends = np.ascontiguousarray(grid[:, -1])
    if not (block.each[ends] == _FEED).all():
        return None
    starts = _starts(ends)
    columns = [at for at in range(0, each - 1, 2) if block.each[grid[0, at + 1] + 1] != _COLON]
    if not columns:
        return None
    opens = [np.ascontiguousarray(grid[:, at]) for at in columns]
    closes = [np.ascontiguousarray(grid[:, at + 1]) for at in columns]
    good = np.ones(count, bool)
    kind = START
    kinds = []
    for begins, ahead in zip([starts, *closes[:-1]], opens, strict=True):
        code, same = table.joints.alike(block.words, begins, ahead - begins + 1)
        if not table.follows[code, kind]:
            return None
        good &= same
        kind = int(table.leads[code])
        kinds.append(kind)
    code, same = table.tails.alike(block.words, closes[-1], ends - closes[-1])
    good &= same
    # A few odd lines are read one by one; where there are more, it is quicker to judge each line by itself.
    odd = grid[~good]
    if not table.ends[code, kind] or len(odd) > count // 10 or (block.each[odd[:, :-1]] == _FEED).any():
        return None
    for opened, closed in zip(opens, closes, strict=True):
        good &= closed > opened + 1
    lines = np.repeat(np.arange(count), len(columns))
    return _Lines(
        starts, ends, good, np.stack(opens, 1).ravel(), np.stack(closes, 1).ravel(), lines, np.tile(kinds, count)
    )


def _various(block: Padded, places: Places, table: _Table) -> _Lines:
    """The lines of any block: values are found, and what each is by the joint before it."""
    feeds = block.each[places] == _FEED
    counts = np.diff(np.flatnonzero(feeds), prepend=-1) - 1
    ends = places[feeds]
    starts = _starts(ends)
    good = (counts & 1) == 0
    quotes = places[~feeds] if good.all() else places[np.repeat(good, counts + 1) & ~feeds]
    opens, closes = quotes[0::2], quotes[1::2]
    values = np.flatnonzero(block.each[closes + 1] != _COLON)
    each = np.diff(np.searchsorted(values, np.cumsum(np.where(good, counts, 0) // 2)), prepend=0)
    good &= each > 0
    opens, closes = opens[values], closes[values]
    lines = np.repeat(np.arange(len(counts)), each)
    firsts = np.ones(len(values), bool)
    firsts[1:] = lines[1:] != lines[:-1]
    begins = np.empty_like(opens)
    begins[1:] = closes[:-1]
    begins[firsts] = starts[lines[firsts]]
    codes = table.joints.find(block.words, begins, opens - begins + 1)
    kinds = table.leads[codes]
    behind = np.empty_like(kinds)
    behind[1:] = kinds[:-1]
    behind[firsts] = START
    fits = table.follows[codes, behind] & (closes > opens + 1)
    last = np.flatnonzero(np.append(firsts[1:], True)) if len(firsts) else np.empty(0, np.int64)
    codes = table.tails.find(block.words, closes[last], ends[lines[last]] - closes[last])
    fits[last] &= table.ends[codes, kinds[last]]
    good[lines[~fits]] = False
    return _Lines(starts, ends, good, opens, closes, lines, kinds)


def _starts(ends: Places) -> Places:
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    return starts


def _doubt_conversations(values: _Lines, block: Words) -> None:
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
        values.good[lines[wrong]] = False
    named = np.flatnonzero(values.kinds == joints.VERSION)
    if len(named):
        opens = values.opens[named]
        codes = _VERSION.find(block, opens, values.closes[named] - opens + 1)
        values.good[values.lines[named[codes == NONE]]] = False


def _texts(block: Padded, found: escapes.Escapes | None, values: _Lines) -> Texts:
    """The texts of the good lines, their escapes in one spelling."""
    chosen = values.kinds > joints.VERSION
    if not values.good.all():
        chosen &= values.good[values.lines]
    kinds, lines, opens, stops = values.kinds, values.lines, values.opens, values.closes
    if not chosen.all():
        kinds, lines, opens, stops = kinds[chosen], lines[chosen], opens[chosen], stops[chosen]
    starts = opens + 1
    slots, answers = _slots(kinds, lines)
    escaped = np.zeros(len(starts), np.int64)
    data = block.data
    if found is not None:
        escaped = inside(found.named, starts, stops)
    if found is not None and (len(found.units) or len(found.slashes)):
        text, gone = escapes.resolve(block.each, found)
        data = text.tobytes() + PAD  # a wrong escape may have eaten a part of the old one
        starts, stops = starts - gone[starts], stops - gone[stops]
    return Texts(data, starts, stops - starts, escaped, slots, lines, answers)


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
