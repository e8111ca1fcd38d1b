"""Text to token ids exactly as the served model will see them, without torch or transformers: quick to start.

Knows a Hugging Face folder's tokenizer files; nothing of datasets, training or of where a folder came from.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from outcrop.errors import OutcropError


@dataclass(frozen=True, slots=True)
class Encoder:
    """A base's tokenizer with its start, end and context rules.

    A prompt gets the start tokens that the tokenizer itself puts before a text (none for many models), because that is
    what every engine does to a prompt; a completion gets none, and the end token after it is the caller's to add.
    """

    tokenizer: Tokenizer
    end: int
    """The id that ends a text: the last label of every example, and what generation stops at."""
    context: int | None
    """Tokens in one sequence as config.json says; None where it names no limit."""
    fingerprint: str
    """SHA-256 of all that decides which ids a text becomes."""

    @classmethod
    def read(cls, folder: Path) -> "Encoder":
        """Read a Hugging Face folder; raises OutcropError for one without tokenizer.json or without an end token."""
        source = folder / "tokenizer.json"
        if not _read_json(source):
            raise OutcropError(f"the base weights have no tokenizer: {source} is missing or empty")
        content = source.read_bytes()
        tokenizer = Tokenizer.from_str(content.decode("utf-8"))
        settings = _read_json(folder / "tokenizer_config.json")
        config = _read_json(folder / "config.json")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        # As transformers does: with this, text that spells a control token is text, so data cannot forge one.
        tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens", False))
        end = _end(tokenizer, settings, config, folder)
        rules = json.dumps({"split": tokenizer.encode_special_tokens, "end": end}, sort_keys=True)
        digest = hashlib.sha256(content + rules.encode()).hexdigest()
        return cls(tokenizer=tokenizer, end=end, context=_context(config), fingerprint=digest)

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of prompts, start tokens included; an end token that the tokenizer adds by itself is taken off."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=True)
        return [self._open(encoding.ids) for encoding in found]

    def completions(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of completions, with nothing added at either side."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [list(encoding.ids) for encoding in found]

    def _open(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] == self.end and self._closes() else list(ids)

    def _closes(self) -> bool:
        return self.tokenizer.encode("", add_special_tokens=True).ids[-1:] == [self.end]


def _end(tokenizer: Tokenizer, settings: dict[str, Any], config: dict[str, Any], folder: Path) -> int:
    named = settings.get("eos_token")
    text = named.get("content") if isinstance(named, dict) else named
    found: Any = tokenizer.token_to_id(text) if isinstance(text, str) else None
    if found is None:
        stated = _read_json(folder / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
        found = stated[0] if isinstance(stated, list) and stated else stated
    if not isinstance(found, int):
        raise OutcropError(
            f"the base weights at {folder} name no end-of-text token (eos_token in tokenizer_config.json or "
            "eos_token_id in config.json), so a model tuned on them could never learn to stop"
        )
    return found


def _context(config: dict[str, Any]) -> int | None:
    length = config.get("max_position_embeddings", config.get("text_config", {}).get("max_position_embeddings"))
    return int(length) if length else None


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, empty where there is no file; raises OutcropError for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise OutcropError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise OutcropError(f"{path} holds no JSON object")
    return found
