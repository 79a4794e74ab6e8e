"""Names in the code page of somebody's Windows, told by what text they make."""

import pytest

from data_store import encodings

WORDS = {
    "gb18030": [
        ["猫/1.jpg", "狗/2.jpg"],
        ["猫"],
        ["鸟", "鱼"],
        ["玫瑰", "郁金香", "photo"],
        ["训练/猫", "测试/狗"],
        ["新建文件夹/苹果", "香蕉"],
        ["图片（1）"],
    ],
    "cp932": [
        ["猫/1.jpg", "犬/2.jpg"],
        ["人"],
        ["表/1.jpg", "山"],  # 表 has a backslash for its second byte
        ["ねこ", "イヌ"],
        ["新しいフォルダー/りんご"],
        ["日本", "花", "photo"],
    ],
    "cp950": [
        ["貓/1.jpg", "狗/2.jpg", "鳥"],
        ["飛機", "汽車", "鹿", "馬", "船"],
        ["訓練/蘋果", "測試/香蕉"],
        ["新增資料夾/玫瑰", "photo"],
    ],
    "cp949": [
        ["고양이/1.jpg", "강아지/2.jpg", "새"],
        ["비행기", "자동차", "사슴", "개구리", "말", "배"],
        ["새 폴더/사과", "바나나", "photo"],
    ],
    "cp437": [
        ["Müller/1.jpg"],
        ["camión", "niño"],
        ["naïve"],
        ["café", "thé"],
        ["Ärger", "über"],
        ["piñata"],
    ],
    "utf-8": [
        ["猫/1.jpg"],
        ["犬"],
        ["été"],
        ["Müller"],
        ["cafe\u0301"],  # as macOS writes it
        ["кошка", "собака"],
        ["γάτα"],
        ["고양이"],
        ["แมว"],
        ["chó", "mèo"],
        ["😀"],
    ],
}
CASES = [(encoding, words) for encoding, sets in WORDS.items() for words in sets]


@pytest.mark.parametrize(("encoding", "words"), CASES)
def test_the_encoding_is_told_by_the_names(encoding: str, words: list[str]) -> None:
    assert encodings.guess([word.encode(encoding) for word in words]) == encoding


def test_few_syllables_are_no_proof_of_korean() -> None:
    assert encodings.guess([word.encode("gb18030") for word in ("猫", "狗", "鸡")]) == "gb18030"
    assert encodings.guess(["개".encode("cp949")]) == "gb18030"


def test_all_names_decide_together() -> None:
    # 猫 alone is è in UTF-8, and 雪 is ﾑｩ in Shift-JIS; 狗 is no UTF-8.
    names = [word.encode("gb18030") for word in ("猫/1.jpg", "雪/1.jpg", "狗/1.jpg")]

    assert encodings.guess(names) == "gb18030"


def test_what_is_none_of_them_is_read_all_the_same() -> None:
    raw = b"\x81\xff \x85\x01/1.jpg"

    assert raw.decode(encodings.guess([raw])).endswith("/1.jpg")
