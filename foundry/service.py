"""Customer service as the base learns it: what customers write in two languages, and plain, generic answers to it.

The wording is the foundry's own. A test holds that none of the demo's replies stands here.
"""

from collections.abc import Mapping
from random import Random

from foundry.copying import gap
from foundry.draws import code, japanese_name, latin_name, number
from foundry.pairs import Pair
from foundry.words import DAYS, NOUNS, PLACES

# One row a matter: its label, what the customer may write, what a plain agent answers.
# Slots: {n} name, {o} order number, {i} item, {p} place, {d} day, {c} code.
_ENGLISH: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "damage": (
        (
            "the {i} arrived broken",
            "my {i} from order {o} is cracked",
            "the parcel {o} came damaged",
            "there is a dent in the {i}, order {o}",
        ),
        (
            "I am sorry about the {i}, {n}. Could you send a photo of it?",
            "That should not happen, {n}. We will check parcel {o}.",
        ),
    ),
    "late": (
        (
            "where is my order {o}?",
            "order {o} has not come yet",
            "I still wait for the {i}, number {o}",
            "when will {o} get to {p}?",
        ),
        (
            "Order {o} is on its way, {n}.",
            "Thank you for waiting, {n}. Let me look up {o} for you.",
            "It should reach {p} by {d}.",
        ),
    ),
    "return": (
        (
            "how do I return the {i}?",
            "I would like to give back order {o}",
            "the {i} does not fit, number {o}",
            "I changed my mind about the {i}",
        ),
        (
            "You can return the {i} within two weeks, {n}.",
            "Please write {o} on the box and bring it to the post office.",
        ),
    ),
    "refund": (
        (
            "I want my money back for {o}",
            "please refund the {i}",
            "when do I get the refund for order {o}?",
            "no refund came for {o}",
        ),
        ("The money for {o} is on its way, {n}.", "I will ask our accounting about {o} right now."),
    ),
    "cancel": (
        (
            "please cancel order {o}",
            "I do not need the {i} any more, stop {o}",
            "can I still cancel number {o}?",
            "cancel it: {o}",
        ),
        (
            "I have stopped order {o}, {n}.",
            "It has not left yet, so {o} can be stopped.",
            "Done. Is there anything else, {n}?",
        ),
    ),
    "address": (
        (
            "I moved to {p}, please send {o} there",
            "wrong address on order {o}",
            "can you deliver the {i} to {p}?",
            "my new address is in {p}",
        ),
        ("We will send it to {p}.", "Thank you, {n}. The address of {o} is now {p}.", "I have noted {p}."),
    ),
    "account": (
        ("I cannot log in", "I forgot my password", "my account {c} is locked", "the app says code {c}"),
        (
            "Please use the link in our mail to set a new password.",
            "Code {c} means that the app is old. Please update it, {n}.",
        ),
    ),
    "bill": (
        (
            "I was charged twice for {o}",
            "the bill for {o} is wrong",
            "please send the invoice of {o}",
            "my card was refused for order {o}",
        ),
        (
            "I see two payments for {o}. One will be removed.",
            "The invoice of {o} is in your mail now.",
            "Please try another card, {n}.",
        ),
    ),
    "question": (
        (
            "do you have the {i} in stock?",
            "is the {i} waterproof?",
            "how long does the {i} last?",
            "what does the {i} cost?",
        ),
        ("Yes, the {i} is in stock, {n}.", "I will ask about the {i}, {n}.", "Let me check that for you, {n}."),
    ),
    "thanks": (
        ("thank you, the {i} is great", "all is well with {o}, thanks", "great service", "you helped me a lot"),
        ("We are glad that you like the {i}, {n}.", "Thank you, {n}. Have a good day.", "It was a pleasure."),
    ),
}

