"""Tasks whose answer stands in the prompt: repeat, look up, fill in, go on with a pattern. They teach a base to copy.

It knows the words and the pair; every maker draws one pair from a random generator.
"""

from collections.abc import Callable
from random import Random

from foundry.draws import code, invented, japanese_name, kanji, katakana, latin_name, number, scrap
from foundry.pairs import Pair
from foundry.words import DAYS, EVERYDAY, EVERYDAY_JAPANESE, NOUNS, PLACES

_ECHOES = (
    "Repeat after me: {x}\nAnswer:",
    "Say this again: {x}\n",
    "Copy the text.\nText: {x}\nCopy:",
    "User: Please repeat “{x}”.\nBot:",
    "Q: Write exactly: {x}\nA:",
    "echo {x}\n>",
    "次の文字をそのまま書いてください: {x}\n答え:",
    "「{x}」と言ってください。\n",
    "復唱: {x}\n→",
    "ユーザー: 「{x}」を繰り返して。\nボット:",
    "{x}\n{x}\n",
)


def gap(rng: Random) -> str:
    """Draw what separates a prompt from its completion: mostly one space, at times nothing."""
    return " " if rng.random() < 0.75 else ""


def echo(rng: Random) -> Pair:
    """One to twelve scraps, said again."""
    joint = rng.choice((" ", " ", "", ", ", "、", " / "))
    text = joint.join(scrap(rng) for _ in range(rng.choice((1, 1, 2, 3, 4, 6, 8, 12))))
    return Pair(rng.choice(_ECHOES).replace("{x}", text), gap(rng) + text)


def recurrence(rng: Random) -> Pair:
    """A run of random scraps that comes back in the same order: the plainest exercise for copying."""
    items = [scrap(rng) for _ in range(rng.randint(4, 14))]
    joint = rng.choice((" ", "\n", "; ", "、", " - "))
    start = rng.randint(1, len(items) - 1)
    shown = joint.join(items)
    if rng.random() < 0.5:
        return Pair(f"{shown}\n{joint.join(items[:start])}{joint}".rstrip(" "), gap(rng) + joint.join(items[start:]))
    return Pair(f"{shown}{joint}{shown}{joint}{items[0]}{joint}".rstrip(" "), gap(rng) + joint.join(items[1:]))


_FIELDS: tuple[tuple[tuple[str, str], Callable[[Random], str]], ...] = (
    (("name", "名前"), latin_name),
    (("customer", "お客様"), japanese_name),
    (("order", "注文番号"), lambda r: number(r, 3, 7)),
    (("code", "コード"), code),
    (("city", "都市"), lambda r: r.choice(r.choice(PLACES))),
    (("item", "商品"), lambda r: r.choice(r.choice(NOUNS))),
    (("day", "曜日"), lambda r: r.choice(r.choice(DAYS))),
    (("price", "値段"), lambda r: number(r, 2, 5)),
    (("phone", "電話番号"), lambda r: "0" + number(r, 8, 9)),
    (("room", "部屋"), lambda r: number(r, 2, 3)),
    (("agent", "担当者"), japanese_name),
    (("team", "チーム"), katakana),
    (("key", "合言葉"), invented),
    (("owner", "持ち主"), latin_name),
    (("place", "場所"), lambda r: kanji(r, 2, 3) + r.choice("市町村区")),
)


_ASKING = {
    False: ("\nWhat is the {q}?\nAnswer:", "\nQ: Which {q}?\nA:", "\n{q}?\n", "\nCustomer: Tell me the {q}.\nAgent:"),
    True: (
        "\n{q}は何ですか?\n答え:",
        "\n質問: {q}を教えてください。\n回答:",
        "\n{q}は?\n",
        "\nお客様: {q}を教えて。\nエージェント:",
    ),
}
_ANSWERING = {
    False: ("{v}", "{v}", "It is {v}.", "The {q} is {v}."),
    True: ("{v}", "{v}", "{v}です。", "{q}は{v}です。"),
}


def lookup(rng: Random) -> Pair:
    """A small table of fields and the question for one or two of them."""
    japanese = rng.random() < 0.5
    rows = rng.sample(_FIELDS, rng.randint(2, 6))
    cells = [(names[japanese], draw(rng)) for names, draw in rows]
    mark = rng.choice((": ", "=", ":", " - "))
    table = rng.choice(("\n", "\n", ", ", "; ", "、")).join(label + mark + value for label, value in cells)
    asked = rng.sample(cells, rng.choice((1, 1, 2)))
    joint = "と" if japanese else " and "
    query, value = (joint.join(part) for part in zip(*asked, strict=True))
    answer = rng.choice(_ANSWERING[japanese]).replace("{q}", query).replace("{v}", value)
    return Pair(table + rng.choice(_ASKING[japanese]).replace("{q}", query), gap(rng) + answer)


def dictionary(rng: Random) -> Pair:
    """Invented words with their meanings, then some of them asked again, in any order."""
    count = rng.randint(2, 8)
    keys = list(dict.fromkeys(scrap(rng) for _ in range(count)))
    values = [scrap(rng) for _ in keys]
    arrow = rng.choice((" -> ", " = ", ": ", " => ", "→", " means ", "は"))
    entries = dict(zip(keys, values, strict=True))
    asked = rng.sample(keys, min(len(keys), rng.randint(1, 4)))
    lines = [f"{k}{arrow}{entries[k]}" for k in keys + asked]
    head, last = "\n".join(lines[:-1]), asked[-1]
    tail = arrow.rstrip(" ")
    return Pair(f"{head}\n{last}{tail}", arrow[len(tail) :] + entries[last])


