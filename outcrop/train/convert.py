"""A tokenizer.json from older tokenizer files: python -m outcrop.train.convert FOLDER TARGET.

A child process, because only transformers can read the older forms (vocab.json and merges.txt, tokenizer.model). What
it writes is read back and must give the same ids as the tokenizer that it was made from.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from outcrop import weights
from outcrop.errors import OutcropError
from outcrop.train.leave import leave

SAMPLES: Final = ("Hello, world!  Where is my parcel?", "配送が遅れています。", "naïve café\n\t1234567890", "😀 ok")


def convert(folder: Path, target: Path) -> None:
    """Write tokenizer.json into `target`; raises OutcropError where transformers cannot read the folder's tokenizer."""
    tokenizer = weights.load_tokenizer(folder)
    if not getattr(tokenizer, "is_fast", False):
        raise OutcropError(f"{type(tokenizer).__name__} has no form that tokenizer.json could hold")
    with tempfile.TemporaryDirectory() as draft:
        tokenizer.save_pretrained(draft)
        written = Tokenizer.from_file(str(Path(draft) / "tokenizer.json"))
        for sample in SAMPLES:
            if written.encode(sample).ids != tokenizer(sample)["input_ids"]:
                raise OutcropError(f"the tokenizer of {folder} changes when it is converted: {sample!r} gets other ids")
        # Without the configuration beside it, nobody would know the end token that the older files imply.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            if not (target / name).exists():
                shutil.copyfile(Path(draft) / name, target / name)


def main(arguments: Sequence[str]) -> int:
    """Convert one folder. Exit status 0, or 1 with a sentence on standard error."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        convert(Path(arguments[0]), Path(arguments[1]))
    except (OutcropError, ImportError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
