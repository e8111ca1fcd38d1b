"""The texts of many records side by side: how long each is, and a number that stands for what it says.

However a record was read, its texts come here as bytes of UTF-8 in one buffer, so the same record always has the same
figures. Knows numpy and bytes; nothing of formats or files.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.examples import Conversation, Document, Pair, Record
from outcrop.datasets.match import PAD, Places, Words, words

LONG: Final = 512
"""Bytes from which on a text is hashed by itself: then a call costs less than numpy's steps."""

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_SLOT: Final = np.uint64(0xD6E8FEB86659FD93)
_HALF: Final = np.uint64(32)
_MASKS: Final = np.array([2 ** (8 * size) - 1 for size in range(8)], np.uint64)


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts of records, those of one record in a row."""

    data: bytes
    """UTF-8 and PAD."""
    starts: Places
    lengths: Places
    """In bytes."""
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

    def only(self, chosen: NDArray[np.bool_]) -> "Figures":
        """Those of some records."""
        return Figures(
            self.lines[chosen], self.given[chosen], self.learnt[chosen], self.wholes[chosen], self.questions[chosen]
        )


def gather(records: list[tuple[int, Record]]) -> Texts:
    """The texts of records that were read one by one, with their lines within the block."""
    pieces = [(line, slot, text.encode("utf-8")) for line, record in records for slot, text in _slots(record)]
    lines = np.array([line for line, _, _ in pieces], np.int64)
    lengths = np.array([len(text) for _, _, text in pieces], np.int64)
    answers = np.ones(len(pieces), bool)
    answers[:-1] = lines[1:] != lines[:-1]
    return Texts(
        data=b"".join([*(text for _, _, text in pieces), PAD]),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        slots=np.array([slot for _, slot, _ in pieces], np.int64),
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
        return Figures(none, none, none, none.astype(np.uint64), none.astype(np.uint64))
    return Figures(
        lines=texts.lines[heads],
        given=np.add.reduceat(np.where(learnt, 0, characters), heads),
        learnt=np.add.reduceat(np.where(learnt, characters, 0), heads),
        wholes=np.maximum(np.add.reduceat(terms, heads), np.uint64(1)),
        questions=np.maximum(np.add.reduceat(asked, heads), np.uint64(1)),
    )


def _characters(texts: Texts) -> Places:
    if texts.data.isascii():
        return texts.lengths
    block = np.frombuffer(texts.data, np.int8)
    behind = np.zeros(len(block) + 1, np.int32)
    np.cumsum(block < -64, out=behind[1:])  # bytes 0x80 to 0xBF go on with a character
    found: Places = texts.lengths - (behind[texts.starts + texts.lengths] - behind[texts.starts])
    return found


def _numbers(texts: Texts) -> Words:
    """A number for each text, by its bytes and nothing else."""
    numbers = np.empty(len(texts.starts), np.uint64)
    short = texts.lengths < LONG
    if short.all():
        return _by_words(words(texts.data), texts.starts, texts.lengths)
    numbers[short] = _by_words(words(texts.data), texts.starts[short], texts.lengths[short])
    long = np.flatnonzero(~short)
    ends = (texts.starts + texts.lengths)[long].tolist()
    pieces = [hash(texts.data[start:end]) for start, end in zip(texts.starts[long].tolist(), ends, strict=True)]
    numbers[long] = np.array(pieces, np.int64).view(np.uint64)
    return numbers


def _by_words(block: Words, starts: Places, lengths: Places) -> Words:
    """Eight bytes of all texts in a step; the longest come first, so that each step takes the front of what is left."""
    order = np.argsort((LONG - lengths).astype(np.uint16), kind="stable")
    starts, lengths = starts[order], lengths[order]
    last = starts + lengths - 8
    state = lengths.astype(np.uint64) * _SLOT
    steps = np.maximum(-(-lengths // 8), 1)
    left = len(steps) - np.cumsum(np.bincount(steps, minlength=1))
    for step in range(int(steps[0]) if len(steps) else 0):
        count = int(left[step])
        # The last word ends where the text does and may cover a part of the one before: its length is in the state.
        at = np.minimum(starts[:count] + 8 * step, last[:count]) if step else starts
        word = block[at]
        if not step:
            tiny = np.searchsorted(-lengths, -7)  # texts of fewer than eight bytes stand at the end
            word[tiny:] &= _MASKS[lengths[tiny:]]
        front = state[:count]
        front ^= word
        front *= _MULTIPLIER
        front ^= front >> _HALF
    found = np.empty_like(state)
    found[order] = state
    return found


def _mix(numbers: Words) -> Words:
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    numbers = (numbers ^ (numbers >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return numbers ^ (numbers >> np.uint64(33))
