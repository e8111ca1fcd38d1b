"""The foundry's dictionary: small bilingual word lists and the drawing of invented names, numbers and words.

Data and draws only. It knows no task; nothing in it is a fact about the world.
"""

from random import Random

from foundry.kanji import KANJI

NOUNS = (
    ("book", "本"), ("cup", "カップ"), ("chair", "椅子"), ("lamp", "ランプ"), ("camera", "カメラ"), ("bag", "かばん"), ("watch", "時計"),
    ("phone", "電話"), ("umbrella", "傘"), ("desk", "机"), ("bicycle", "自転車"), ("jacket", "上着"), ("hat", "帽子"), ("plate", "皿"),
    ("pen", "ペン"), ("notebook", "ノート"), ("kettle", "やかん"), ("blanket", "毛布"), ("pillow", "枕"), ("mirror", "鏡"), ("key", "鍵"),
    ("radio", "ラジオ"), ("speaker", "スピーカー"), ("keyboard", "キーボード"), ("printer", "プリンター"), ("guitar", "ギター"),
    ("toy", "おもちゃ"), ("bowl", "茶碗"), ("knife", "包丁"), ("pan", "鍋"), ("carpet", "絨毯"), ("curtain", "カーテン"), ("fan", "扇風機"),
    ("heater", "ヒーター"), ("tent", "テント"), ("rope", "縄"), ("box", "箱"), ("bottle", "瓶"), ("scarf", "マフラー"), ("glove", "手袋"),
    ("shoe", "靴"), ("shirt", "シャツ"), ("ring", "指輪"), ("map", "地図"), ("picture", "絵"), ("flower", "花"), ("candle", "ろうそく"),
    ("basket", "かご"), ("towel", "タオル"), ("soap", "石けん"), ("brush", "ブラシ"), ("ladder", "はしご"), ("table", "テーブル"),
    ("cable", "ケーブル"), ("battery", "電池"), ("charger", "充電器"), ("monitor", "モニター"), ("mouse", "マウス"), ("tablet", "タブレット"),
    ("suitcase", "スーツケース"), ("wallet", "財布"), ("vase", "花瓶"), ("clock", "置き時計"), ("shelf", "棚"), ("sofa", "ソファー"),
    ("bed", "ベッド"), ("rice cooker", "炊飯器"), ("headset", "ヘッドセット"), ("necklace", "首飾り"), ("apron", "エプロン"),
)  # fmt: skip

ADJECTIVES = (
    ("red", "赤い"), ("blue", "青い"), ("white", "白い"), ("black", "黒い"), ("big", "大きい"), ("small", "小さい"), ("new", "新しい"),
    ("old", "古い"), ("heavy", "重い"), ("light", "軽い"), ("long", "長い"), ("short", "短い"), ("round", "丸い"), ("square", "四角い"),
    ("cheap", "安い"), ("expensive", "高い"), ("beautiful", "美しい"), ("strange", "変な"), ("quiet", "静かな"), ("famous", "有名な"),
    ("useful", "便利な"), ("warm", "暖かい"), ("cold", "冷たい"), ("soft", "柔らかい"), ("hard", "硬い"), ("yellow", "黄色い"),
    ("thin", "薄い"), ("thick", "厚い"), ("bright", "明るい"), ("dark", "暗い"),
)  # fmt: skip

# English infinitive, past tense, Japanese stem before ます.
VERBS = (
    ("buy", "bought", "買い"), ("sell", "sold", "売り"), ("find", "found", "見つけ"), ("lose", "lost", "なくし"), ("clean", "cleaned", "洗い"),
    ("carry", "carried", "運び"), ("see", "saw", "見"), ("make", "made", "作り"), ("repair", "repaired", "直し"), ("borrow", "borrowed", "借り"),
    ("lend", "lent", "貸し"), ("send", "sent", "送り"), ("open", "opened", "開け"), ("draw", "drew", "描き"), ("choose", "chose", "選び"),
    ("use", "used", "使い"), ("break", "broke", "壊し"), ("hide", "hid", "隠し"), ("receive", "received", "受け取り"), ("want", "wanted", "求め"),
)  # fmt: skip

PLACES = (
    ("Kyoto", "京都"), ("Osaka", "大阪"), ("Tokyo", "東京"), ("Nara", "奈良"), ("Sapporo", "札幌"), ("Paris", "パリ"), ("London", "ロンドン"),
    ("Rome", "ローマ"), ("Oslo", "オスロ"), ("Berlin", "ベルリン"), ("the park", "公園"), ("the library", "図書館"), ("the station", "駅"),
    ("the school", "学校"), ("the hospital", "病院"), ("the market", "市場"), ("the office", "事務所"), ("the kitchen", "台所"),
    ("the garden", "庭"), ("the shop", "店"), ("the hotel", "ホテル"), ("the airport", "空港"), ("the museum", "博物館"), ("the bank", "銀行"),
    ("the beach", "海岸"), ("the village", "村"), ("the bridge", "橋"), ("the river", "川"), ("the mountain", "山"), ("the harbor", "港"),
)  # fmt: skip

DAYS = (
    ("Monday", "月曜日"), ("Tuesday", "火曜日"), ("Wednesday", "水曜日"), ("Thursday", "木曜日"), ("Friday", "金曜日"),
    ("Saturday", "土曜日"), ("Sunday", "日曜日"), ("yesterday", "昨日"), ("last week", "先週"), ("this morning", "今朝"),
)  # fmt: skip

PHRASES = (
    ("Good morning.", "おはようございます。"), ("Good evening.", "こんばんは。"), ("Hello.", "こんにちは。"), ("Good night.", "おやすみなさい。"),
    ("Thank you very much.", "どうもありがとうございます。"), ("Excuse me.", "すみません。"), ("How are you?", "お元気ですか?"),
    ("I am fine.", "元気です。"), ("See you tomorrow.", "また明日。"), ("Where is the station?", "駅はどこですか?"), ("How much is it?", "いくらですか?"),
    ("I do not understand.", "わかりません。"), ("Please wait a moment.", "少々お待ちください。"), ("It is raining.", "雨が降っています。"),
    ("It is hot today.", "今日は暑いです。"), ("What time is it?", "何時ですか?"), ("I am hungry.", "お腹が空きました。"), ("I like tea.", "お茶が好きです。"),
    ("Please help me.", "助けてください。"), ("Congratulations!", "おめでとうございます!"), ("My name is Ken.", "私の名前はケンです。"),
    ("I live in Nara.", "奈良に住んでいます。"), ("The door is open.", "ドアが開いています。"), ("Let us go together.", "一緒に行きましょう。"),
    ("This is delicious.", "これは美味しいです。"), ("I lost my key.", "鍵をなくしました。"), ("Please call me later.", "後で電話してください。"),
)  # fmt: skip

FRENCH = (
    ("Good morning.", "Bonjour."), ("Good evening.", "Bonsoir."), ("Thank you.", "Merci."), ("Hello, how are you?", "Bonjour, comment allez-vous?"),
    ("See you soon.", "À bientôt."), ("Please.", "S'il vous plaît."), ("Yes.", "Oui."), ("No.", "Non."), ("My house is white.", "Ma maison est blanche."),
    ("The cat sleeps.", "Le chat dort."), ("I am tired.", "Je suis fatigué."), ("Where is the book?", "Où est le livre?"),
    ("The water is cold.", "L'eau est froide."), ("I like coffee.", "J'aime le café."), ("Excuse me.", "Excusez-moi."),
)  # fmt: skip

GIVEN = (
    "Mika", "Ken", "Aiko", "Haru", "Yuki", "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo",
    "Mia", "Noah", "Olga", "Paul", "Quinn", "Rosa", "Sam", "Tina", "Uma", "Victor", "Wendy", "Xavier", "Yara", "Zoe", "Omar", "Nadia", "Ivan",
    "Lucy", "Marco", "Nina", "Oscar", "Petra", "Rita", "Simon", "Tara", "Walter", "Elena", "Hugo", "Julia", "Karl", "Laura", "Milo", "Nora",
)  # fmt: skip

