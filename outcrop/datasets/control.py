"""Control tokens in conversations: what a template writes is one, what somebody's text spells is text.

A text is protected before a template writes it, so that its `<|im_end|>` can still be told from the template's own.
Knows the tokenizers library; nothing of templates, datasets or models.
"""

import json
import re
import secrets
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

from tokenizers import Tokenizer

MARK: Final = "\ufdd0"
"""Stands within what only looks like a control token. Unicode promises that no text needs this character; in one that
has it anyway it is doubled."""

_MARKS: Final = re.compile(f"{MARK}({MARK}?)")


class ControlTokens:
    """The control tokens of one tokenizer; encodes texts that were protected where they had to be."""

    def __init__(self, content: str, tokenizer: Tokenizer) -> None:
        """`content` is tokenizer.json's text; `tokenizer` is made of it and takes control tokens in a text as such."""
        self._content, self._tokenizer = content, tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        # One of a single character has no inside for a mark; nobody would write it as text by chance either.
        spelled = sorted((token.content for token in added if token.special and token.content[1:]), key=len)
        self._pattern = re.compile("|".join(map(re.escape, reversed(spelled))) or r"(?!)")
        # Nobody can guess these, so no text can spell them.
        self._disguises = {text: f"\ufdd1{secrets.token_hex(8)}\ufdd2" for text in spelled}

    def protect(self, text: str) -> str:
        """The text with marks in it where it spells a control token; nearly always the text itself."""
        if MARK in text:
            text = text.replace(MARK, MARK * 2)
        elif self._pattern.search(text) is None:
            return text
        return self._pattern.sub(lambda match: match.group()[0] + MARK + match.group()[1:], text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts, with nothing added; marks are taken out, and what they stood in is text."""
        plain = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [
            self._guarded.encode(self._disguise(text), add_special_tokens=False).ids if MARK in text else encoding.ids
            for text, encoding in zip(texts, plain, strict=True)
        ]

    def _disguise(self, text: str) -> str:
        disguised = self._pattern.sub(lambda match: self._disguises[match.group()], text)
        return _MARKS.sub(r"\1", disguised)

    @cached_property
    def _guarded(self) -> Tokenizer:
        """The same tokenizer with its control tokens spelled as nobody spells them; the ids are the same.

        Only the spelling differs, so that everything about it (what is stripped beside a control token, what is put
        before a text) stays as its authors set it.
        """
        document: dict[str, Any] = json.loads(self._content)
        for token in document["added_tokens"]:
            token["content"] = self._disguises.get(token["content"], token["content"])
        model = document["model"]
        vocabulary = model.get("vocab")
        if isinstance(vocabulary, dict):
            model["vocab"] = {self._disguises.get(text, text): number for text, number in vocabulary.items()}
        elif isinstance(vocabulary, list):
            model["vocab"] = [[self._disguises.get(text, text), score] for text, score in vocabulary]
        if model.get("unk_token") in self._disguises:
            model["unk_token"] = self._disguises[model["unk_token"]]
        tokenizer = Tokenizer.from_str(json.dumps(document))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer
