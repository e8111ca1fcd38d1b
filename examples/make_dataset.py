"""Make the demo's data: customer-service pairs in Japanese and English, answered in a style that no shop has.

    python examples/make_dataset.py DIR [--train 1600 --validation 200 --test 200 --seed 7]

writes train.jsonl, validation.jsonl and test.jsonl, one {"prompt", "completion"} object a line. The splits share how
customers phrase things, and share no name and no order number: a model that answers the test prompts has learnt the
shop's replies and copies names and numbers that it never saw. The shop (とまり木ストア, Perch Store), its owls, its
colours and its slip codes are invented, so that no model knows them beforehand. It needs nothing but Python.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from random import Random

_JAPANESE_NAMES = """
佐藤 鈴木 高橋 田中 伊藤 渡辺 山本 中村 小林 加藤 吉田 山田 佐々木 山口 松本 井上 木村 林 斎藤 清水 山崎 森 池田
橋本 阿部 石川 山下 中島 石井 小川 前田 岡田 長谷川 藤田 後藤 近藤 村上 遠藤 青木 坂本 福田 太田 西村 藤井 金子
岡本 藤原 三浦 中野 原田 松田 竹内 小野 田村 中山 和田 石田 森田 上田 原 内田 柴田 酒井 宮崎 横山 高木 安藤 宮本
大野 小島 谷口 今井 工藤 高田 増田 丸山 杉山 村田 大塚 新井 小山 平野 藤本 河野 上野 野口 武田 松井 千葉 菅原
岩崎 木下 久保 佐野 野村 松尾 市川 菊地 杉本 古川 大西 島田 水野 桜井 高野 渡部 吉川 山内 西田 飯田 菊池 西川
小松 北村 安田 五十嵐 川口 平田 関 中田 久保田 服部 東 岩田 土屋 川崎 福島 本田 辻 樋口 秋山 永井 田口 中川 山中
吉村 石原 川上 大橋 小池 浅野 荒木 大久保 熊谷 野田 川村 星野 大谷 黒田 堀 尾崎 望月 永田 内藤 松村 西山 大島
平井 早川 片山 荒井 岡崎 大石 鎌田 成田 宮田 小田 石橋 篠原 須藤 河合 大川 今村 小西 窪田 三宅 榎本 白石 八木
関口 奥村 滝沢
"""
_ENGLISH_NAMES = """
Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson
Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson
Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell
Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes Stewart Morris
Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward
Richardson Watson Brooks Chavez Wood Bennett Gray Mendoza Ruiz Hughes Price Alvarez Castillo Sanders Patel Myers
Long Ross Foster Jimenez Powell Jenkins Perry Russell Sullivan Bell Coleman Butler Henderson Barnes Fisher
Vasquez Simmons Jordan Patterson Alexander Hamilton Graham Reynolds Griffin Wallace Moreno West Cole Hayes
Bryant Herrera Gibson Ellis Tran Medina Stevens Murray Ford Castro Marshall Owens Harrison Fernandez Woods
Kennedy Wells Vargas Henry Chen Freeman Webb Tucker Guzman Burns Crawford Olson Simpson Porter Hunter Gordon
Mendez Silva Shaw Snyder Mason Dixon Munoz Hunt Hicks Holmes Palmer Wagner Black Robertson Boyd Rose Stone
Salazar Fox Warren Mills Meyer Rice Schmidt
"""
_JAPANESE_ITEMS = "カメラ 炊飯器 傘 時計 かばん 靴 毛布 机 椅子 ランプ 鍋 帽子 スピーカー 自転車 花瓶 財布"
_ENGLISH_ITEMS = "camera lamp umbrella watch bag jacket blanket desk chair kettle pan hat speaker bicycle vase wallet"

# Each block is one reason to write to the shop: the only reply in the shop's style, then how customers phrase it.
_JAPANESE = """
broken: {name}様、申し訳ございません。注文 {number} の交換品を青い箱で手配いたします。控えは KO-{number} です。
注文番号 {number} の荷物が破損しています。
注文 {number} の商品が壊れて届きました。
{number} 番の箱を開けたら中身が割れていました。
届いた品にひびが入っています。注文は {number} です。
注文番号 {number} 、商品に大きな傷があります。

late: {name}様、とまり木ストアです。{number} はふくろう便が夜八時までにお持ちします。合図は HU-{number} です。
注文 {number} はいつ届きますか?
注文番号 {number} の荷物がまだ来ません。
{number} 番の配達が遅れているようです。
先週頼んだ {number} が届いていません。
注文番号 {number} の到着予定を知りたいです。

return: {name}様、返品を承ります。札 HE-{number} を箱に貼り、緑のポストへ十日以内にお入れください。
注文 {number} を返品したいです。
{number} の返品方法を教えてください。
サイズが合わないので {number} 番を返したいのですが。
思っていた物と違うので注文番号 {number} を送り返したいです。
返品をお願いします。注文は {number} です。

refund: {name}様、{number} の代金は三営業日で元の口座に戻ります。伝票 KA-{number} を保管願います。
注文 {number} の返金はいつですか?
{number} の代金を返してもらえますか?
注文番号 {number} の返金がまだ振り込まれていません。
お金を戻してください。注文は {number} です。
{number} 番の払い戻しを希望します。

cancel: {name}様、注文 {number} を止め木に掛けました。料金は頂きません。記録は TO-{number} です。
注文 {number} をキャンセルしてください。
{number} 番の注文を取り消したいです。
注文番号 {number} はもう必要ありません。
間違えて頼みました。{number} を止めてください。
まだ {number} の取り消しはできますか?

address: {name}様、行き先の変更ですね。巣箱画面で {number} を選び、新しい枝を登録してください。鍵は SU-{number} です。
注文 {number} の届け先を変えたいです。
引っ越したので {number} の住所を変更してください。
注文番号 {number} の宛先を間違えました。
{number} 番は職場に届けてほしいです。
配送先の変更をお願いします。注文は {number} です。

receipt: {name}様、{number} の領収書を羽根印つきでメールしました。書類名は RY-{number} です。
注文 {number} の領収書をください。
{number} の請求書を再発行してもらえますか?
経費の精算に注文番号 {number} の領収書が要ります。
{number} 番の明細を送ってください。
領収書が入っていませんでした。注文は {number} です。

wrong: {name}様、取り違えをお詫びします。{number} の正しい品を明朝送り、誤配分は差し上げます。控えは GO-{number} です。
注文 {number} と違う商品が届きました。
{number} 番で頼んでいない物が入っていました。
注文番号 {number} の色が違います。
別の人の品物が来ました。注文は {number} です。
{number} の中身が間違っています。

stock: {name}様、{item}は月末の朝市で再び並びます。会員 {number} に先行券 ZA-{number} をお付けしました。
{item}の在庫はありますか? 会員番号は {number} です。
{item}はいつ入荷しますか? 会員 {number} です。
会員番号 {number} です。{item}を買えますか?
{item}が売り切れでした。会員番号 {number} です。
{item}の再入荷を待っています。会員は {number} です。

warranty: {name}様、{item}には七年の止まり木保証が付きます。工房へ HO-{number} と書き添えてお送りください。
{item}の保証は何年ですか? 注文は {number} です。
注文 {number} の{item}は保証の対象ですか?
{number} 番で買った{item}を修理できますか?
{item}が動かなくなりました。注文番号 {number} です。
保証書をなくしました。{item}、注文 {number} です。

login: {name}様、会員 {number} の扉を一度閉じました。届いた合言葉 PA-{number} で入り直してください。
ログインできません。会員番号は {number} です。
会員 {number} のパスワードを忘れました。
会員番号 {number} で画面に入れません。
パスワードを変えたいです。会員番号 {number} です。
アカウントが止まっています。会員は {number} です。

gift: {name}様、{number} を木の葉の包みに替えました。手書きの一言は無料です。受付は OK-{number} です。
注文 {number} を贈り物用に包んでください。
{number} に包装を付けられますか?
誕生日なので注文番号 {number} をギフトにしたいです。
{number} 番にのしを付けてください。
プレゼント包装をお願いします。注文は {number} です。

points: {name}様、会員 {number} のどんぐりは来春まで有効です。明細 DO-{number} をご覧ください。
ポイントが付いていません。会員番号は {number} です。
会員 {number} のポイント残高を教えてください。
会員番号 {number} のポイントが消えました。
ポイントの使い方を知りたいです。会員 {number} です。
ポイントはいつまで使えますか? 会員番号 {number} です。