_ONSETS = (
    "b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kr pl pr qu sh sk sl sn sp st str sw th tr tw wh kn sch y"
).split()
_VOWELS = "a e i o u a e i o ai ea ee ie oa oo ou au ei y".split()
_CODAS = [
    "",
    "",
    "",
    *"b ck d f g l ll m n nd ng nk nt p r rd rk rn rt s ss st t th x z son man ley ton field ez ski sen berg".split(),
]
_KANA = (
    "ア イ ウ エ オ カ キ ク ケ コ サ シ ス セ ソ タ チ ツ テ ト ナ ニ ヌ ネ ノ ハ ヒ フ ヘ ホ マ ミ ム メ モ ヤ ユ ヨ "
    "ラ リ ル レ ロ ワ ン ガ ギ グ ゴ ザ ジ ズ ダ デ ド バ ビ ブ ベ ボ パ ピ プ ペ ポ キャ シュ ショ チェ ジョ フィ ー ッ"
).split()
_HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをんがぎぐげござじずぜぞだでどばびぶべぼ"
_SYMBOLS = "!#$%&*+-/=@^_~|<>?:;☀★♪♥→←○●□■△▲※〒¥€£°±×÷"
_RARE = "éüñçßøåžłığαβγδλπωжяюфشمعלאगन한글國體龍鷗驛髙﨑𠮟😀🎉🚀🐱🍣👍🏽✈️"


def number(rng: Random, low: int = 1, high: int = 8) -> str:
    """Draw a decimal number of `low` to `high` digits; the first is not 0 unless it is the only one."""
    length = rng.randint(low, high)
    first = rng.choice("123456789")
    return first + "".join(rng.choice("0123456789") for _ in range(length - 1))


def code(rng: Random) -> str:
    """Draw a reference such as `KX-4821`, `7Q2-R` or `TR.903`."""
    shapes = (
        "AA-9999",
        "A99-A",
        "AAA999",
        "9A9-99",
        "AA.999",
        "A-99999",
        "99/AA/9",
        "AAAA_99",
        "A9A9A9",
        "#99999",
        "AAAA-9999",
        "A99999-A",
        "AA-99999",
        "AAA-99999",
    )
    letters, digits = "ABCDEFGHJKLMNPQRSTUVWXYZ", "0123456789"
    return "".join(
        rng.choice(letters) if c == "A" else rng.choice(digits) if c == "9" else c for c in rng.choice(shapes)
    )


def invented(rng: Random) -> str:
    """Draw a pronounceable lower-case word that most likely does not exist."""
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_VOWELS) + (rng.choice(_CODAS) if last else "")
        for last in ([False] * rng.choice((0, 1, 1, 1, 2)) + [True])
    )


def latin_name(rng: Random) -> str:
    """Draw a capitalised name, mostly invented, sometimes of two words."""
    shape = rng.random()
    if shape < 0.2:
        return rng.choice(GIVEN)
    first = invented(rng).capitalize()
    if shape < 0.3:
        return f"{rng.choice(GIVEN)} {first}"
    return first


def kanji(rng: Random, low: int, high: int) -> str:
    """Draw `low` to `high` everyday kanji, each as likely as any other."""
    return "".join(rng.choice(KANJI) for _ in range(rng.randint(low, high)))


def katakana(rng: Random) -> str:
    """Draw an invented word in katakana."""
    word = "".join(rng.choice(_KANA) for _ in range(rng.randint(2, 5)))
    return word.lstrip("ーッン") or "アミ"


def japanese_name(rng: Random) -> str:
    """Draw a name as Japanese texts write them: two kanji mostly, else one, three or four, or katakana."""
    shape = rng.random()
    if shape < 0.12:
        return katakana(rng)
    return kanji(rng, *((2, 2) if shape < 0.7 else (1, 1) if shape < 0.78 else (3, 3) if shape < 0.92 else (4, 4)))


def scrap(rng: Random) -> str:
    """Draw one short thing to copy: anything from a word to a run of symbols or rare characters."""
    kind = rng.randrange(10)
    if kind == 0:
        return number(rng)
    if kind == 1:
        return code(rng)
    if kind == 2:
        return invented(rng)
    if kind == 3:
        return latin_name(rng)
    if kind == 4:
        return kanji(rng, 1, 4)
    if kind == 5:
        return katakana(rng)
    if kind == 6:
        return "".join(rng.choice(_HIRAGANA) for _ in range(rng.randint(1, 5)))
    if kind == 7:
        return "".join(rng.choice(_SYMBOLS) for _ in range(rng.randint(1, 3)))
    if kind == 8:
        return "".join(rng.choice(_RARE) for _ in range(rng.randint(1, 2)))
    noun = rng.choice(NOUNS)
    return rng.choice(noun)
