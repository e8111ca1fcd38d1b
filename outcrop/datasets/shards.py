"""Records made into token shards on disk: tokenised once, read by the estimate and by the run, so they cannot disagree.

A shard holds examples end to end; an example is one record, or, of continued pre-training, one sequence full of
documents. Knows tokenizers and datasets; nothing of the order of training, models, losses or jobs.
"""

import json
import shutil
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from outcrop.datasets.check import read_records
from outcrop.datasets.examples import Document, Pair, Record, characters, opening
from outcrop.datasets.formats import SNIPPET, Fault
from outcrop.datasets.tokens import Encoder, Example
from outcrop.durable import checksum, settle
from outcrop.errors import OutcropError
from outcrop.records import Limits

VERSION: Final = 3
"""Counts up when the same records would become other shards, or lie on disk otherwise."""

BATCH: Final = 512
BATCH_CHARACTERS: Final = 1 << 20
"""Records that are tokenised together: so many, or so many characters of them."""

AHEAD: Final = 2
"""Batches that are being tokenised while others are read and written. The tokenizer's own threads share the cores; they
leave Python's lock alone, so the rest of the work goes on meanwhile."""

HELD: Final = 1 << 18
"""Tokens that are kept before they are written."""

SEQUENCE: Final = 2048
"""Tokens of a packed sequence where neither the job nor the weights ask for fewer."""

NO_LIMITS: Final = Limits()

Numbered = tuple[int, Record]
"""A record with its line."""
Encoded = tuple[int, Record, Example | Fault]


