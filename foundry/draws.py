"""Random draws of what prompts are made of: invented names, numbers, codes, words, scraps. It knows no task."""

from collections.abc import Callable
from random import Random

from foundry.kanji import KANJI
from foundry.words import EVERYDAY, EVERYDAY_JAPANESE, GIVEN, NOUNS


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = _words(
    """
    b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kr pl pr qu sh sk sl sn sp st str sw th tr tw
    wh kn sch y
    """
)
_VOWELS = _words("a e i o u a e i o ai ea ee ie oa oo ou au ei y")
_CODAS = (
    "",
    "",
    "",
    *_words("b ck d f g l ll m n nd ng nk nt p r rd rk rn rt s ss st t th x z son man ley ton field ez ski sen berg"),
)
_KATAKANA = _words(
    """
    ア イ ウ エ オ カ キ ク ケ コ サ シ ス セ ソ タ チ ツ テ ト ナ ニ ヌ ネ ノ ハ ヒ フ ヘ ホ マ ミ ム メ モ ヤ ユ
    ヨ ラ リ ル レ ロ ワ ン ガ ギ グ ゴ ザ ジ ズ ダ デ ド バ ビ ブ ベ ボ パ ピ プ ペ ポ キャ シュ ショ チェ ジョ
    フィ ー ッ
    """
)
_KANA = "".join(map(chr, (*range(0x3041, 0x3097), *range(0x30A1, 0x30FB))))
_SYMBOLS = "!#$%&*+-/=@^_~|<>?:;.,'`()[]{}、。「」『』()・〜…‘’“”☆☀★♪♥→←○●□■△▲※〒¥€£°±×÷" + '"'
_RARE = "éüñçßøåžłığαβγδλπωжяюфشمعלאगन한글國體龍鷗驛髙﨑𠮟😀🎉🚀🐱🍣👍🏽✈️"
_CODES = _words(
    """
    AA-9999 A99-A AAA999 9A9-99 AA.999 A-99999 99/AA/9 AAAA_99 A9A9A9 #99999 AAAA-9999 A99999-A AA-99999 AAA-99999
    """
)


def number(rng: Random, low: int = 1, high: int = 8) -> str:
    """Draw a decimal number of `low` to `high` digits that does not begin with 0."""
    return rng.choice("123456789") + "".join(rng.choice("0123456789") for _ in range(rng.randint(low, high) - 1))


def code(rng: Random) -> str:
    """Draw a reference such as `KX-4821`, `7Q2-R` or `TR.903`."""
    letters, digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
    shape = rng.choice(_CODES)
    return "".join(rng.choice(letters if c == "A" else digits) if c in "A9" else c for c in shape)


def invented(rng: Random) -> str:
    """Draw a pronounceable lower-case word that most likely does not exist."""
    syllables = rng.choice((1, 2, 2, 2, 3))
    return "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(syllables)) + rng.choice(_CODAS)


def latin_name(rng: Random) -> str:
    """Draw a capitalised name, mostly invented, sometimes of two words."""
    shape = rng.random()
    if shape < 0.2:
        return rng.choice(GIVEN)
    if shape < 0.3:
        return f"{rng.choice(GIVEN)} {invented(rng).capitalize()}"
    return invented(rng).capitalize()


def kanji(rng: Random, low: int, high: int) -> str:
    """Draw `low` to `high` everyday kanji, each as likely as any other."""
    return "".join(rng.choice(KANJI) for _ in range(rng.randint(low, high)))


def katakana(rng: Random) -> str:
    """Draw an invented word in katakana."""
    word = "".join(rng.choice(_KATAKANA) for _ in range(rng.randint(2, 5)))
    return word.lstrip("ーッン") or "アミ"


def japanese_name(rng: Random) -> str:
    """Draw a name as Japanese texts write them: mostly two kanji, else one, three or four, or katakana."""
    shape = rng.random()
    if shape < 0.1:
        return katakana(rng)
    return kanji(rng, *((2, 2) if shape < 0.7 else (1, 1) if shape < 0.8 else (3, 3) if shape < 0.95 else (4, 4)))


def _short_kana(rng: Random) -> str:
    return "".join(rng.choice(_KANA) for _ in range(rng.randint(1, 5)))


def _some(rng: Random, letters: str, most: int) -> str:
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, most)))


def _any_character(rng: Random) -> str:
    """Draw one to three characters from anywhere in Unicode's first planes, so that every byte is met."""
    planes = ((0x01, 0x7F), (0x80, 0x7FF), (0x800, 0xD7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2FFFF))
    return "".join(chr(rng.randint(*rng.choice(planes))) for _ in range(rng.randint(1, 3)))


def _slice(rng: Random) -> str:
    """Draw a piece of a word, so that also those tokens are met which mostly vanish into longer ones."""
    word = rng.choice((*EVERYDAY, *EVERYDAY, *EVERYDAY_JAPANESE, *GIVEN)) if rng.random() < 0.7 else invented(rng)
    cut = rng.randint(0, max(0, len(word) - 2))
    return word[cut : cut + rng.randint(2, 6)]


_SCRAPS: tuple[tuple[Callable[[Random], str], int], ...] = (
    (number, 2),
    (code, 2),
    (invented, 2),
    (latin_name, 2),
    (lambda rng: kanji(rng, 1, 4), 3),
    (katakana, 2),
    (_short_kana, 1),
    (lambda rng: _some(rng, _SYMBOLS, 3), 1),
    (lambda rng: _some(rng, _RARE, 2), 1),
    (_any_character, 1),
    (lambda rng: rng.choice(rng.choice(NOUNS)), 2),
    (lambda rng: rng.choice(EVERYDAY), 2),
    (lambda rng: rng.choice(EVERYDAY_JAPANESE), 3),
    (_slice, 4),
)
_SCRAP_KINDS = tuple(kind for kind, share in _SCRAPS for _ in range(share))


def scrap(rng: Random) -> str:
    """Draw one short thing to copy: anything from a word to a run of symbols or rare characters."""
    return rng.choice(_SCRAP_KINDS)(rng)
