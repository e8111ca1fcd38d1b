"""Which files of a model's home are fetched: weights, configuration, tokenizer; no code, no pickles, no second copies.

Pure: names in, names out. The same for a hub's repository and a bucket's prefix.
"""

from collections.abc import Collection
from fnmatch import fnmatch
from typing import Final

from outcrop.errors import OutcropError
from outcrop.sources.look import OTHER_FORMS

TAKEN: Final = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "USE_POLICY*")
LEFT: Final = ("consolidated*.safetensors", "adapter_*", "*.onnx.json", "*.gguf.json")
"""The same weights once more in their maker's own layout, and adapters that transformers would attach by itself."""


def choose(names: Collection[str], home: str) -> list[str]:
    """The files to fetch of those that lie at `home`, by their paths in it.

    Raises OutcropError where they are no model in Hugging Face layout that can be fetched.
    """
    here = sorted(name for name in names if "/" not in name)
    if "config.json" not in here:
        inner = sorted({name.removesuffix("/config.json") for name in names if name.endswith("/config.json")})
        hint = (
            f"; there is one in {', '.join(inner[:3])}" if inner else f"; it holds {', '.join(here[:5]) or 'nothing'}"
        )
        raise OutcropError(f"weights {home}: there is no config.json (Hugging Face layout){hint}")
    taken = [name for name in here if _any(name, TAKEN) and not _any(name, LEFT)]
    if not any(name.endswith(".safetensors") for name in taken):
        forms = [meaning for pattern, meaning in OTHER_FORMS.items() if any(fnmatch(name, pattern) for name in here)]
        raise OutcropError(
            f"weights {home}: there are no safetensors files" + (f", only {forms[0]}" if forms else "") + ". "
            "Take a revision or another repository that has them"
        )
    return taken


def _any(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