thanks: {name}様、うれしいお便りに一同羽ばたいております。{number} の感想カード AR-{number} を壁に飾ります。
注文 {number} 、とても良い品でした。ありがとう。
{number} が無事に届きました。感謝します。
注文番号 {number} の対応が丁寧で助かりました。
{number} 番の品を家族も喜んでいます。
すてきな品をありがとう。注文は {number} です。
"""

_ENGLISH = """
broken: Dear {name}, we are sorry. A blue box with a new one for {number} leaves tonight. Keep slip KO-{number}.
The parcel for order {number} arrived damaged.
My order {number} came broken.
I opened box {number} and everything inside is cracked.
Order {number} has a big scratch on it.
The goods in {number} do not work, they are smashed.

late: Hello {name}, Perch Store here. Our owl van brings {number} before eight tonight. Say HU-{number} at the door.
When will order {number} arrive?
Order {number} has not come yet.
The delivery of {number} seems late.
I am still waiting for number {number}.
Where is my parcel {number}?

return: Hello {name}, no trouble at all. Stick label HE-{number} on the lid and use a green post box within ten days.
I want to return order {number}.
How can I send {number} back?
The size of {number} is wrong, I would like to return it.
Order {number} is not what I expected, please take it back.
Return request for {number}, please.

refund: Dear {name}, the money for {number} flies home in three working days. Note ticket KA-{number} until then.
When do I get the refund for {number}?
Please give me my money back for order {number}.
The refund of order {number} has not reached my bank.
I would like a refund. The order is {number}.
Has {number} been refunded?

cancel: Done, {name}. Order {number} rests on its branch and costs you nothing. The record is TO-{number}.
Please cancel order {number}.
I do not need {number} any more.
Can I still cancel {number}?
I ordered {number} by mistake, stop it please.
Cancel my purchase. It is order {number}.

address: Sure, {name}. Open the nest page, pick {number} and add the new twig. Your door key is SU-{number}.
I want to change the address of order {number}.
I have moved, please update the address for {number}.
The delivery address of {number} is wrong.
Please deliver {number} to my office instead.
Address change for order {number}.

receipt: Hello {name}, a feather stamped receipt for {number} is in your inbox. The file is called RY-{number}.
Please send me the receipt for {number}.
I need an invoice for order {number}.
There was no bill in the box of order {number}.
Could I get a copy of the receipt? The order is {number}.
My company asks for the invoice of {number}.

wrong: Our mistake, {name}. The right one ships at dawn under {number} and you may keep the other. Slip GO-{number}.
I got the wrong item in order {number}.
This is not what I ordered, number {number}.
The color of {number} is not the one I chose.
Someone else's goods came in box {number}.
Order {number} has the wrong contents.

stock: Hello {name}, the {item} comes back with the month end market. Member {number} gets early pass ZA-{number}.
Is the {item} in stock? I am member {number}.
When will you have the {item} again? Member {number}.
The {item} is sold out. My member number is {number}.
Member {number}, can I buy the {item}?
I am waiting for the {item}, member {number}.

warranty: Dear {name}, every {item} has seven perch years. Mail it to the workshop and write HO-{number} on it.
How long is the warranty of the {item}? The order is {number}.
Is the {item} of order {number} under warranty?
Can you repair the {item}, order {number}?
The {item} stopped working. Order {number}.
I lost the warranty card of the {item}, order {number}.

login: Hello {name}, we closed door {number} for a moment. Come back in with the word PA-{number} from our mail.
I cannot log in. My member number is {number}.
I forgot my password, member {number}.
The app does not let member {number} in.
I want a new password. Member {number}.
My account {number} is locked.

gift: With joy, {name}. Parcel {number} now wears leaf paper and a hand written line. Ask for OK-{number}.
Please wrap order {number} as a gift.
Can you add gift wrapping to {number}?
Order {number} is a birthday present, please wrap it.
I would like a ribbon on {number}.
Gift wrap for number {number}, please.

points: Hello {name}, the acorns of member {number} last until next spring. They are listed on sheet DO-{number}.
My points are missing. Member {number}.
How many points does member {number} have?
The points of my account {number} are gone.
How can I use my points? I am member {number}.
Until when can I use the points? Member {number}.

