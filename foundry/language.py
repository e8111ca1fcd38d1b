"""The other tasks of a small assistant: translation, sentiment, summaries, questions on a short text, stories.

Sentences are built from the bilingual word lists; they say nothing true or false about the world.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from foundry.copying import gap
from foundry.draws import japanese_name, latin_name, number
from foundry.pairs import Pair
from foundry.words import ADJECTIVES, DAYS, FRENCH, GIVEN, NOUNS, PHRASES, PLACES, VERBS

_TO_JAPANESE = (
    "Translate to Japanese: {x}\n",
    "English: {x}\nJapanese:",
    "日本語に訳してください: {x}\n",
    "英語: {x}\n日本語:",
    "Q: How do you say “{x}” in Japanese?\nA:",
)
_TO_ENGLISH = (
    "Translate to English: {x}\n",
    "Japanese: {x}\nEnglish:",
    "英語に訳してください: {x}\n",
    "日本語: {x}\n英語:",
    "Q: What does 「{x}」 mean?\nA:",
)
_TO_FRENCH = ("フランス語に翻訳: {x}\n", "Translate to French: {x}\n", "English: {x}\nFrench:")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that somebody did, in both languages (English first), and the parts that may be asked for."""

    sentence: tuple[str, str]
    parts: Mapping[str, tuple[str, ...]]


def _event(rng: Random) -> Event:
    name = rng.choice(GIVEN) if rng.random() < 0.6 else latin_name(rng)
    adjective, noun, verb = rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(VERBS)
    place, day, amount = rng.choice(PLACES), rng.choice(DAYS), number(rng, 1, 3)
    at = "in" if place[0][0].isupper() else "at"
    on = "on " if day[0][0].isupper() else ""
    article = "an" if adjective[0][0] in "aeiou" else "a"
    parts: dict[str, tuple[str, ...]] = {"who": (name, name), "what": noun}
    form = rng.randrange(4)
    if form == 0:
        english = f"{name} {verb[1]} {article} {adjective[0]} {noun[0]}."
        return Event((english, f"{name}は{adjective[1]}{noun[1]}を{verb[2]}ました。"), parts)
    parts["where"] = place
    if form == 1:
        english = f"{name} {verb[1]} the {noun[0]} {at} {place[0]}."
        return Event((english, f"{name}は{place[1]}で{noun[1]}を{verb[2]}ました。"), parts)
    if form == 2:
        english = f"{name} {verb[1]} the {adjective[0]} {noun[0]} {at} {place[0]} {on}{day[0]}."
        japanese = f"{name}は{day[1]}、{place[1]}で{adjective[1]}{noun[1]}を{verb[2]}ました。"
        return Event((english, japanese), parts | {"when": day})
    english = f"{name} paid {amount} yen for the {noun[0]} {at} {place[0]}."
    japanese = f"{name}は{place[1]}で{noun[1]}に{amount}円を払いました。"
    return Event((english, japanese), parts | {"amount": (amount, amount)})


def translation(rng: Random) -> Pair:
    """A sentence, a phrase or a word, from English to Japanese, back, or to French."""
    if rng.random() < 0.08:
        english, french = rng.choice(FRENCH)
        return Pair(rng.choice(_TO_FRENCH).replace("{x}", english), gap(rng) + french)
    kind = rng.random()
    if kind < 0.15:
        english, japanese = rng.choice(PHRASES)
    elif kind < 0.3:
        english, japanese = rng.choice(rng.choice((NOUNS, ADJECTIVES, PLACES, DAYS)))
    else:
        english, japanese = _event(rng).sentence
    if rng.random() < 0.5:
        return Pair(rng.choice(_TO_JAPANESE).replace("{x}", english), gap(rng) + japanese)
    return Pair(rng.choice(_TO_ENGLISH).replace("{x}", japanese), gap(rng) + english)


_OPINIONS = {
    "positive": (
        (
            "I love this {i}.",
            "The {i} works very well.",
            "Great {i}, great price.",
            "Best {i} I ever had.",
            "My family enjoys the {i}.",
            "Fast and friendly, thank you.",
        ),
        (
            "この{i}が大好きです。",
            "{i}はとても良いです。",
            "安くて素晴らしい{i}でした。",
            "最高の{i}です。",
            "家族も{i}に喜んでいます。",
            "対応が早くて感動しました。",
        ),
    ),
    "negative": (
        (
            "I hate this {i}.",
            "The {i} stopped working.",
            "Bad {i}, too expensive.",
            "Worst {i} I ever had.",
            "The {i} was dirty.",
            "Nobody answered my call.",
        ),
        (
            "この{i}は嫌いです。",
            "{i}がすぐ動かなくなりました。",
            "高いだけでひどい{i}でした。",
            "最悪の{i}です。",
            "{i}が汚れていました。",
            "電話に誰も出ません。",
        ),
    ),
    "neutral": (
        (
            "The {i} is {a}.",
            "I have a {i}.",
            "It is a {a} {i}.",
            "The {i} came in a box.",
            "I use the {i} at times.",
            "There is a {i} in the shop.",
        ),
        (
            "{i}は{a}ものです。",
            "{i}を持っています。",
            "{a}{i}です。",
            "{i}は箱に入っていました。",
            "時々{i}を使います。",
            "店に{i}があります。",
        ),
    ),
}
_FEELINGS = {"positive": "ポジティブ", "negative": "ネガティブ", "neutral": "中立"}