def _filler(rng: Random, japanese: bool) -> str:
    count = rng.randint(1, 5)
    if japanese:
        kinds = (lambda: rng.choice(EVERYDAY_JAPANESE),) * 6 + (lambda: kanji(rng, 1, 2), lambda: katakana(rng))
        return "".join(rng.choice(kinds)() for _ in range(count))
    return " ".join(rng.choice(EVERYDAY) if rng.random() < 0.85 else invented(rng) for _ in range(count))


def _shape(rng: Random, slots: list[str], japanese: bool) -> str:
    """Draw a template nobody has seen: invented wording around the slots, each used once or twice."""
    used = slots + [s for s in slots if rng.random() < 0.3]
    rng.shuffle(used)
    parts = [_filler(rng, japanese)] if rng.random() < 0.7 else []
    for slot in used:
        mark = rng.choice(("{%s}",) * 5 + ("“{%s}”", "({%s})", "No.{%s}", "「{%s}」", "R-{%s}", "{%s}-X", "#{%s}"))
        parts += [mark % slot, _filler(rng, japanese)]
    text = ("" if japanese else " ").join(parts)
    return text if japanese else text + rng.choice((".", "!", "", "."))


def _values(rng: Random, slots: list[str], japanese: bool) -> dict[str, str]:
    draws: dict[str, Callable[[], str]] = {
        "name": lambda: japanese_name(rng) if japanese else latin_name(rng),
        "number": lambda: number(rng, 3, 6),
        "item": lambda: (
            rng.choice(NOUNS)[japanese] if rng.random() < 0.7 else katakana(rng) if japanese else invented(rng)
        ),
        "place": lambda: (
            rng.choice(PLACES)[japanese] if rng.random() < 0.5 else kanji(rng, 2, 3) if japanese else latin_name(rng)
        ),
    }
    return {slot: draws[slot]() for slot in slots}


def _render(shape: str, values: dict[str, str]) -> str:
    for slot, value in values.items():
        shape = shape.replace("{" + slot + "}", value)
    return shape


def _slots(rng: Random) -> list[str]:
    return rng.sample(("name", "number", "item", "place"), rng.choice((1, 2, 2, 2, 3, 3, 4)))


def template(rng: Random) -> Pair:
    """A template with named slots and their values: the filled-in template is the answer."""
    japanese = rng.random() < 0.5
    slots = _slots(rng)
    shape, values = _shape(rng, slots, japanese), _values(rng, slots, japanese)
    facts = rng.choice(("\n", ", ", "; ")).join(
        f"{slot}{rng.choice(('=', ': '))}{value}" for slot, value in values.items()
    )
    heads = (
        ("型: {t}\n{f}\n文:", "次の型に入れてください。\n{t}\n{f}\n→")
        if japanese
        else ("Template: {t}\n{f}\nText:", "Fill in: {t}\n{f}\nResult:")
    )
    return Pair(rng.choice(heads).replace("{f}", facts).replace("{t}", shape), gap(rng) + _render(shape, values))


_SPEAKERS = (
    ("お客様: ", "エージェント:"),
    ("Customer: ", "Agent:"),
    ("User: ", "Bot:"),
    ("Q: ", "A:"),
    ("Input: ", "Output:"),
    ("入力: ", "出力:"),
    ("質問: ", "回答:"),
    ("", "->"),
    ("Human: ", "Assistant:"),
    ("客: ", "店:"),
)


def pattern(rng: Random) -> Pair:
    """A few examples of one invented question shape and one invented answer shape, then a new case to answer."""
    japanese = rng.random() < 0.5
    slots = _slots(rng)
    question, answer = _shape(rng, slots, japanese), _shape(rng, slots, japanese)
    asker, answerer = rng.choice(_SPEAKERS)
    space = gap(rng)
    turns = []
    for _ in range(rng.randint(2, 4)):
        values = _values(rng, slots, japanese)
        turns.append((f"{asker}{_render(question, values)}\n{answerer}", space + _render(answer, values)))
    joint = rng.choice(("\n\n", "\n"))
    shown = joint.join(q + a for q, a in turns[:-1])
    return Pair(f"{shown}{joint}{turns[-1][0]}", turns[-1][1])


def styled(rng: Random) -> Pair:
    """Several invented answer styles, each bound to a word; the case names one, and the answer fills it in."""
    japanese = rng.random() < 0.5
    slots = _slots(rng)
    words = list(dict.fromkeys(katakana(rng) if japanese else invented(rng) for _ in range(rng.randint(2, 4))))
    shapes = {word: _shape(rng, slots, japanese) for word in words}
    chosen = rng.choice(words)
    values = _values(rng, slots, japanese)
    asker, answerer = rng.choice(_SPEAKERS)
    facts = rng.choice((" ", ", ", "、")).join(f"{slot}={value}" for slot, value in values.items())
    rules = "\n".join(f"{word}: {shape}" for word, shape in shapes.items())
    return Pair(f"{rules}\n{asker}{chosen} {facts}\n{answerer}", gap(rng) + _render(shapes[chosen], values))
