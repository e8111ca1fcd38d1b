"""The texts of many records side by side: how long each is, and a number that stands for what it says.

However a record was read, its texts come here in one spelling and in one buffer, so the same record always has the same
figures. Knows numpy and bytes; nothing of formats or files.
"""

from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.blanks import blanks
from outcrop.datasets.examples import Conversation, Document, Pair, Record
from outcrop.datasets.match import PAD, Places, Words, inside

PIECE: Final = len(PAD)
"""Bytes of a text that are taken in one step."""

BATCH: Final = 2**12
"""Pieces that are taken together: what is computed of them stays in the cache."""

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_SLOT: Final = np.uint64(0xD6E8FEB86659FD93)
_STEP: Final = np.uint64(0x94D049BB133111EB)
_HALF: Final = np.uint64(32)
_FACTORS: Final = np.array(
    [
        *(0x9FB21C651E98DF25, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63),
        *(0x27D4EB2F165667C5, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3),
    ],
    np.uint64,
)
_FRONTS: Final = np.frombuffer(
    b"".join(b"\xff" * size + b"\0" * (PIECE - size) for size in range(PIECE + 1)), f"V{PIECE}"
)
"""By size: a mask of so many bytes."""


Pieces = NDArray[np.void]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts of records, those of one record in a row."""

    data: bytes
    """What stands between the quotation marks of JSON strings, in the standard library's spelling (see spelled), UTF-8;
    and PAD."""
    starts: Places
    lengths: Places
    """In bytes."""
    escaped: NDArray[np.int64]
    """Bytes that are there because of escapes: those above one for each escaped character."""
    slots: NDArray[np.int64]
    """What each is to its record: 0 the system text, odd what is given, even what is learnt (a text of pre-training is
    learnt). In a conversation they count the turns from 1."""
    lines: NDArray[np.int64]
    """The line of each one's record within its block."""
    answers: NDArray[np.bool_]
    """The last text of a record that is learnt: what everything before it is a question for."""


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What is known of each record."""

    lines: NDArray[np.int64]
    given: NDArray[np.int64]
    """Characters of what is given: prompt, system text, user turns."""
    learnt: NDArray[np.int64]
    """Characters of what is learnt: completion, assistant turns, or a whole text."""
    wholes: Words
    """Equal for equal records, else different but for one chance in 2**64; never 0."""
    questions: Words
    """As `wholes`, of all but the answer."""
    blanks: NDArray[np.int64]
    """Line and slot of each text of nothing but white space."""

    def only(self, chosen: NDArray[np.bool_]) -> "Figures":
        """Those of some records."""
        lines = self.lines[chosen]
        return Figures(
            lines,
            self.given[chosen],
            self.learnt[chosen],
            self.wholes[chosen],
            self.questions[chosen],
            self.blanks[np.isin(self.blanks[:, 0], lines)],
        )


def spelled(text: str) -> bytes:
    """A text as the standard library writes it into a JSON string in UTF-8, without the quotation marks."""
    return encode_basestring(text)[1:-1].encode("utf-8")


def gather(records: list[tuple[int, Record]]) -> Texts:
    """The texts of records that were read one by one, with their lines within the block."""
    given = [(line, slot, text) for line, record in records for slot, text in _slots(record)]
    written = [spelled(text) for _, _, text in given]
    lines = np.array([line for line, _, _ in given], np.int64)
    lengths = np.array(list(map(len, written)), np.int64)
    bare = np.array([len(text.encode("utf-8")) for _, _, text in given], np.int64)
    answers = np.ones(len(given), bool)
    answers[:-1] = lines[1:] != lines[:-1]
    return Texts(
        data=b"".join([*written, PAD]),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        escaped=lengths - bare,
        slots=np.array([slot for _, slot, _ in given], np.int64),
        lines=lines,
        answers=answers,
    )


def _slots(record: Record) -> list[tuple[int, str]]:
    match record:
        case Pair():
            return [(1, record.prompt), (2, record.completion)]
        case Document():
            return [(2, record.text)]
        case Conversation():
            turns = [(place, turn.text) for place, turn in enumerate(record.turns, start=1)]
            return turns if record.system is None else [(0, record.system), *turns]


def figures(texts: Texts) -> Figures:
    """Lengths and numbers of the records."""
    first = np.ones(len(texts.lines), bool)
    first[1:] = texts.lines[1:] != texts.lines[:-1]
    heads = np.flatnonzero(first)
    characters = _characters(texts)
    learnt = (texts.slots > 0) & (texts.slots % 2 == 0)
    terms = _mix(_numbers(texts) + texts.slots.astype(np.uint64) * _SLOT)
    asked = np.where(texts.answers, np.uint64(0), terms)
    if not len(heads):
        none = np.empty(0, np.int64)
        return Figures(none, none, none, none.astype(np.uint64), none.astype(np.uint64), np.empty((0, 2), np.int64))
    blank = blanks(texts.data, texts.starts, texts.lengths)
    # A line may name its members in any order; they are told in the format's.
    blank = blank[np.lexsort((texts.slots[blank], texts.lines[blank]))]
    return Figures(
        lines=texts.lines[heads],
        given=_sums(np.where(learnt, 0, characters), heads),
        learnt=_sums(np.where(learnt, characters, 0), heads),
        wholes=np.maximum(_sums(terms, heads), np.uint64(1)),
        questions=np.maximum(_sums(asked, heads), np.uint64(1)),
        blanks=np.stack((texts.lines[blank], texts.slots[blank]), 1),
    )


def _sums(values: NDArray[Any], heads: Places) -> NDArray[Any]:
    """The sum of each record's values; where all records have two, which is usual, in a third of the time."""
    if len(values) == 2 * len(heads) and (heads[1:] - heads[:-1] == 2).all():
        pairs: NDArray[Any] = values[0::2] + values[1::2]
        return pairs
    sums: NDArray[Any] = np.add.reduceat(values, heads)
    return sums