_JAPANESE: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "破損": (
        (
            "届いた{i}が壊れていました",
            "注文{o}の{i}にひびがあります",
            "荷物{o}の箱がつぶれています",
            "{i}に傷がありました。番号は{o}です",
        ),
        ("{n}さん、ご不便をおかけしております。{i}の写真をいただけますか?", "{n}さん、荷物{o}をこちらで調べます。"),
    ),
    "配送": (
        ("注文{o}はどこですか?", "{o}がまだ届きません", "{i}を待っています。番号{o}です", "{o}はいつ{p}に着きますか?"),
        (
            "{n}さん、{o}は配達中です。",
            "お待たせしております、{n}さん。{o}を確認します。",
            "{d}までに{p}へ着く予定です。",
        ),
    ),
    "返品": (
        (
            "{i}を返したいです",
            "注文{o}の返品方法を教えてください",
            "{i}の大きさが合いません。番号{o}",
            "やはり{i}は要りません",
        ),
        ("{i}は二週間以内なら返せます、{n}さん。", "箱に{o}と書いて、郵便局へお持ちください。"),
    ),
    "返金": (
        (
            "{o}のお金を返してください",
            "{i}の代金を戻してもらえますか",
            "注文{o}の返金はいつですか?",
            "{o}の返金がまだです",
        ),
        ("{n}さん、{o}のお金は送金中です。", "{o}について、すぐに経理へ聞いてみます。"),
    ),
    "取消": (
        (
            "注文{o}を取り消してください",
            "{i}はもう要りません。{o}を止めてください",
            "{o}はまだ取り消せますか?",
            "キャンセルしたいです、{o}です",
        ),
        (
            "{n}さん、注文{o}を止めました。",
            "まだ出荷前なので、{o}は止められます。",
            "終わりました。ほかにご用はありますか、{n}さん?",
        ),
    ),
    "住所": (
        (
            "{p}に引っ越しました。{o}をそちらへ送ってください",
            "注文{o}の住所が違います",
            "{i}を{p}に届けられますか?",
            "新しい住所は{p}です",
        ),
        ("{p}へ送ります。", "{n}さん、{o}の宛先は{p}になりました。", "{p}と記録しました。"),
    ),
    "会員": (
        ("ログインできません", "パスワードを忘れました", "会員{c}が使えません", "アプリに{c}と出ます"),
        (
            "メールのリンクから新しいパスワードを決めてください。",
            "{c}はアプリが古いという意味です。更新をお願いします、{n}さん。",
        ),
    ),
    "請求": (
        (
            "{o}の代金が二回引かれました",
            "{o}の請求額が違います",
            "{o}の領収書をください",
            "注文{o}でカードが使えません",
        ),
        (
            "{o}の支払いが二つあります。一つを消します。",
            "{o}の領収書をメールで送りました。",
            "別のカードをお試しください、{n}さん。",
        ),
    ),
    "質問": (
        ("{i}の在庫はありますか?", "{i}は水に強いですか?", "{i}はどのくらい持ちますか?", "{i}はいくらですか?"),
        (
            "はい、{i}の在庫はあります、{n}さん。",
            "{n}さん、{i}について聞いてみます。",
            "調べますので、少しお時間をください、{n}さん。",
        ),
    ),
    "お礼": (
        ("ありがとう、{i}はとても良いです", "{o}は問題ありません。ありがとう", "素晴らしい対応でした", "助かりました"),
        (
            "{i}を気に入っていただけて何よりです、{n}さん。",
            "{n}さん、こちらこそ感謝します。良い一日を。",
            "お役に立ててうれしいです。",
        ),
    ),
}

_SIGNS = {
    False: ("", " I am {n}.", " This is {n}.", " My name is {n}.", " - {n}", " {n} here."),
    True: ("", "。{n}です。", "。{n}と申します。", "。名前は{n}です。", "({n})", "。こちらは{n}。"),
}
_SPEAKERS = {
    False: (("Customer: ", "\nAgent:"), ("User: ", "\nBot:"), ("Q: ", "\nA:"), ("", "\n"), ("Client: ", "\nSupport:")),
    True: (
        ("お客様: ", "\nエージェント:"),
        ("ユーザー: ", "\nボット:"),
        ("質問: ", "\n回答:"),
        ("", "\n"),
        ("客: ", "\n店員:"),
    ),
}


def _values(rng: Random, japanese: bool) -> dict[str, str]:
    return {
        "{n}": japanese_name(rng) if japanese else latin_name(rng),
        "{o}": ("" if japanese else rng.choice(("", "", "#")))
        + (number(rng, 3, 7) if rng.random() < 0.8 else code(rng)),
        "{i}": rng.choice(NOUNS)[japanese],
        "{p}": rng.choice(PLACES)[japanese],
        "{d}": rng.choice(DAYS)[japanese],
        "{c}": code(rng),
    }