class Damaged(OutcropError):
    """What lies on the disk is not what was written there; it can be made anew from the data."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """The token ids of one file's examples, laid end to end and mapped from disk; or some of them."""

    tokens: NDArray[np.int32]
    scored: NDArray[np.uint8]
    """1 where the token is a label. Never the first of a segment."""
    offsets: NDArray[np.int64]
    """Where each example starts, and one more: where the last one ends."""
    starts: NDArray[np.int64]
    """Where each segment starts, over all examples: attention and positions begin anew there."""
    sizes: NDArray[np.int64]
    """Tokens of each line of the file, also of one that lies in several sequences."""
    splits: int = 0
    """Times that a document was cut at the end of a sequence and went on in the next one."""
    chosen: NDArray[np.int64] | None = None
    """The examples that this view holds, ascending; None: all."""

    @classmethod
    def open(cls, folder: Path) -> "Shard":
        """Map a shard that write_shard has finished; raises OutcropError for one of another version.

        Its bytes are trusted: what an earlier process left behind goes through verify() first.
        """
        notes = _notes(folder)
        if notes["version"] != VERSION:
            raise OutcropError(f"the tokens in {folder} were made by another version of outcrop; start the job again")
        return cls(
            tokens=np.load(folder / "tokens.npy", mmap_mode="r"),
            scored=np.load(folder / "scored.npy", mmap_mode="r"),
            offsets=np.load(folder / "offsets.npy"),
            starts=np.load(folder / "starts.npy"),
            sizes=np.load(folder / "sizes.npy"),
            splits=notes["splits"],
        )

    @property
    def records(self) -> int:
        """Lines of the file."""
        return len(self.sizes)

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.chosen is None else len(self.chosen)

    def example(self, index: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Token ids and label marks of one example, both of its length."""
        place = slice(*self._bounds(index))
        return self.tokens[place], self.scored[place]

    def segments(self, index: int) -> tuple[int, ...]:
        """Lengths of one example's segments; their sum is the example's length."""
        return tuple(end - start for start, end in self.stretches(index))

    def stretches(self, index: int) -> list[tuple[int, int]]:
        """Where each segment of one example starts and ends in `tokens` and `scored`."""
        start, end = self._bounds(index)
        first, last = np.searchsorted(self.starts, (start, end))
        bounds = [*self.starts[first:last].tolist(), end]
        return list(pairwise(bounds))

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example."""
        found = np.diff(self.offsets)
        return found if self.chosen is None else found[self.chosen]

    def total(self) -> int:
        """Tokens of all examples."""
        return int(self.lengths().sum())

    def scored_tokens(self) -> int:
        """Labels of all examples."""
        if self.chosen is None:
            return int(self.scored.sum(dtype=np.int64))
        return int(np.add.reduceat(self.scored, self.offsets[:-1], dtype=np.int64)[self.chosen].sum())

    def part(self, chosen: NDArray[np.int64]) -> "Shard":
        """A view of some examples of a whole shard."""
        return replace(self, chosen=np.sort(chosen))

    def _bounds(self, index: int) -> tuple[int, int]:
        place = index if self.chosen is None else self.chosen[index]
        return int(self.offsets[place]), int(self.offsets[place + 1])


def verify(folder: Path) -> None:
    """Read a whole shard; raises Damaged where its bytes are not those that write_shard left."""
    # Those of before checksums have none.
    for name, told in _notes(folder).get("checksums", {}).items():
        if not (folder / name).is_file() or checksum(folder / name) != told:
            raise Damaged(f"the tokens in {folder} are damaged: {name} is not what was written")


def _notes(folder: Path) -> dict[str, Any]:
    """What shard.json says."""
    try:
        return dict(json.loads((folder / "shard.json").read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise Damaged(f"the tokens in {folder} are damaged: shard.json is not what was written ({error})") from error


def write_shard(
    source: Path,
    format: str,
    encoder: Encoder,
    folder: Path,
    sink: Callable[[Fault], object],
    *,
    limits: Limits = NO_LIMITS,
    longest: int | None = None,
    pulse: Callable[[int], None] = lambda _: None,
) -> int:
    """Tokenise what check_file accepts of a file into a shard folder; returns how many of those records do not fit.

    See Encoder.encode_all for what a record becomes. Nothing is cut: a pair or conversation longer than `longest` (or
    the model's context, whichever is smaller) goes to `sink` as a fault, and then no shard is left behind. Documents
    fill sequences of that length; what is longer goes on in the next one. The folder appears whole or not at all.
    `pulse` is called now and then with the number of records since the last time, and may raise.
    """
    limit = min((bound for bound in (longest, encoder.context) if bound), default=None)
    if longest is None and format == "text":
        limit = min(limit or SEQUENCE, SEQUENCE)
    faults = 0
    records = read_records(source, format, limits)
    with _Draft(folder, limit if format == "text" else None) as draft, closing(_encoded(records, encoder)) as batches:
        for batch in batches:
            pulse(len(batch))
            for number, record, example in batch:
                fault = example if isinstance(example, Fault) else _unfit(number, record, example, limit)
                if fault is not None:
                    faults += 1
                    sink(fault)
                elif isinstance(example, Example):
                    draft.add(example)
        if not faults:
            draft.finish()
    return faults


def _encoded(records: Iterator[Numbered], encoder: Encoder) -> Generator[list[Encoded], None, None]:
    """All records in their order, batch by batch."""
    batches = batched(records)
    with ThreadPoolExecutor(AHEAD, thread_name_prefix="tokenise") as pool:
        waiting = deque(pool.submit(_encode, batch, encoder) for batch in islice(batches, AHEAD + 1))
        while waiting:
            found = waiting.popleft().result()
            waiting.extend(pool.submit(_encode, batch, encoder) for batch in islice(batches, 1))
            yield found


def batched(records: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    """Records in the lots in which they are tokenised."""
    batch: list[Numbered] = []
    size = 0
    for entry in records:
        batch.append(entry)
        size += characters(entry[1])
        if len(batch) == BATCH or size >= BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _encode(batch: list[Numbered], encoder: Encoder) -> list[Encoded]:
    """Line, record, and its ids or why there are none."""
    try:
        examples = encoder.encode_all([record for _, record in batch])
    except OutcropError as error:
        if len(batch) > 1:
            return [found for entry in batch for found in _encode([entry], encoder)]
        [(number, record)] = batch
        return [(number, record, Fault(number, 0, str(error), opening(record)[:SNIPPET], "template"))]
    return [(number, record, example) for (number, record), example in zip(batch, examples, strict=True)]


def _unfit(number: int, record: Record, example: Example, limit: int | None) -> Fault | None:
    """Why a record of these tokens cannot be trained on."""
    length = max(example.segments)
    if 1 not in example.scored:
        reason = "the tokenizer makes no token of this record, so nothing of it could be learnt"
    elif limit is not None and length > limit and not isinstance(record, Document):
        what = "as the chat template writes the conversation"
        if isinstance(record, Pair):
            before, labels = example.scored.count(0), example.scored.count(1)
            what = f"prompt {before} with its start token, completion {labels} with its end token"
        reason = f"{length} tokens ({what}); the weights behind this model take {limit}"
    else:
        return None
    return Fault(number, 0, reason, opening(record)[:SNIPPET], "context")


class _Draft:
    """A shard that is being written, beside the place where it will appear."""

    def __init__(self, folder: Path, sequence: int | None) -> None:
        """`sequence`: pack all that is added into sequences of so many tokens; None: every example is its own."""
        self._packer = Packer(sequence) if sequence is not None else None
        self._folder, self._draft = folder, folder.with_name(folder.name + ".draft")
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)
        self._tokens, self._scored = (self._draft / "tokens").open("wb"), (self._draft / "scored").open("wb")
        self._offsets, self._starts, self._sizes = array("q", [0]), array("q"), array("q")
        self._ids, self._marks = array("i"), bytearray()

    def add(self, example: Example) -> None:
        """Take in what one record became."""
        self._sizes.append(len(example.ids))
        for whole in [example] if self._packer is None else self._packer.add(example):
            self._write(whole)

    def finish(self) -> None:
        """Give the shard its place: it appears whole."""
        if self._packer is not None and (rest := self._packer.rest()) is not None:
            self._write(rest)
        self._flush()
        self._close()
        self._settle()

    def __enter__(self) -> "_Draft":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def _close(self) -> None:
        self._tokens.close()
        self._scored.close()

    def _write(self, example: Example) -> None:
        self._ids.fromlist(example.ids)
        self._marks += example.scored
        if len(self._ids) >= HELD:
            self._flush()
        place = self._offsets[-1]
        for length in example.segments:
            self._starts.append(place)
            place += length
        self._offsets.append(place)

    def _flush(self) -> None:
        self._tokens.write(self._ids.tobytes())
        self._scored.write(self._marks)
        self._ids, self._marks = array("i"), bytearray()

    def _settle(self) -> None:
        """Turn the raw streams into .npy files, which carry their own type and size."""
        for name, dtype in (("tokens", np.int32), ("scored", np.uint8)):
            raw = np.memmap(self._draft / name, dtype=dtype, mode="r") if self._offsets[-1] else np.empty(0, dtype)
            np.save(self._draft / f"{name}.npy", raw)
            (self._draft / name).unlink()
        np.save(self._draft / "offsets.npy", np.frombuffer(self._offsets, dtype=np.int64))
        np.save(self._draft / "starts.npy", np.array(self._starts, dtype=np.int64))
        np.save(self._draft / "sizes.npy", np.array(self._sizes, dtype=np.int64))
        splits = self._packer.splits if self._packer is not None else 0
        sums = {path.name: checksum(path) for path in sorted(self._draft.iterdir())}
        notes = {"version": VERSION, "splits": splits, "checksums": sums}
        (self._draft / "shard.json").write_text(json.dumps(notes) + "\n", encoding="utf-8")
        shutil.rmtree(self._folder, ignore_errors=True)
        settle(self._draft, self._folder)


class Packer:
    """Documents laid into sequences that are full but for the last one; each document is a segment.

    One that does not fit into what is left goes on in the next sequence as a segment of its own, which begins with the
    last token before the cut: so every token is still predicted from one before it, once.
    """

    def __init__(self, length: int) -> None:
        """`length`: tokens of a sequence, two or more."""
        if length < 2:
            raise OutcropError(f"sequences of {length} tokens have nothing to predict; use 2 or more")
        self.splits = 0
        self._length = length
        self._ids: list[int] = []
        self._scored = bytearray()
        self._segments: list[int] = []

    def add(self, document: Example) -> Iterator[Example]:
        """Lay in one document; yields the sequences that it fills."""
        place = 0
        while True:
            room = self._length - len(self._ids)
            if room >= 2:
                end = min(place + room, len(document.ids))
                self._ids += document.ids[place:end]
                self._scored += b"\0" + document.scored[place + 1 : end]
                self._segments.append(end - place)
                if end == len(document.ids):
                    return
                self.splits += 1
                place = end - 1
            if (full := self.rest()) is not None:
                yield full

    def rest(self) -> Example | None:
        """The sequence under way, which ends here; None where it is empty."""
        if not self._ids:
            return None
        found = Example(self._ids, bytes(self._scored), tuple(self._segments))
        self._ids, self._scored, self._segments = [], bytearray(), []
        return found