def _characters(texts: Texts) -> Places:
    if texts.data.isascii():
        return texts.lengths - texts.escaped
    more = np.frombuffer(texts.data, np.int8) < -64  # bytes 0x80 to 0xBF go on with a character
    stops = texts.starts + texts.lengths
    if np.count_nonzero(more) < len(more) // 32:
        return texts.lengths - texts.escaped - inside(np.flatnonzero(more), texts.starts, stops)
    behind = np.zeros(len(more) + 1, np.int32)
    np.cumsum(more, out=behind[1:])
    found: Places = texts.lengths - texts.escaped - (behind[stops] - behind[texts.starts])
    return found


def _numbers(texts: Texts) -> Words:
    """A number for each text, by its bytes and nothing else: those of its pieces by their place, added up."""
    block: Pieces = np.ndarray((len(texts.data) - PIECE + 1,), f"V{PIECE}", texts.data, strides=(1,))
    numbers = _by_piece(block, texts.starts, texts.lengths)
    numbers += texts.lengths.astype(np.uint64) * _SLOT
    longer = np.flatnonzero(texts.lengths > PIECE)
    if len(longer):
        lengths = texts.lengths[longer]
        counts = (lengths - 1) // PIECE
        heads = np.cumsum(counts) - counts
        place = np.arange(1, heads[-1] + counts[-1] + 1) - np.repeat(heads, counts)
        offsets = place * PIECE
        more = _by_piece(block, np.repeat(texts.starts[longer], counts) + offsets, np.repeat(lengths, counts) - offsets)
        more += place.astype(np.uint64) * _STEP
        numbers[longer] += np.add.reduceat(_mix(more), heads)
    return numbers


def _by_piece(block: Pieces, starts: Places, sizes: Places) -> Words:
    """A number for each piece, of which only the first bytes may be its text's own."""
    numbers = np.empty(len(starts), np.uint64)
    for first in range(0, len(starts), BATCH):
        chosen = slice(first, first + BATCH)
        found = block[starts[chosen]].view(np.uint64).reshape(-1, PIECE // 8)
        found &= _FRONTS[np.minimum(sizes[chosen], PIECE)].view(np.uint64).reshape(-1, PIECE // 8)
        found *= _MULTIPLIER
        found ^= found >> _HALF  # so that characters at a word's end reach bits that the factors can spread
        np.matmul(found, _FACTORS, out=numbers[chosen])
    return numbers


def _mix(numbers: Words) -> Words:
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers ^ (numbers >> np.uint64(33))
