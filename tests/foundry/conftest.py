"""What the foundry's tests share: the shipped base's folder and its tokenizer as transformers loads it."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def base() -> Path:
    """The folder of the bundled text base."""
    return ROOT / "outcrop" / "bases" / "text"


@pytest.fixture(scope="session")
def tokenizer(base: Path) -> PreTrainedTokenizerFast:
    """The base's tokenizer, loaded as any user of transformers loads it."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    loaded = AutoTokenizer.from_pretrained(base)
    assert isinstance(loaded, PreTrainedTokenizerFast)
    return loaded