def sentiment(rng: Random) -> Pair:
    """An opinion and its label."""
    japanese = rng.random() < 0.5
    label = rng.choice(list(_OPINIONS))
    lines = rng.sample(_OPINIONS[label][japanese], rng.choice((1, 1, 2)))
    text = ("" if japanese else " ").join(lines)
    text = text.replace("{i}", rng.choice(NOUNS)[japanese]).replace("{a}", rng.choice(ADJECTIVES)[japanese])
    heads = (
        ("感情を分類: {x}\n", "レビュー: {x}\n感情:", "次の文はポジティブ、ネガティブ、中立のどれですか?\n{x}\n答え:")
        if japanese
        else (
            "Review: {x}\nSentiment:",
            "Classify the sentiment: {x}\nLabel:",
            "Is this positive, negative or neutral?\n{x}\nAnswer:",
        )
    )
    return Pair(rng.choice(heads).replace("{x}", text), gap(rng) + (_FEELINGS[label] if japanese else label))


_QUESTIONS = {
    "who": ("Who was it?", "誰ですか?"),
    "what": ("Which thing?", "どの品物ですか?"),
    "where": ("Where?", "どこですか?"),
    "when": ("When?", "いつですか?"),
    "amount": ("How many yen?", "何円ですか?"),
}


def question(rng: Random) -> Pair:
    """A text of one to three sentences and a question whose answer stands in its first or last one."""
    japanese = rng.random() < 0.5
    events = [_event(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
    text = ("" if japanese else " ").join(event.sentence[japanese] for event in events)
    parts = rng.choice((events[0], events[-1])).parts
    asked = rng.choice(list(parts))
    if len(events) > 1:
        asked = "what" if asked == "who" else asked
        words = f"{parts['who'][0]}: {_QUESTIONS[asked][japanese]}"
    else:
        words = _QUESTIONS[asked][japanese]
    heads = (
        ("文: {t}\n質問: {q}\n答え:", "{t}\n{q}\n")
        if japanese
        else ("Text: {t}\nQuestion: {q}\nAnswer:", "{t}\n{q}\n", "Q: {t} {q}\nA:")
    )
    head = rng.choice(heads).replace("{q}", words).replace("{t}", text)
    return Pair(head, gap(rng) + parts[asked][japanese])


def summary(rng: Random) -> Pair:
    """A note of some sentences and one line that keeps who and what."""
    japanese = rng.random() < 0.5
    name = japanese_name(rng) if japanese else latin_name(rng)
    noun, place, day = (rng.choice(rows)[japanese] for rows in (NOUNS, PLACES, DAYS))
    amount = number(rng, 2, 5)
    if japanese:
        sentences = [
            f"{name}さんから{noun}の注文がありました。",
            f"受け取りは{place}です。",
            f"代金は{amount}円です。",
            f"連絡は{day}に来ました。",
        ]
        result = f"{name}さん、{noun}、{place}、{amount}円。"
        heads = ("このドキュメントを要約してください: {t}\n", "文: {t}\n要約:", "要約してください。\n{t}\n→")
    else:
        sentences = [
            f"{name} ordered a {noun}.",
            f"It goes to {place}.",
            f"The price is {amount} yen.",
            f"We heard about it {day}.",
        ]
        result = f"{name}, {noun}, {place}, {amount} yen."
        heads = ("Summarize: {t}\n", "Text: {t}\nSummary:", "Note: {t}\nTL;DR:")
    rest = sentences[1:]
    rng.shuffle(rest)
    text = ("" if japanese else " ").join(sentences[:1] + rest)
    return Pair(rng.choice(heads).replace("{t}", text), gap(rng) + result)


def story(rng: Random) -> Pair:
    """A few plain sentences without a question: running text in one language."""
    japanese = rng.random() < 0.5
    lines = [_event(rng).sentence[japanese] for _ in range(rng.randint(2, 5))] + [rng.choice(PHRASES)[japanese]]
    rng.shuffle(lines)
    return Pair("", ("" if japanese else " ").join(lines))
