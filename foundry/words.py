"""The foundry's dictionary: small bilingual tables and everyday words. Data only; no fact about the world is in it."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part.strip() for part in cell.split("=")) for cell in text.replace("\n", " ").split(","))


def _lines(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(part.strip() for part in line.split(" = ")) for line in text.strip().split("\n"))


NOUNS = _table(
    """
    book=本, cup=カップ, chair=椅子, lamp=ランプ, camera=カメラ, bag=かばん, watch=時計, phone=電話, umbrella=傘,
    desk=机, bicycle=自転車, jacket=上着, hat=帽子, plate=皿, pen=ペン, notebook=ノート, kettle=やかん, blanket=毛布,
    pillow=枕, mirror=鏡, key=鍵, radio=ラジオ, speaker=スピーカー, keyboard=キーボード, printer=プリンター,
    guitar=ギター, toy=おもちゃ, bowl=茶碗, knife=包丁, pan=鍋, carpet=絨毯, curtain=カーテン, fan=扇風機,
    heater=ヒーター, tent=テント, rope=縄, box=箱, bottle=瓶, scarf=マフラー, glove=手袋, shoe=靴, shirt=シャツ,
    ring=指輪, map=地図, picture=絵, flower=花, candle=ろうそく, basket=かご, towel=タオル, soap=石けん, brush=ブラシ,
    ladder=はしご, table=テーブル, cable=ケーブル, battery=電池, charger=充電器, monitor=モニター, mouse=マウス,
    tablet=タブレット, suitcase=スーツケース, wallet=財布, vase=花瓶, clock=置き時計, shelf=棚, sofa=ソファー,
    bed=ベッド, rice cooker=炊飯器, headset=ヘッドセット, necklace=首飾り, apron=エプロン
    """
)

ADJECTIVES = _table(
    """
    red=赤い, blue=青い, white=白い, black=黒い, big=大きい, small=小さい, new=新しい, old=古い, heavy=重い, light=軽い,
    long=長い, short=短い, round=丸い, square=四角い, cheap=安い, expensive=高い, beautiful=美しい, strange=変な,
    quiet=静かな, famous=有名な, useful=便利な, warm=暖かい, cold=冷たい, soft=柔らかい, hard=硬い, yellow=黄色い,
    thin=薄い, thick=厚い, bright=明るい, dark=暗い
    """
)

# English infinitive, past tense, Japanese stem before ます.
VERBS = _table(
    """
    buy=bought=買い, sell=sold=売り, find=found=見つけ, lose=lost=なくし, clean=cleaned=洗い, carry=carried=運び,
    see=saw=見, make=made=作り, repair=repaired=直し, borrow=borrowed=借り, lend=lent=貸し, send=sent=送り,
    open=opened=開け, draw=drew=描き, choose=chose=選び, use=used=使い, break=broke=壊し, hide=hid=隠し,
    receive=received=受け取り, want=wanted=求め
    """
)

PLACES = _table(
    """
    Kyoto=京都, Osaka=大阪, Tokyo=東京, Nara=奈良, Sapporo=札幌, Paris=パリ, London=ロンドン, Rome=ローマ, Oslo=オスロ,
    Berlin=ベルリン, the park=公園, the library=図書館, the station=駅, the school=学校, the hospital=病院,
    the market=市場, the office=事務所, the kitchen=台所, the garden=庭, the shop=店, the hotel=ホテル,
    the airport=空港, the museum=博物館, the bank=銀行, the beach=海岸, the village=村, the bridge=橋, the river=川,
    the mountain=山, the harbor=港
    """
)

DAYS = _table(
    """
    Monday=月曜日, Tuesday=火曜日, Wednesday=水曜日, Thursday=木曜日, Friday=金曜日, Saturday=土曜日, Sunday=日曜日,
    yesterday=昨日, last week=先週, this morning=今朝
    """
)

PHRASES = _lines(
    """
    Good morning. = おはようございます。
    Good evening. = こんばんは。
    Hello. = こんにちは。
    Good night. = おやすみなさい。
    Thank you very much. = どうもありがとうございます。
    Excuse me. = すみません。
    How are you? = お元気ですか?
    I am fine. = 元気です。
    See you tomorrow. = また明日。
    Where is the station? = 駅はどこですか?
    How much is it? = いくらですか?
    I do not understand. = わかりません。
    Please wait a moment. = 少々お待ちください。
    It is raining. = 雨が降っています。
    It is hot today. = 今日は暑いです。
    What time is it? = 何時ですか?
    I am hungry. = お腹が空きました。
    I like tea. = お茶が好きです。
    Please help me. = 助けてください。
    Congratulations! = おめでとうございます!
    My name is Ken. = 私の名前はケンです。
    I live in Nara. = 奈良に住んでいます。
    The door is open. = ドアが開いています。
    Let us go together. = 一緒に行きましょう。
    This is delicious. = これは美味しいです。
    I lost my key. = 鍵をなくしました。
    Please call me later. = 後で電話してください。
    """
)

FRENCH = _lines(
    """
    Good morning. = Bonjour.
    Good evening. = Bonsoir.
    Thank you. = Merci.
    Hello, how are you? = Bonjour, comment allez-vous?
    See you soon. = À bientôt.
    Please. = S'il vous plaît.
    Yes. = Oui.
    No. = Non.
    My house is white. = Ma maison est blanche.
    The cat sleeps. = Le chat dort.
    I am tired. = Je suis fatigué.
    Where is the book? = Où est le livre?
    The water is cold. = L'eau est froide.
    I like coffee. = J'aime le café.
    Excuse me. = Excusez-moi.
    """
)

GIVEN = _words(
    """
    Mika Ken Aiko Haru Yuki Anna Ben Clara David Emma Felix Grace Henry Iris Jack Kate Leo Mia Noah Olga Paul
    Quinn Rosa Sam Tina Uma Victor Wendy Xavier Yara Zoe Omar Nadia Ivan Lucy Marco Nina Oscar Petra Rita Simon
    Tara Walter Elena Hugo Julia Karl Laura Milo Nora
    """
)

EVERYDAY = _words(
    """
    a able about above account accept across act add address after again against age ago agree air all allow
    almost alone along already also always amount an and animal another answer any app apple apply area arm around
    arrive art as ask at away baby back bad bag ball bank base be bear because become before begin behind believe
    below best better between bird birthday black blue board boat body bottom box boy branch bread bring broken
    brother brown build building burn business but buy by call can cancel car card care carry case cat cause
    center change charge check child choose city class clean clear clock close cloth cloud code coffee cold color
    come company compare complete contact contain continue control cook cool copy corner cost could country course
    cover cross cry cup customer cut daily damage dark date day dear decide deep delay deliver delivery desk
    detail did different dinner direct discount do doctor dog door down draw dream dress drink drive drop dry due
    during each early earth east easy eat effect eight email end enough enter even evening ever every example
    except expect explain eye face fact fall family far farm fast father feel few field fill final find fine
    finish fire first fish five fix floor fly follow food foot for forest forget form forward four free fresh
    friday friend from front full game garden gave get gift girl give glad glass go gold good got grass great
    green ground group grow had half hand happen happy hard has have he head hear heart heat heavy hello help her
    here high hill him his hold hole home hope horse hot hotel hour house how hundred hurt ice idea if important
    in inform inside instead into invoice is island issue it item its join just keep key kind king kitchen know
    label lake land language large last late laugh law lead leaf learn leave left leg less let letter level lid
    life light like limit line list listen little live local lock log long look lose lost lot love low lunch
    machine made mail main make man manager many map mark market match matter may me mean meet member message
    middle might mile milk mind minute miss mistake model money month moon more morning most mother mountain mouth
    move much music must my name near need never new news next nice night nine no noon north not note nothing
    notice now number of off offer office often oil old on once one online only open or orange order other our out
    outside over own owner page paint paper parcel part pass password past pay people perhaps person phone photo
    pick picture piece place plan plane plant play please point policy possible post power prepare present price
    print problem process product promise provide pull purchase push put question quick quiet quite rain ran reach
    read ready real reason receipt receive record red refund remember repair reply report request rest result
    return ribbon rice rich ride right ring river road rock room rose round rule run sad safe said sail salt same
    sand saturday save say school sea season seat second section see seem sell send sent service set seven several
    shape she shelf ship shop short should show side sign silver simple since sing sister sit site six size skin
    sky sleep slip slow small smile snow so soft some son song soon sorry sound south space speak special spell
    spend spring stamp stand star start state station status stay step stick still stone stop store story street
    strong student study such sugar summer sun sunday support sure surprise swim system table take talk tall tax
    tea teach team tell ten test than thank thanks that the their them then there these they thick thin thing
    think third this those though thousand three through ticket time to today together told tomorrow tonight too
    took top touch toward town track trade train travel tree trip truck true try turn twelve twenty two under
    understand until up update upon us use user usual valid value van very view visit voice wait walk wall want
    warm was wash watch water way we wear weather week weekend welcome well were west wet what wheel when where
    which while white who whole why wide wild will win wind window wing winter wish with within without woman wood
    word work world would write wrong yard year yellow yes yesterday yet you young your zero
    """
)
"""Common English words, for the tokenizer and as filling of invented templates."""

EVERYDAY_JAPANESE = _words(
    """
    の を に は が で も と へ や から まで より です ます でした ました します しました いたします いたしました
    ください くださいませ お願いします お願いいたします ございます ありがとうございます ありません ございません
    できます できません ですか ますか でしょうか ましたか について に関して のため ので けれど しかし また まず
    では すぐに 本日 明日 昨日 今日 今週 来月 お待ち お知らせ ご確認 ご連絡 ご利用 ご案内 ご用意 ご注文 お届け
    お支払い お手数 お客様 お名前 お品 お電話 こちら そちら どちら これ それ あれ ここ そこ どこ いつ だれ なに
    なぜ どう もう まだ とても すこし たくさん ぜんぶ です。 ます。 ました。 ません。 ください。 でしょう。
    なります。 なりました。 あります。 ありました。 います。 いました。 様 さん 番 号 円 個 日 月 年 時 分 件 枚
    本 係 店 社 会員 担当 受付 商品 荷物 番号 住所 時間 予定 連絡 確認 変更 登録 配達 発送 到着 交換 返品 返金
    在庫 保証 修理 請求 明細 領収書 画面 箱 紙 品 物 人 家 水 木 山 川 空 花 鳥 色 白い 赤い 新しい 大きな 小さな
    正しい よい 送ります 届きます 送りました 届きました 調べます 書きます 持ちます 入れます 出ます 開けます
    閉めます 使います 選びます 決めます 待ちます 思います 見ます 聞きます 話します 買います 作ります 直します
    おります おりません おりました いただきます いただけます いただきました いたしません なりません くださいました
    差し上げます 承ります 承りました お持ちします お送りします お届けします お調べします お伝えします お待ちください
    お入れください お書きください お選びください ご覧ください お越しください できました られます れます せます なら
    ました。 ましょう ません。 ませんか ながら だけ しか など ほど くらい ずつ ごと ぶり すぐ いつも ときどき ちょうど
    どうぞ ぜひ さっそく あらためて もう一度 はい いいえ そして または ただし もし たとえば ありがとう ごめんなさい
    付き 付けました 替えました 戻ります 戻しました 止めました 並びます 貼り 添え 直して 入れて 書いて 送って 待って
    無料 有料 有効 来春 今朝 毎日 月末 週末 営業日 夜 昼 朝 前 後 上 下 中 外 右 左 東 西 南 北 春 夏 秋 冬
    口座 伝票 札 記録 合図 鍵 扉 窓 机 壁 屋根 庭 枝 葉 羽 巣 実 種 草 石 火 光 音 声 心 手 足 目 耳 口
    一 二 三 四 五 六 七 八 九 十 百 千
    """
)
"""Common Japanese words and endings, for the same."""