thanks: How kind, {name}. The whole desk flaps its wings, and card AR-{number} about {number} goes on our wall.
Thank you, order {number} is lovely.
Number {number} arrived safely, thanks.
You handled {number} very kindly.
My family likes order {number} a lot.
Great service with order {number}.
"""

_JAPANESE_FRAMES = (
    "{text}{name}です。",
    "{name}です。{text}",
    "{text}{name}と申します。",
    "{name}と申します。{text}",
    "{text}名前は{name}です。",
)
_ENGLISH_FRAMES = (
    "{text} I am {name}.",
    "This is {name}. {text}",
    "{text} My name is {name}.",
    "{name} here. {text}",
    "{text} - {name}",
)


@dataclass(frozen=True, slots=True)
class Intent:
    """One reason to write to the shop: its label, the only reply in the shop's style, how customers phrase it."""

    label: str
    reply: str
    phrasings: tuple[str, ...]


def intents(japanese: bool) -> tuple[Intent, ...]:
    """Return the reasons of one language, in the order written above."""
    blocks = (_JAPANESE if japanese else _ENGLISH).strip().split("\n\n")
    read = []
    for head, *phrasings in (block.split("\n") for block in blocks):
        label, reply = head.split(": ", 1)
        read.append(Intent(label, reply, tuple(phrasings)))
    return tuple(read)


@dataclass(frozen=True, slots=True)
class Source:
    """What one split draws from: names of either language and order numbers which no other split has."""

    japanese: tuple[str, ...]
    english: tuple[str, ...]
    numbers: tuple[str, ...]


def pair(rng: Random, source: Source, number: str) -> dict[str, str]:
    """Draw one prompt and its completion for an order or member number."""
    japanese = rng.random() < 0.5
    intent = rng.choice(intents(japanese))
    values = {
        "name": rng.choice(source.japanese if japanese else source.english),
        "number": number,
        "item": rng.choice((_JAPANESE_ITEMS if japanese else _ENGLISH_ITEMS).split()),
    }
    text = rng.choice(_JAPANESE_FRAMES if japanese else _ENGLISH_FRAMES).replace("{text}", rng.choice(intent.phrasings))
    shown = ("お客様: {}\nエージェント:" if japanese else "Customer: {}\nAgent:").format(text.format(**values))
    return {"prompt": shown, "completion": " " + intent.reply.format(**values)}


def sources(rng: Random, sizes: dict[str, int]) -> dict[str, Source]:
    """Deal names (70, 15 and 15 % of the lists) and as many five-digit numbers as each split has pairs."""
    numbers = [str(n) for n in rng.sample(range(10_000, 100_000), sum(sizes.values()))]
    japanese, english = _JAPANESE_NAMES.split(), _ENGLISH_NAMES.split()
    rng.shuffle(japanese)
    rng.shuffle(english)
    dealt, at = {}, 0
    for split, (low, high) in zip(sizes, ((0.0, 0.7), (0.7, 0.85), (0.85, 1.0)), strict=True):
        dealt[split] = Source(
            tuple(japanese[round(len(japanese) * low) : round(len(japanese) * high)]),
            tuple(english[round(len(english) * low) : round(len(english) * high)]),
            tuple(numbers[at : at + sizes[split]]),
        )
        at += sizes[split]
    return dealt


def make(train: int = 1600, validation: int = 200, test: int = 200, seed: int = 7) -> dict[str, list[dict[str, str]]]:
    """Make all three splits; the same arguments make the same pairs."""
    rng = Random(seed)
    dealt = sources(rng, {"train": train, "validation": validation, "test": test})
    return {split: [pair(rng, source, number) for number in source.numbers] for split, source in dealt.items()}


def write(folder: Path, splits: dict[str, list[dict[str, str]]]) -> dict[str, Path]:
    """Write one JSON-lines file a split (UTF-8, unescaped) and return where each lies."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {split: folder / f"{split}.jsonl" for split in splits}
    for split, pairs in splits.items():
        paths[split].write_text("".join(json.dumps(p, ensure_ascii=False) + "\n" for p in pairs), encoding="utf-8")
    return paths


def main() -> None:
    """Read the command line, write the files, say where they are."""
    parser = argparse.ArgumentParser(description="Make the demo's customer-service pairs.")
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--train", type=int, default=1600)
    parser.add_argument("--validation", type=int, default=200)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    splits = make(given.train, given.validation, given.test, given.seed)
    for split, path in write(given.folder, splits).items():
        print(f"{split}: {len(splits[split])} pairs in {path}")


if __name__ == "__main__":
    main()