def _fill(text: str, values: Mapping[str, str]) -> str:
    for slot, value in values.items():
        text = text.replace(slot, value)
    return text


def _message(rng: Random, japanese: bool, text: str) -> str:
    sign = rng.choice(_SIGNS[japanese])
    if not japanese:
        text = (text[0].upper() + text[1:]) if rng.random() < 0.7 else text
        text += "" if text.endswith("?") else "."
    elif sign.startswith("。") and text.endswith("?"):
        sign = sign[1:]
    if rng.random() < 0.2 and sign:
        return ("{n}です。" if japanese else "{n} here. ") + text
    return text + sign


def reply(rng: Random) -> Pair:
    """A customer's message and a plain answer to it."""
    japanese = rng.random() < 0.5
    questions, answers = rng.choice(list((_JAPANESE if japanese else _ENGLISH).values()))
    values = _values(rng, japanese)
    answer = rng.choice(answers)
    message = _message(rng, japanese, rng.choice(questions))
    if "{n}" in answer and "{n}" not in message:
        message += _SIGNS[japanese][2]
    missing = [slot for slot in ("{o}", "{i}", "{p}", "{c}") if slot in answer and slot not in message]
    for slot in missing:
        message += ("。" if japanese else " ") + _MENTIONS[japanese][slot]
    asker, answerer = rng.choice(_SPEAKERS[japanese])
    return Pair(asker + _fill(message, values) + answerer, gap(rng) + _fill(answer, values))


_MENTIONS = {
    False: {"{o}": "Order {o}.", "{i}": "It is the {i}.", "{p}": "I live in {p}.", "{c}": "It shows {c}."},
    True: {"{o}": "注文は{o}です", "{i}": "品は{i}です", "{p}": "{p}に住んでいます", "{c}": "{c}と出ます"},
}


def matter(rng: Random) -> Pair:
    """A customer's message and the label of its matter."""
    japanese = rng.random() < 0.5
    rows = _JAPANESE if japanese else _ENGLISH
    label = rng.choice(list(rows))
    message = _fill(_message(rng, japanese, rng.choice(rows[label][0])), _values(rng, japanese))
    heads = (
        ("分類してください: {m}\n種類:", "お客様: {m}\n用件:", "次の問い合わせの用件は?\n{m}\n答え:")
        if japanese
        else ("Classify: {m}\nLabel:", "Customer: {m}\nTopic:", "What is this message about?\n{m}\nAnswer:")
    )
    return Pair(rng.choice(heads).replace("{m}", message), gap(rng) + label)


def extract(rng: Random) -> Pair:
    """A customer's message and one or two facts that stand in it."""
    japanese = rng.random() < 0.5
    questions, _ = rng.choice(list((_JAPANESE if japanese else _ENGLISH).values()))
    values = _values(rng, japanese)
    message = _message(rng, japanese, rng.choice(questions))
    wanted = [slot for slot in values if slot in message]
    if not wanted:
        message, wanted = message + _SIGNS[japanese][1], ["{n}"]
    rng.shuffle(wanted)
    labels = _LABELS[japanese]
    chosen = wanted[: rng.choice((1, 1, 2, 3))]
    answer = ("、" if japanese else ", ").join(f"{labels[slot]}: {values[slot]}" for slot in chosen)
    asked = ("と" if japanese else " and ").join(labels[slot] for slot in chosen)
    heads = (
        ("{m}\n{q}を抜き出してください。\n", "お客様: {m}\n{q}:", "文: {m}\n質問: {q}は?\n答え:")
        if japanese
        else ("{m}\nExtract the {q}.\n", "Customer: {m}\n{q}:", "Text: {m}\nQ: What is the {q}?\nA:")
    )
    head = rng.choice(heads).replace("{q}", asked).replace("{m}", _fill(message, values))
    return Pair(head, gap(rng) + (values[chosen[0]] if len(chosen) == 1 else answer))


_LABELS = {
    False: {"{n}": "name", "{o}": "order", "{i}": "item", "{p}": "place", "{d}": "day", "{c}": "code"},
    True: {"{n}": "名前", "{o}": "注文番号", "{i}": "品物", "{p}": "場所", "{d}": "日", "{c}": "コード"},
}
