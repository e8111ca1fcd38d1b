"""Records to token ids exactly as the served model will see them, without torch or transformers: quick to start.

Knows a Hugging Face folder's tokenizer files and its chat template; nothing of files of records, of training or of
where a folder came from.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from outcrop.datasets.chat import ChatTemplate, read_object
from outcrop.datasets.control import ControlTokens
from outcrop.datasets.examples import Conversation, Document, Pair, Record
from outcrop.errors import OutcropError
from outcrop.records import Turn


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """The ids of one record."""

    ids: list[int]
    scored: bytes
    """1 where the id is a label, else 0. Never the first of a segment: nothing stands before it to predict it from."""
    segments: tuple[int, ...]
    """Lengths of the stretches that do not see each other. One, but for conversations whose template writes an earlier
    turn otherwise once another follows: then each answer stands behind its own prompt."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoder:
    """A base's tokenizer with its start, end, context and conversation rules.

    A prompt gets the start tokens that the tokenizer itself puts before a text (none for many models), because that is
    what every engine does to a prompt; a completion gets none, and the end token after it is the last label. A
    conversation is what the chat template writes, with nothing added: templates write their start tokens themselves.
    """

    tokenizer: Tokenizer
    end: int
    """The id that ends a text: the last label of every example, and what generation stops at."""
    stops: frozenset[int]
    """All ids at which an engine ends an answer: `end` and those of generation_config.json."""
    context: int | None
    """Tokens in one sequence as config.json says; None where it names no limit."""
    chat: ChatTemplate
    control: ControlTokens
    start: tuple[int, ...]
    """What the tokenizer puts before a text."""
    fingerprint: str
    """SHA-256 of all that decides which ids a record becomes."""

    @classmethod
    def read(cls, folder: Path) -> "Encoder":
        """Read a Hugging Face folder; raises OutcropError for one without tokenizer.json or without an end token."""
        source = folder / "tokenizer.json"
        if not read_object(source):
            raise OutcropError(f"the base weights have no tokenizer: {source} is missing or empty")
        content = source.read_bytes().decode("utf-8")
        settings = read_object(folder / "tokenizer_config.json")
        config = read_object(folder / "config.json")
        # As transformers does: with this, text that spells a control token is text, so data cannot forge one.
        split = bool(settings.get("split_special_tokens", False))
        tokenizer = _tokenizer(content, split=split)
        end = _end(tokenizer, settings, config, folder)
        stops = frozenset((end, *_stated_ends(folder)))
        chat = ChatTemplate.read(folder, tokenizer.id_to_token(end))
        rules = json.dumps({"split": split, "end": end, "stops": sorted(stops), "chat": chat.fingerprint})
        return cls(
            tokenizer=tokenizer,
            end=end,
            stops=stops,
            context=_context(config),
            chat=chat,
            control=ControlTokens(content, _tokenizer(content, split=False) if split else tokenizer),
            start=_start(tokenizer),
            fingerprint=hashlib.sha256((content + rules).encode()).hexdigest(),
        )

    def encode(self, record: Record) -> Example:
        """What a record becomes; see encode_all."""
        return self.encode_all([record])[0]

    def encode_all(self, records: Sequence[Record]) -> list[Example]:
        """What records become, those of one kind together, in their order.

        A document is start + text + end, all of it scored; a pair is start + prompt + completion + end, scored from the
        completion on; in a conversation every answer is scored, to the token that ends its turn. Raises OutcropError
        where the template refuses a conversation or ends a turn without a token at which an engine stops.
        """
        found: dict[int, Example] = {}
        for kind, encode in ((Pair, self._pairs), (Document, self._documents), (Conversation, self._conversations)):
            places = [place for place, record in enumerate(records) if isinstance(record, kind)]
            chosen: Any = [records[place] for place in places]
            found |= zip(places, encode(chosen), strict=True) if places else ()
        return [found[place] for place in range(len(records))]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of prompts, start tokens included once; an end token that the tokenizer adds by itself is taken off."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
        return [self._open(encoding.ids) for encoding in found]

    def completions(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of completions, with nothing added at either side."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def dialogue(self, turns: Sequence[Turn], system: str | None = None) -> list[int]:
        """Ids of a conversation that an engine goes on with; see ChatTemplate.prompt. What training puts before an
        answer is the same, id for id."""
        text = self.chat.prompt(self._protected(turns), self._shielded(system))
        return self._written([text])[0]

    def answer(self, prompt: str, answer: str) -> list[int]:
        """Ids of an answer that a template wrote behind a prompt, to its first stop token."""
        before, whole = self._written([prompt, prompt + answer])
        return self._ended(before, whole, answer)

    def spell(self, token: int) -> str:
        """The text of one id."""
        return str(self.tokenizer.id_to_token(token))

    def _pairs(self, pairs: Sequence[Pair]) -> list[Example]:
        prompts = self.prompts([pair.prompt for pair in pairs])
        completions = self.completions([pair.completion for pair in pairs])
        return [
            _example([*prompt, *completion, self.end], max(len(prompt), 1))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]

    def _documents(self, documents: Sequence[Document]) -> list[Example]:
        return [_example([*ids, self.end], 1) for ids in self.prompts([document.text for document in documents])]

    def _conversations(self, conversations: Sequence[Conversation]) -> list[Example]:
        written = [
            self.chat.exchanges(self._protected(conversation.turns), self._shielded(conversation.system))
            for conversation in conversations
        ]
        texts = [text for story in written for one in story for text in (one.prompt, one.prompt + one.answer)]
        ids = iter(self._written(texts))
        examples = []
        for story in written:
            thread = _Thread()
            for one in story:
                before, whole = next(ids), next(ids)
                answer = self._ended(before, whole, one.answer)
                if answer[-1] not in self.stops:
                    raise OutcropError(f"the chat template {self.chat.name} ends a turn without a stop token")
                thread.add(before, answer)
            examples.append(thread.example())
        return examples

    def _ended(self, before: list[int], whole: list[int], answer: str) -> list[int]:
        """The ids that a model writes behind `before`: as the whole text has them, where a token begins there."""
        found = whole[len(before) :] if whole[: len(before)] == before else self.control.encode([answer])[0]
        for place, token in enumerate(found):
            if token in self.stops:
                return found[: place + 1]
        return found

    def _written(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of what the template wrote; the house's template leaves the start to the tokenizer."""
        start = () if self.chat.own else self.start
        return [[*start, *ids] for ids in self.control.encode(texts)]

    def _protected(self, turns: Sequence[Turn]) -> list[Turn]:
        texts = [self.control.protect(turn.text) for turn in turns]
        return [
            turn if text is turn.text else replace(turn, text=text) for turn, text in zip(turns, texts, strict=True)
        ]

    def _shielded(self, system: str | None) -> str | None:
        return None if system is None else self.control.protect(system)

    def _open(self, ids: list[int]) -> list[int]:
        length = len(self.start)
        if length and tuple(ids[length : 2 * length]) == self.start:
            # The text writes its start itself, as Llama's own prompts do; a second one would mean a new text.
            ids = ids[length:]
        return ids[:-1] if ids and ids[-1] == self.end and self._closes() else ids

    def _closes(self) -> bool:
        return self.tokenizer.encode("", add_special_tokens=True).ids[-1:] == [self.end]


class _Thread:
    """A conversation laid out: one segment for as long as each prompt goes on where the last answer ended."""

    def __init__(self) -> None:
        self._ids: list[int] = []
        self._scored = bytearray()
        self._segments: list[int] = []

    def add(self, before: list[int], answer: list[int]) -> None:
        """One exchange: the whole prompt, and the answer."""
        length = self._segments.pop() if self._segments else 0
        segment = self._ids[len(self._ids) - length :]
        if before[:length] != segment:
            self._segments.append(length)
            length = 0
        self._ids += [*before[length:], *answer]
        self._scored += bytes(len(before) - length) + b"\1" * len(answer)
        if not before:
            self._scored[-len(answer)] = 0
        self._segments.append(len(before) + len(answer))

    def example(self) -> Example:
        """What was laid out."""
        return Example(self._ids, bytes(self._scored), tuple(self._segments))


def _example(ids: list[int], labels: int) -> Example:
    """One segment, scored from place `labels` on."""
    return Example(ids, bytes(labels) + b"\1" * (len(ids) - labels), (len(ids),))


def _tokenizer(content: str, *, split: bool) -> Tokenizer:
    tokenizer = Tokenizer.from_str(content)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = split
    return tokenizer


def _start(tokenizer: Tokenizer) -> tuple[int, ...]:
    """What is put before a text."""
    bare, whole = (tokenizer.encode("a", add_special_tokens=added).ids for added in (False, True))
    places = range(len(whole) - len(bare) + 1)
    return tuple(next((whole[:place] for place in places if whole[place : place + len(bare)] == bare), []))


def _end(tokenizer: Tokenizer, settings: dict[str, Any], config: dict[str, Any], folder: Path) -> int:
    named = settings.get("eos_token")
    text = named.get("content") if isinstance(named, dict) else named
    found: Any = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if found is None:
        stated = _stated_ends(folder) or _numbers(config.get("eos_token_id"))
        found = stated[0] if stated else None
    if not isinstance(found, int):
        raise OutcropError(
            f"the base weights at {folder} name no end-of-text token (eos_token in tokenizer_config.json or "
            "eos_token_id in config.json), so a model tuned on them could never learn to stop"
        )
    return found


def _stated_ends(folder: Path) -> list[int]:
    return _numbers(read_object(folder / "generation_config.json").get("eos_token_id"))


def _numbers(stated: Any) -> list[int]:
    return list(stated) if isinstance(stated, list) else [] if stated is None else [stated]


def _context(config: dict[str, Any]) -> int | None:
    length = config.get("max_position_embeddings", config.get("text_config", {}).get("max_position_embeddings"))
    return int(length) if length else None
