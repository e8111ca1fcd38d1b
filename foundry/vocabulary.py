"""The base's tokenizer: byte-pair merges within small pieces of text, and bytes for every character without a token.

Made so that copying is easy: digits, kanji and marks stand alone, a capitalised word is written the same after a
space as after a newline, and no merge crosses from one script into another. It knows pairs, not models.
"""

from collections.abc import Iterable
from json import loads

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from foundry.kanji import KANJI

PAD, BOS, EOS = "<|pad|>", "<|begin|>", "<|end|>"
SPECIAL = (PAD, BOS, EOS)

_PIECES = r"\p{Han}|\p{Hiragana}+|[\p{Katakana}ー]+|\p{N}| ?\p{Ll}+|\p{Lu}\p{Ll}*|\s|[^\s\p{L}\p{N}]"
_EVERYDAY = (
    "".join(map(chr, [*range(0x20, 0x7F), *range(0x3041, 0x3097), *range(0x30A1, 0x30FD)]))
    + "\n\t、。「」『』・〜!?()ー…“”‘’→☆"
)


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """Return the id of a token that must exist."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise KeyError(token)
    return int(found)


def learn(texts: Iterable[str], size: int) -> Tokenizer:
    """Learn a tokenizer of exactly `size` tokens from texts: specials first, then 256 bytes, characters, merges."""
    pieces = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    alphabet = sorted({*_EVERYDAY, *KANJI})
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pieces
    known = set(alphabet)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(SPECIAL) - 256,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
        max_token_length=16,
    )
    learner.train_from_iterator(("".join(c for c in text if c in known) for text in texts), trainer)
    learned = loads(learner.to_str())["model"]
    tokens = [
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *sorted(learned["vocab"], key=learned["vocab"].__getitem__),
    ]
    merges = [tuple(merge) for merge in learned["merges"]]
    result = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, byte_fallback=True))
    result.pre_tokenizer = pieces
    result.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    result.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokens.index(BOS))]
    )
    result.add_special_tokens(list(SPECIAL))
    return result
